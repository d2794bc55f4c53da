"""A user's own back end, named ``module:function``.

The name may stand for

- a function ``(fixed: RegistrationImage, moving: RegistrationImage) -> Registration | Transform``,
- a function or class that takes no arguments and returns a back end (an object with ``register``),
- or a back end itself.

A transform is any object with ``fixed_to_moving`` and ``moving_to_fixed``, both on points (N, 3) in LPS mm;
the fixed scan is the follow-up. Modules of the current directory can be imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ...case.geometry import FloatArray, Geometry
from ...errors import InputError, LongilesionError, one_line
from ...extensions import load_object
from . import Backend, Registration, RegistrationImage, Transform
from .similarity import given_registration

_EXPECTED = (
    "a function (fixed, moving) that returns a registration or a transform, "
    "or one without arguments that returns a back end"
)


def custom_backend(name: str) -> Backend:
    """The user's back end of a name ``module:function``, its answers checked.

    Raises:
        InputError: the module cannot be imported, has no such object, or it is nothing of the above.
    """
    found = load_object(name, _EXPECTED)
    if not inspect.isclass(found) and hasattr(found, "register"):
        return _Custom(name, found.register)
    if not callable(found):
        raise InputError(f"{name}: is a {type(found).__name__}; expected {_EXPECTED}")
    wanted = _required_arguments(found)
    if wanted == 2:
        return _Custom(name, found)
    if wanted != 0:
        raise InputError(f"{name}: needs {wanted} arguments; expected {_EXPECTED}")
    made = _called(name, found)
    if not callable(getattr(made, "register", None)):
        raise InputError(f"{name}: returned a {type(made).__name__} without 'register'; expected {_EXPECTED}")
    return _Custom(name, made.register)


class _Custom:
    """Calls the user's code and trusts nothing that comes back."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """The user's answer for this pair; InputError where it failed or makes no sense."""
        answer = _called(self._name, self._function, fixed, moving)
        transform = answer.transform if isinstance(answer, Registration) else answer
        self._check(transform, fixed.geometry, moving.geometry)
        return answer if isinstance(answer, Registration) else given_registration(transform, fixed, moving)

    def _check(self, transform: Transform, fixed: Geometry, moving: Geometry) -> None:
        """Both directions must take the corners of a scan, or no points at all, to as many finite points."""
        for direction, geometry in (("fixed_to_moving", fixed), ("moving_to_fixed", moving)):
            function = getattr(transform, direction, None)
            if not callable(function):
                kind = type(transform).__name__
                raise InputError(
                    f"{self._name}: returned a {kind} without {direction!r}; expected {_EXPECTED}"
                )
            for points in (_corners_mm(geometry), np.empty((0, 3))):
                moved = _called(f"{self._name}: {direction}", function, points)
                if not _is_finite(moved, points.shape):
                    raise InputError(
                        f"{self._name}: {direction} of {len(points)} points gave something else; "
                        f"expected finite numbers of shape {points.shape}"
                    )


def _required_arguments(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # functions in C may have no signature
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return 2
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _called(name: str, function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return function(*arguments)
    except (LongilesionError, MemoryError):
        raise
    except Exception as error:  # a user's function may fail in any way
        raise InputError(
            f"{name}: failed with {type(error).__name__} ({one_line(error)}); expected a registration"
        ) from error


def _corners_mm(geometry: Geometry) -> FloatArray:
    return geometry.voxel_to_world(np.asarray(list(np.ndindex(2, 2, 2))) * np.subtract(geometry.size_xyz, 1))


def _is_finite(points: object, shape: tuple[int, ...]) -> bool:
    try:
        values = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        return False
    return values.shape == shape and bool(np.isfinite(values).all())
