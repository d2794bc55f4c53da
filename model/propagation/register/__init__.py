"""Registration of two scans of one patient: the protocol that every back end follows.

One file per back end. The fixed image is the follow-up, the moving one the baseline; a transform maps
fixed points to moving points, as in ITK. Everything between images is world coordinates, LPS mm.
Importing this package imports no back end (and so no SimpleITK).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy.typing as npt

from ...case.geometry import Array, FloatArray, Geometry
from ...errors import InputError

DEFAULT_BACKEND = "affine"


@dataclass(frozen=True, eq=False)
class RegistrationImage:
    """A scan as registration sees it: array (z, y, x) in HU of any number type, and its grid.

    NaN, infinities, paddings far below air and a visible couch are allowed. The array is only read.
    ``name`` is what back ends that read files know the scan by.
    """

    array: Array
    geometry: Geometry
    name: str = ""


class Transform(Protocol):
    """A mapping between the worlds of two scans; the two directions undo each other."""

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Follow-up points (N, 3), LPS mm x, y, z -> baseline points (N, 3), LPS mm."""
        ...

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Baseline points (N, 3), LPS mm x, y, z -> follow-up points (N, 3), LPS mm."""
        ...


@dataclass(frozen=True, eq=False)
class Registration:
    """What a back end found.

    ``similarity`` says how alike the scans are once aligned: the correlation of their HU inside the body
    where both see it, -1 to 1, NaN when nothing could be compared. ``is_reliable`` is False when the
    transform is only a fall-back; ``warnings`` then says why, in whole sentences for the user.
    """

    transform: Transform
    similarity: float
    is_reliable: bool = True
    warnings: tuple[str, ...] = ()


class Backend(Protocol):
    """A way of registering."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed).

        Images that cannot be aligned are no error: the answer is a fall-back that says so.
        """
        ...


def _affine() -> Backend:
    from .affine import LinearBackend

    return LinearBackend(affine=True)


def _rigid() -> Backend:
    from .affine import LinearBackend

    return LinearBackend(affine=False)


_FACTORIES: dict[str, Callable[[], Backend]] = {"affine": _affine, "rigid": _rigid}


def backend_names() -> tuple[str, ...]:
    return tuple(_FACTORIES)


def backend(name: str = DEFAULT_BACKEND) -> Backend:
    """The back end of a name, imported now. InputError for a name that is none."""
    if name not in _FACTORIES:
        known = ", ".join(_FACTORIES)
        raise InputError(f"registration back end {name!r} is unknown, expected one of: {known}")
    return _FACTORIES[name]()
