"""A user's own back end, named ``module:function``.

The name may refer to

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
    """Load the user's back end ``module:function``; its results are checked on each call.

    Raises:
        InputError: the module cannot be imported, or the object is missing or of none of the kinds above.
    """
    loaded = load_object(name, _EXPECTED)
    if not inspect.isclass(loaded) and hasattr(loaded, "register"):
        return _Custom(name, loaded.register)
    if not callable(loaded):
        raise InputError(f"{name}: is a {type(loaded).__name__}; expected {_EXPECTED}")
    required = _required_arguments(loaded)
    if required == 2:
        return _Custom(name, loaded)
    if required != 0:
        raise InputError(f"{name}: needs {required} arguments; expected {_EXPECTED}")
    method = _call(name, loaded)
    if not callable(getattr(method, "register", None)):
        raise InputError(
            f"{name}: returned a {type(method).__name__} without 'register'; expected {_EXPECTED}"
        )
    return _Custom(name, method.register)


class _Custom:
    """Calls the user's code and checks its results."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Run the user's function; see `Backend.register`.

        Raises:
            InputError: it fails or returns no valid transform.
        """
        result = _call(self._name, self._function, fixed, moving)
        transform = result.transform if isinstance(result, Registration) else result
        self._check(transform, fixed.geometry, moving.geometry)
        return result if isinstance(result, Registration) else given_registration(transform, fixed, moving)

    def _check(self, transform: Transform, fixed: Geometry, moving: Geometry) -> None:
        """Both directions must map the corners of a scan to finite points, and an empty array to one."""
        for direction, geometry in (("fixed_to_moving", fixed), ("moving_to_fixed", moving)):
            function = getattr(transform, direction, None)
            if not callable(function):
                kind = type(transform).__name__
                raise InputError(
                    f"{self._name}: returned a {kind} without {direction!r}; expected {_EXPECTED}"
                )
            for points in (_corners_mm(geometry), np.empty((0, 3))):
                mapped = _call(f"{self._name}: {direction}", function, points)
                if not _is_finite(mapped, points.shape):
                    raise InputError(
                        f"{self._name}: {direction} of {len(points)} points returned something else; "
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


def _call(name: str, function: Callable[..., Any], *arguments: object) -> Any:
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
