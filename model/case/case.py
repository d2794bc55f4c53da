"""Data classes of a case: scans, clicks, prompts and segmented lesions.

Scans are held in axial order (`Scan.geometry`, `Scan.ct`, `Scan.mask`, `Click.point_zyx`), and on orthogonal
axes; only `Scan.file_grid` and its parts refer to the order and the grid in which the file stores them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .file_grid import FileGrid
from .geometry import IDENTITY_DIRECTION, Array, AxisMap, Box, Geometry, Vector, flip_order
from .shear import ShearMap, shear_warning
from .voxel_checks import (
    checked_grid,
    checked_lesion_id,
    checked_triple,
    checked_voxels,
    hu_warnings,
    lesion_labels,
)

log = logging.getLogger(__name__)


class Slot(StrEnum):
    """Name of a scan within its time point, which has one or two (e.g. thorax and abdomen)."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class TimePointName(StrEnum):
    """Names of the two time points of a case."""

    BASELINE = "baseline"
    FOLLOWUP = "followup"


class PointSource(StrEnum):
    """Origin of a point prompt."""

    GIVEN = "given"
    CLIPPED = "clipped"  # given at most 5 mm outside its scan, moved to the border
    MASK = "mask"  # centre of gravity of the lesion in its mask, or the lesion voxel nearest to it
    PROPAGATED = "propagated"  # transferred by registration


@dataclass(frozen=True, slots=True)
class Click:
    """A user's point for a lesion: voxel index (z, y, x) on the axial grid of its scan."""

    lesion_id: int
    point_zyx: Vector


