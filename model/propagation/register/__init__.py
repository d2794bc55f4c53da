"""Registration of two scans of one patient: protocols, and the list of back ends (one module each).

The fixed image is the follow-up, the moving one the baseline; a transform maps fixed points to moving
points, as in ITK. All coordinates are world coordinates, LPS mm. Importing this package imports no back end
(and no SimpleITK).
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
    """A scan to be registered.

    Attributes:
        array: HU (z, y, x) of any dtype, never written to. NaN, infinities, padding values far below air and
            a visible couch are allowed.
        geometry: grid of the array.
        name: name by which back ends that read files look up the scan.
    """

    array: Array
    geometry: Geometry
    name: str = ""


class Transform(Protocol):
    """A mapping between the world coordinates of two scans; the two directions are inverse to each other."""

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, x, y, z in LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        ...

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, x, y, z in LPS mm, to the follow-up.

        Returns:
            (N, 3) points of the follow-up, LPS mm.
        """
        ...


Refine = Callable[[npt.ArrayLike], Transform]
"""Points (N, 3) of the follow-up, LPS mm -> transform refined near them."""


Ambiguity = Callable[[npt.ArrayLike, Transform], FloatArray]
"""Points (N, 3) of the follow-up, LPS mm, and a transform -> mm (N,), see `local_match`."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Result of a back end.

    Attributes:
        transform: follow-up (fixed) to baseline (moving).
        similarity: correlation of the HU of the aligned scans inside the body where both scans cover it,
            -1 to 1; NaN if nothing could be compared.
        is_reliable: False if the transform is only a fall-back.
        warnings: the reasons for that, as sentences for the user.
        refine: refines the transform near given points, see `near`; None if the back end cannot.
        ambiguity: measures how uniquely the scans match near given points; None leaves it out of the
            estimated errors. Added by `RegistrationCache` for all back ends.
    """

    transform: Transform
    similarity: float
    is_reliable: bool = True
    warnings: tuple[str, ...] = ()
    refine: Refine | None = None
    ambiguity: Ambiguity | None = None

    def near(self, points_mm: npt.ArrayLike) -> Transform:
        """Return the transform refined near points (N, 3) of the follow-up, LPS mm.

        It equals ``transform`` far away from them, and everywhere if the back end does not refine.
        """
        return self.transform if self.refine is None else self.refine(points_mm)


class Backend(Protocol):
    """A registration method."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed).

        Images that cannot be aligned raise no error but yield a fall-back, see `Registration`.
        """
        ...


_Factory = Callable[[str, str], Backend]
"""(argument after the colon of the name, "" without one; device) -> back end, imported on the call."""


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


def _greedy(argument: str, device: str) -> Backend:
    from .greedy import GreedyBackend

    return GreedyBackend(device)


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
class _BackendEntry:
    """A built-in back end: its factory, and the argument that may or must follow its name and a colon."""

    factory: _Factory
    argument: str = ""
    is_required: bool = False

    def usage(self, name: str) -> str:
        if not self.argument:
            return name
        return f"{name}:{self.argument}" if self.is_required else f"{name}[:{self.argument}]"


_LANDMARK_FILES = "FILE|BASELINE_FILE,FOLLOWUP_FILE"
_BACKENDS = {
    "rigid": _BackendEntry(_rigid),
    "affine": _BackendEntry(_affine),
    "deformable": _BackendEntry(_deformable),
    "greedy": _BackendEntry(_greedy),
    "bspline": _BackendEntry(_bspline),
    "landmarks": _BackendEntry(_landmarks, _LANDMARK_FILES, is_required=True),
    "landmarks-rigid": _BackendEntry(_landmarks_rigid, _LANDMARK_FILES, is_required=True),
    "transform": _BackendEntry(_transform, "FILE|DIR", is_required=True),
    "unigradicon": _BackendEntry(_unigradicon, "WEIGHTS"),
    "identity": _BackendEntry(_identity),
}


def backend_names() -> tuple[str, ...]:
    """Names of the built-in back ends, without their arguments."""
    return tuple(_BACKENDS)


def backend_usage() -> str:
    """All valid names with their arguments, in one line for help texts and errors."""
    return ", ".join(entry.usage(name) for name, entry in _BACKENDS.items()) + ", or your own MODULE:FUNCTION"


def backend(name: str = DEFAULT_BACKEND, device: str = "auto") -> Backend:
    """Import a back end and create it.

    Args:
        name: built-in, with ``:FILE`` if it needs a file, or a user's ``module:function``, see `custom`.
        device: for back ends that compute with torch: auto, cpu, cuda or cuda:N.

    Raises:
        InputError: the name is unknown, its file is missing or superfluous, or a user's module fails.
    """
    builtin, colon, argument = name.partition(":")
    entry = _BACKENDS.get(builtin)
    if entry is None and colon:
        from .custom import custom_backend

        return custom_backend(name)
    if entry is None:
        raise InputError(f"registration back end {name!r} is unknown, expected one of: {backend_usage()}")
    if (entry.is_required and not argument) or (colon and not (entry.argument and argument)):
        raise InputError(f"registration back end {name!r} cannot be used so, expected {entry.usage(builtin)}")
    return entry.factory(argument, device)
