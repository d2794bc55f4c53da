"""What a case is: its scans, its lesions with their prompts, and what became of them.

Scans are held in axial order (`Scan.geometry`, `Scan.ct`, `Scan.mask`, `Click.point_zyx`); only
`Scan.axes` and `Scan.file_geometry` know how the file stored them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .geometry import Array, AxisMap, Box, Geometry, Vector


class Slot(StrEnum):
    """The one or two scans of a time point (for example thorax and abdomen apart)."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class TimePointName(StrEnum):
    BASELINE = "baseline"
    FOLLOWUP = "followup"


class PointSource(StrEnum):
    """Where a point prompt comes from."""

    GIVEN = "given"
    CLIPPED = "clipped"  # given, at most 5 mm outside of its scan, moved to the border
    MASK = "mask"  # centre of gravity of the lesion in the baseline mask, or its nearest voxel
    PROPAGATED = "propagated"  # found by registration


@dataclass(frozen=True, slots=True)
class Click:
    """A point that a user gave for a lesion, as a voxel index on its scan (axial order)."""

    lesion_id: int
    point_zyx: Vector


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """The files of one scan; nothing is decoded yet. ``clicks`` is None where no file was given."""

    slot: Slot
    ct: Path
    mask: Path | None = None
    clicks: Path | None = None


@dataclass(frozen=True, slots=True)
class CaseFiles:
    baseline: tuple[ScanFiles, ...]
    followup: tuple[ScanFiles, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Scan:
    """One CT with its lesion mask (where it is known) and clicks, in axial order.

    ``time_point`` is `TimePointName` in a case, and any name in a series of more than two.
    ``ct`` and ``mask`` are (z, y, x) in the file's own number type; ``axes`` is the map from the array
    as the file stores it to the axial one. ``path`` is None for a scan that was not read from a file.
    """

    time_point: str
    slot: Slot
    path: Path | None
    file_geometry: Geometry
    axes: AxisMap
    ct: Array
    mask: Array | None = None
    clicks: tuple[Click, ...] = ()

    @property
    def geometry(self) -> Geometry:
        return self.file_geometry.reoriented(self.axes)

    @property
    def name(self) -> str:
        return f"{self.slot}-{self.time_point}"

    def click_of(self, lesion_id: int) -> Click | None:
        return next((click for click in self.clicks if click.lesion_id == lesion_id), None)

    def file_point_xyz(self, point_zyx: Vector) -> Vector:
        """A voxel index of the axial array as the file's own voxel index, x, y, z."""
        z, y, x = self.axes.inverse().point(point_zyx, self.geometry.shape_zyx)
        return (x, y, z)


@dataclass(frozen=True, eq=False)
class TimePoint:
    """One date of a patient: a primary scan and perhaps a secondary one."""

    name: TimePointName
    scans: tuple[Scan, ...]

    def scan(self, slot: Slot) -> Scan | None:
        return next((scan for scan in self.scans if scan.slot == slot), None)


@dataclass(frozen=True, eq=False)
class Case:
    baseline: TimePoint
    followup: TimePoint
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptPoint:
    """A point that the network is given: voxel index (z, y, x) on its scan's axial grid."""

    point_zyx: Vector
    source: PointSource


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """Where a lesion is expected: booleans (z, y, x) over a box of a scan's axial grid."""

    box: Box
    voxels: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LesionPrompt:
    """Everything that tells the network which lesion is meant, in one follow-up scan.

    ``followup_box`` and ``followup_mask`` are for segmenters that take more than points; the longitudinal
    model does not look at them. ``is_new`` marks a lesion without any baseline; its baseline point is the
    follow-up point carried back. ``has_mask`` is False when the baseline mask does not hold the id.
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


@dataclass(frozen=True, slots=True)
class UnsegmentedLesion:
    """A lesion that no follow-up scan shows, with the reason."""

    lesion_id: int
    reason: str


@dataclass(frozen=True, eq=False)
class LesionResult:
    """The network's answer for one prompt, on the follow-up's axial grid.

    ``probability`` is float32 over ``box``, the smallest box round all voxels above one half (empty for a
    lesion without any). ``support`` is the box of all voxels that the patch can touch; with
    ``support_probability`` it is kept only when asked for.
    """

    prompt: LesionPrompt
    box: Box
    probability: npt.NDArray[np.float32]
    support: Box | None = None
    support_probability: npt.NDArray[np.float32] | None = None

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        return self.probability > 0.5