def make_clicks(points: Mapping[int, Sequence[float]], grid: FileGrid) -> tuple[Click, ...]:
    """Make clicks of points in memory.

    Args:
        points: lesion id -> voxel index (z, y, x) on the array or file, may be a fraction.
        grid: of the array or file.

    Returns:
        One click per lesion, on the axial grid.

    Raises:
        InputError: an id or a point cannot be used.
    """
    expected = "three finite numbers, a voxel index (z, y, x)"
    checked = {
        checked_lesion_id("clicks", lesion_id): checked_triple(f"clicks[{lesion_id}]", point, expected)
        for lesion_id, point in points.items()
    }
    return tuple(Click(lesion_id, grid.axial_point(point)) for lesion_id, point in checked.items())


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """The files of one scan, not decoded. ``clicks`` is None if no click file was given.

    ``points_xyz``: lesion id -> voxel index (x, y, z) of the CT's file, of lesions whose points are not in a
    click file of their own.
    """

    slot: Slot
    ct: Path
    mask: Path | None = None
    clicks: Path | None = None
    points_xyz: Mapping[int, Vector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of a case, not decoded, and warnings about them."""

    baseline: tuple[ScanFiles, ...]
    followup: tuple[ScanFiles, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Scan:
    """One CT with its clicks and, if available, its lesion mask, in axial order.

    ``time_point`` is a `TimePointName` in a case, and any name in a series. ``ct`` (HU) and ``mask`` (lesion
    ids) are (z, y, x) in the file's number type; ``axes`` maps the array as the file stores it to the axial
    one, and ``shear`` a sheared grid to the orthogonal one on which ``ct`` (then float32) and ``mask`` lie.
    ``path`` is None for a scan that was not read from a file; ``warnings`` are about what is unusual in a
    scan that was made in memory.
    """

    time_point: str
    slot: Slot
    path: Path | None
    file_geometry: Geometry
    axes: AxisMap
    ct: Array = field(repr=False)
    mask: Array | None = field(default=None, repr=False)
    clicks: tuple[Click, ...] = ()
    warnings: tuple[str, ...] = ()
    shear: ShearMap | None = field(default=None, repr=False)

    @classmethod
    def from_array(
        cls,
        hu: npt.ArrayLike,
        spacing_zyx: Sequence[float],
        *,
        origin_xyz: Sequence[float] = (0.0, 0.0, 0.0),
        direction: npt.ArrayLike = IDENTITY_DIRECTION,
        mask: npt.ArrayLike | None = None,
        clicks: Mapping[int, Sequence[float]] | None = None,
        time_point: str = "scan",
        slot: Slot = Slot.PRIMARY,
    ) -> Scan:
        """Make a scan from arrays in memory, which are not copied unless their axes are sheared.

        Results for the scan, such as labelmaps, have the axes of the array. Unusual voxels are logged.

        Args:
            hu: the CT in Hounsfield units, (z, y, x), any integer or float type. Without a direction it is
                axial: z runs towards the head, y towards the back, x towards the patient's left.
            spacing_zyx: mm between voxel centres along the axes of the array.
            origin_xyz: LPS mm of the first voxel's centre.
            direction: ITK's 3x3 direction matrix, also as nine numbers row by row: column k is the world
                direction (LPS) of the array's x, y, z axis k.
            mask: lesion ids (z, y, x) of the array's shape, 0 for background; None if there is no mask.
            clicks: lesion id -> voxel index (z, y, x) on the array, may be fractional.
            time_point: a name for the date of the scan.
            slot: which of the time point's scans it is.

        Raises:
            InputError: an argument cannot be used; the message begins with its name.
        """
        ct = checked_voxels("hu", hu)
        depth, height, width = ct.shape
        grid = FileGrid.of(checked_grid((depth, height, width), spacing_zyx, origin_xyz, direction))
        messages = hu_warnings("ct", ct)
        if grid.shear is not None:
            messages.append(shear_warning("ct", grid.geometry))
        labelmap = None
        if mask is not None:
            labels = checked_voxels("mask", mask)
            if labels.shape != ct.shape:
                raise InputError(f"mask: has the shape {labels.shape}; expected {ct.shape}, that of hu")
            labelmap = grid.axial_labels(lesion_labels("mask", labels))
            if not labelmap.any():
                messages.append("mask: holds no lesion")
        for message in messages:
            log.warning("%s", message)
        return cls(
            time_point=time_point,
            slot=Slot(slot),
            path=None,
            file_geometry=grid.geometry,
            axes=grid.axes,
            ct=grid.axial_ct(ct),
            mask=labelmap,
            clicks=make_clicks(clicks or {}, grid),
            warnings=tuple(messages),
            shear=grid.shear,
        )

    @property
    def file_grid(self) -> FileGrid:
        """The way from the grid of the scan's file to the axial one, and back."""
        return FileGrid(self.file_geometry, self.axes, self.shear)

    @property
    def geometry(self) -> Geometry:
        """Geometry of the axial arrays."""
        return self.file_grid.axial

    @property
    def name(self) -> str:
        """Slot and time point, e.g. primary-baseline."""
        return f"{self.slot}-{self.time_point}"

    def click_of(self, lesion_id: int) -> Click | None:
        """The click of a lesion, None if it has none."""
        return next((click for click in self.clicks if click.lesion_id == lesion_id), None)

    def file_point_xyz(self, point_zyx: Vector) -> Vector:
        """Convert a point on the axial grid to the grid of the scan's file.

        Args:
            point_zyx: voxel index (z, y, x) on the axial grid.

        Returns:
            Voxel index (x, y, z) on the file's grid.
        """
        return flip_order(self.file_grid.file_point(point_zyx))


@dataclass(frozen=True, eq=False)
class TimePoint:
    """One date of a patient: a primary scan and optionally a secondary one."""

    name: TimePointName
    scans: tuple[Scan, ...]

    def scan(self, slot: Slot) -> Scan | None:
        """The scan in a slot, or None."""
        return next((scan for scan in self.scans if scan.slot == slot), None)


@dataclass(frozen=True, eq=False)
class Case:
    """Two time points of a patient, and warnings from reading them."""

    baseline: TimePoint
    followup: TimePoint
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptPoint:
    """A point prompt of the network: voxel index (z, y, x) on the axial grid of its scan."""

    point_zyx: Vector
    source: PointSource


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A lesion's (expected) voxels: booleans (z, y, x) over a box of a scan's axial grid."""

    box: Box
    voxels: npt.NDArray[np.bool_]


PointMap = Callable[[Vector], Vector]
"""Voxel index (z, y, x) on a follow-up's axial grid -> that of the same place on a baseline's, may be NaN."""


@dataclass(frozen=True, eq=False)
class LesionPrompt:
    """The prompts for one lesion in one follow-up scan.

    ``followup_box`` and ``followup_mask`` are for segmenters that take more than points; the longitudinal
    model ignores them. ``is_new`` marks a lesion without any baseline; its baseline point is the follow-up
    point propagated back. ``has_mask`` is False if the baseline mask does not hold the id. ``to_baseline``
    maps points by the registration that the follow-up point was propagated with; None without one, or if
    the point came from another scan than the baseline.
    """

    lesion_id: int
    baseline: Scan
    baseline_point: PromptPoint
    followup: Scan
    followup_point: PromptPoint
    has_mask: bool = True
    is_new: bool = False
    followup_box: Box | None = None
    followup_mask: MaskPrompt | None = None
    to_baseline: PointMap | None = None


@dataclass(frozen=True, slots=True)
class UnsegmentedLesion:
    """A lesion that could not be segmented in any follow-up scan, with the reason."""

    lesion_id: int
    reason: str


@dataclass(frozen=True, eq=False)
class LesionResult:
    """The network's prediction for one prompt, on the follow-up's axial grid (z, y, x).

    ``probability`` is float32 over ``box``, the bounding box of all voxels above 0.5 (empty if there are
    none). ``support`` is the box of all voxels that the patch covers, and ``support_probability`` the
    probabilities in it, float32; both are kept on request only. ``fold_votes`` counts the patches' voxels by
    the set of folds that hold them for lesion, int64 [2 ** folds]; None with one or two folds.
    """

    prompt: LesionPrompt
    box: Box
    probability: npt.NDArray[np.float32]
    support: Box | None = None
    support_probability: npt.NDArray[np.float32] | None = None
    fold_votes: npt.NDArray[np.int64] | None = None

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """The lesion's voxels: booleans (z, y, x) over ``box``."""
        return self.probability > 0.5
