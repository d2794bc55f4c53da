"""A small patient with lesions at two time points, whose storage, ids and prompts can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from model.case.case import Case, Scan, TimePoint, TimePointName
from model.case.clicks import write_clicks
from model.case.geometry import AxisMap, Geometry, Vector, flip_order
from model.case.images import to_sitk
from model.inference.case_result import CaseResult
from model.inference.load import LoadedModel
from model.inference.options import CaseOptions
from model.inference.segment_case import segment_case
from test.helpers.cases_on_disk import ball, body

Voxels = npt.NDArray[Any]
SHAPE = (26, 44, 52)
_CENTRES = {1: (13, 22, 13), 2: (15, 20, 37), 3: (8, 31, 27)}
_DISTANT = 3
_STEP_MM = {"baseline": (2.5, 1.5, 1.75), "followup": (2.0, 1.5, 1.25)}


@dataclass(frozen=True)
class Storage:
    """Format, number type of the CTs, and compression of a case's images."""

    suffix: str
    dtype: str = "int16"
    is_compressed: bool = True


@dataclass(frozen=True, eq=False)
class Patient:
    """Arrays (z, y, x), grids and points (z, y, x) of both time points.

    ``followup_clicks`` may lack lesions, whose points are propagated then.
    """

    baseline: Voxels
    mask: Voxels
    followup: Voxels
    baseline_grid: Geometry
    followup_grid: Geometry
    baseline_clicks: Mapping[int, Vector]
    followup_clicks: Mapping[int, Vector]

    def case(self) -> Case:
        """The case in memory."""
        first = _scan(self.baseline, self.baseline_grid, self.baseline_clicks, self.mask)
        second = _scan(self.followup, self.followup_grid, self.followup_clicks, None)
        return Case(
            TimePoint(TimePointName.BASELINE, (replace(first, time_point="baseline"),)),
            TimePoint(TimePointName.FOLLOWUP, (replace(second, time_point="followup"),)),
        )

    def segmented(self, model: LoadedModel, options: CaseOptions) -> CaseResult:
        """Segment the case in memory."""
        return segment_case(self.case(), model, options)

    def write(self, folder: Path, storage: Storage) -> Path:
        """Write the case in the layout of the interface; returns its folder."""
        for name, array, grid in (
            ("primary-baseline-ct", self.baseline, self.baseline_grid),
            ("primary-baseline-ct-tumor-lesion-seg", self.mask, self.baseline_grid),
            ("primary-followup-ct", self.followup, self.followup_grid),
        ):
            path = folder / "images" / name / f"image{storage.suffix}"
            path.parent.mkdir(parents=True)
            voxels = array if "seg" in name else array.astype(storage.dtype)
            sitk.WriteImage(to_sitk(voxels, grid), str(path), storage.is_compressed)
        for name, clicks in (("baseline", self.baseline_clicks), ("followup", self.followup_clicks)):
            points = {i: flip_order(point) for i, point in clicks.items()}
            write_clicks(folder / f"primary-{name}-lesion-clicks.json", points)
        return folder

    def stored(self, axes: AxisMap) -> Patient:
        """The same patient with the axes of all arrays permuted and flipped."""
        first, second = self.baseline_grid, self.followup_grid
        return replace(
            self,
            baseline=axes.array(self.baseline),
            mask=axes.array(self.mask),
            followup=axes.array(self.followup),
            baseline_grid=first.reoriented(axes),
            followup_grid=second.reoriented(axes),
            baseline_clicks={
                i: axes.point(point, first.shape_zyx) for i, point in self.baseline_clicks.items()
            },
            followup_clicks={
                i: axes.point(point, second.shape_zyx) for i, point in self.followup_clicks.items()
            },
        )

    def translated(self, offset_xyz: Vector) -> Patient:
        """Both scans at another place in the world."""
        return replace(
            self,
            baseline_grid=_moved(self.baseline_grid, offset_xyz),
            followup_grid=_moved(self.followup_grid, offset_xyz),
        )

    def renumbered(self, ids: Mapping[int, int]) -> Patient:
        """The same lesions with other ids."""
        table = np.zeros(max((*ids, *ids.values())) + 1, np.uint16)
        for old, new in ids.items():
            table[old] = new
        return replace(
            self,
            mask=table[self.mask],
            baseline_clicks={ids[i]: point for i, point in self.baseline_clicks.items()},
            followup_clicks={ids[i]: point for i, point in self.followup_clicks.items()},
        )

    def reordered(self) -> Patient:
        """The clicks in another order."""
        return replace(
            self,
            baseline_clicks=dict(reversed(list(self.baseline_clicks.items()))),
            followup_clicks=dict(sorted(self.followup_clicks.items(), key=lambda entry: -entry[0] % 3)),
        )

    def without(self, lesion_id: int) -> Patient:
        """The same scans, without one lesion's label and clicks."""
        return replace(
            self,
            mask=np.where(self.mask == lesion_id, 0, self.mask),
            baseline_clicks={i: point for i, point in self.baseline_clicks.items() if i != lesion_id},
            followup_clicks={i: point for i, point in self.followup_clicks.items() if i != lesion_id},
        )

    def unclicked(self) -> Patient:
        """Only the distant lesion is clicked in the follow-up."""
        return replace(self, followup_clicks={_DISTANT: self.followup_clicks[_DISTANT]})


def patient() -> Patient:
    """Three lesions, clicked at both time points, on different grids."""
    baseline, mask, followup = body(SHAPE, 1), np.zeros(SHAPE, np.uint16), body(SHAPE, 2)
    for lesion_id, centre in _CENTRES.items():
        inside = ball(SHAPE, centre, 3)
        baseline[inside], mask[inside] = 60, lesion_id
        followup[ball(SHAPE, centre, 4)] = 70
    points = {i: (float(z), float(y), float(x)) for i, (z, y, x) in _CENTRES.items()}
    return Patient(
        baseline, mask, followup, _grid("baseline"), _grid("followup"), points, {i: points[i] for i in points}
    )


def _grid(time_point: str) -> Geometry:
    z, y, x = SHAPE
    dz, dy, dx = _STEP_MM[time_point]
    return Geometry((x, y, z), (dx, dy, dz), (-dx * x / 2, -dy * y / 2, -dz * z / 2))


def _moved(grid: Geometry, offset_xyz: Vector) -> Geometry:
    x, y, z = (a + b for a, b in zip(grid.origin_xyz, offset_xyz, strict=True))
    return replace(grid, origin_xyz=(x, y, z))


def _scan(hu: Voxels, grid: Geometry, clicks: Mapping[int, Vector], mask: Voxels | None) -> Scan:
    return Scan.from_array(
        hu, grid.spacing_zyx, origin_xyz=grid.origin_xyz, direction=grid.direction, mask=mask, clicks=clicks
    )
