"""Merge the probabilities of single lesions into one labelmap per follow-up scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..case.case import LesionResult, Scan
from ..case.geometry import Array, Box
from .options import OverlapRule


def label_dtype(lesion_ids: Sequence[int]) -> type[np.unsignedinteger]:
    """Number type of all labelmaps of a case: uint8 if every id fits, else uint16."""
    return np.uint16 if max(lesion_ids, default=0) > 255 else np.uint8


def merge(
    scan: Scan, results: Sequence[LesionResult], rule: OverlapRule, dtype: type[np.unsignedinteger]
) -> Array:
    """Merge all lesions of a follow-up scan into one labelmap.

    Args:
        scan: the follow-up scan.
        results: its lesions, in any order.
        rule: ``probability`` assigns a voxel that several lesions claim to the one with the higher
            probability, on a tie to the one whose point is nearer (in mm), then to the lower id.
            ``max-id`` assigns it to the highest id, as published ([Kirchhoff2025]).
        dtype: number type of the labelmap.

    Returns:
        The labelmap (z, y, x) on the grid of the scan's file; label = lesion id.
    """
    grid = scan.file_grid
    shape = grid.axes.inverse().triple(grid.axial.shape_zyx)
    axial = grid.axes.array(np.zeros(shape, dtype))  # in the file's memory order
    pasted: dict[int, LesionResult] = {}
    for result in sorted(results, key=lambda result: result.prompt.lesion_id):
        lesion_id, mask = result.prompt.lesion_id, result.mask
        view = axial[result.box.slices]
        if rule == "probability":
            mask = mask & ~_lost(result, view, pasted)
        view[mask] = lesion_id  # ids ascend: the highest one stays
        pasted[lesion_id] = result
    return grid.file_labels(axial)


def _lost(result: LesionResult, current: Array, pasted: dict[int, LesionResult]) -> npt.NDArray[np.bool_]:
    """Voxels at which another lesion has the stronger claim, booleans of the result's box's shape."""
    lost = np.zeros(result.mask.shape, bool)
    contested = result.mask & (current > 0)
    for owner_id in np.unique(current[contested]):
        owner = pasted[int(owner_id)]
        voxels = np.nonzero(contested & (current == owner_id))
        own, other = result.probability[voxels], _probability_at(owner, result.box, voxels)
        tie = own == other
        nearer = _distance_mm(owner, result.box, voxels) <= _distance_mm(result, result.box, voxels)
        lost[voxels] = (own < other) | (tie & nearer)
    return lost


def _probability_at(
    result: LesionResult, box: Box, voxels: tuple[npt.NDArray[np.intp], ...]
) -> npt.NDArray[np.float32]:
    """Probability of a lesion at voxels relative to the start of another box."""
    offset = box.relative_to(result.box).start_zyx
    index = tuple(axis + start for axis, start in zip(voxels, offset, strict=True))
    return result.probability[index]


def _distance_mm(
    result: LesionResult, box: Box, voxels: tuple[npt.NDArray[np.intp], ...]
) -> npt.NDArray[np.float64]:
    """Distance (mm) from the lesion's follow-up point to voxels relative to the start of a box."""
    geometry = result.prompt.followup.geometry
    positions_zyx = np.stack(voxels, -1) + np.asarray(box.start_zyx)
    point_mm = geometry.zyx_to_world(result.prompt.followup_point.point_zyx)
    world = geometry.voxel_to_world(positions_zyx[:, ::-1])
    return np.asarray(np.linalg.norm(world - np.asarray(point_mm), axis=-1))
