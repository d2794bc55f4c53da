"""Registration of two scans of one patient: the protocol that every back end follows.

One file per back end. The fixed image is the follow-up, the moving one the baseline; a transform maps
fixed points to moving points, as in ITK. Everything between images is world coordinates, LPS mm.
Importing this package imports no back end (and so no SimpleITK).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy.typing as npt

from ...case.geometry import Array, FloatArray, Geometry
from ...errors import InputError

DEFAULT_BACKEND = "deformable"


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


Refine = Callable[[npt.ArrayLike], Transform]
"""Follow-up points (N, 3), LPS mm -> a transform that is finer round them."""


@dataclass(frozen=True, eq=False)
class Registration:
    """What a back end found.

    ``similarity`` says how alike the scans are once aligned: the correlation of their HU inside the body
    where both see it, -1 to 1, NaN when nothing could be compared. ``is_reliable`` is False when the
    transform is only a fall-back; ``warnings`` then says why, in whole sentences for the user.
    ``refine`` is given by back ends that look closer where they are asked to; see `near`.
    """

    transform: Transform
    similarity: float
    is_reliable: bool = True
    warnings: tuple[str, ...] = ()
    refine: Refine | None = None

    def near(self, points_mm: npt.ArrayLike) -> Transform:
        """The transform for use round the given points (N, 3) of the fixed world, LPS mm.

        It may be finer there than ``transform``, and is the same far away from them.
        """
        return self.transform if self.refine is None else self.refine(points_mm)


class Backend(Protocol):
    """A way of registering."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed).

        Images that cannot be aligned are no error: the answer is a fall-back that says so.
        """
        ...


_Factory = Callable[[str, str], Backend]
"""(argument after the name's colon, "" without one; device) -> back end, imported now."""


def _affine(argument: str, device: str) -> Backend:
    from .affine import LinearBackend

    return LinearBackend(affine=True)


def _rigid(argument: str, device: str) -> Backend:
    from .affine import LinearBackend

    return LinearBackend(affine=False)


def _deformable(argument: str, device: str) -> Backend:
    from .deformable import DeformableBackend

    return DeformableBackend(device=device)


def _bspline(argument: str, device: str) -> Backend:
    from .bspline import BSplineBackend

    return BSplineBackend()


def _landmarks(argument: str, device: str) -> Backend:
    from .landmarks import LandmarkBackend

    return LandmarkBackend(argument)


def _landmarks_rigid(argument: str, device: str) -> Backend:
    from .landmarks import LandmarkBackend

    return LandmarkBackend(argument, rigid=True)


def _transform(argument: str, device: str) -> Backend:
    from .stored import StoredBackend

    return StoredBackend(Path(argument))


def _unigradicon(argument: str, device: str) -> Backend:
    from .unigradicon import UniGradIconBackend

    return UniGradIconBackend(Path(argument) if argument else None, device)


def _identity(argument: str, device: str) -> Backend:
    from .identity import IdentityBackend

    return IdentityBackend()


@dataclass(frozen=True)
class _Entry:
    """A back end of ours: how it is made, and what may or must follow its name and a colon."""

    factory: _Factory
    argument: str = ""
    is_required: bool = False

    def usage(self, name: str) -> str:
        if not self.argument:
            return name
        return f"{name}:{self.argument}" if self.is_required else f"{name}[:{self.argument}]"


_LANDMARK_FILES = "FILE|BASELINE_FILE,FOLLOWUP_FILE"
_ENTRIES = {
    "rigid": _Entry(_rigid),
    "affine": _Entry(_affine),
    "deformable": _Entry(_deformable),
    "bspline": _Entry(_bspline),
    "landmarks": _Entry(_landmarks, _LANDMARK_FILES, is_required=True),
    "landmarks-rigid": _Entry(_landmarks_rigid, _LANDMARK_FILES, is_required=True),
    "transform": _Entry(_transform, "FILE|DIR", is_required=True),
    "unigradicon": _Entry(_unigradicon, "WEIGHTS"),
    "identity": _Entry(_identity),
}


def backend_names() -> tuple[str, ...]:
    return tuple(_ENTRIES)


def backend_usage() -> str:
    """What may be asked for, in one line for help texts and errors."""
    return ", ".join(entry.usage(name) for name, entry in _ENTRIES.items()) + ", or your own MODULE:FUNCTION"


def backend(name: str = DEFAULT_BACKEND, device: str = "auto") -> Backend:
    """The back end of a name, imported now.

    ``name`` is one of ours, with ``:FILE`` where it needs one, or a user's own ``module:function`` (see
    `custom`). ``device`` is for those that compute with torch: auto, cpu, cuda.

    Raises:
        InputError: a name that is none, a file too few or too many, or a user's module that fails.
    """
    known, colon, argument = name.partition(":")
    entry = _ENTRIES.get(known)
    if entry is None and colon:
        from .custom import custom_backend

        return custom_backend(name)
    if entry is None:
        raise InputError(f"registration back end {name!r} is unknown, expected one of: {backend_usage()}")
    if (entry.is_required and not argument) or (colon and not (entry.argument and argument)):
        raise InputError(f"registration back end {name!r} cannot be used so, expected {entry.usage(known)}")
    return entry.factory(argument, device)
