"""Regions of labelmaps: the bounding box, size and centre of each lesion.

A labelmap is an integer array (z, y, x) whose values are lesion ids; 0 is background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .case import MaskPrompt
from .geometry import Array, AxisMap, Box, Vector, voxel_at

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelRegion:
    """The voxels of one lesion id: their bounding box, number and centre of gravity.

    ``centre_zyx`` is a voxel index (z, y, x) in fractions of voxels; it may miss the lesion
    (see `point_on_lesion`).
    """

    box: Box
    voxels: int
    centre_zyx: Vector


def label_regions(labelmap: Array | None) -> dict[int, LabelRegion]:
    """Find the region of each lesion in one pass over the labelmap's memory.

    Args:
        labelmap: lesion ids (z, y, x), integers of any type in any memory order; None holds no lesion.

    Returns:
        Lesion id -> region on the labelmap's grid, ids ascending.
    """
    if labelmap is None or labelmap.size == 0:
        return {}
    axes = _memory_order(labelmap)
    planes = (_plane_table(plane, number) for number, plane in enumerate(axes.array(labelmap)))
    tables = [table for table in planes if table is not None]
    if not tables:
        return {}
    shape = axes.triple(labelmap.shape)
    table = _grouped(np.concatenate(tables, axis=1))
    return {region[0]: _region(region, axes, shape) for region in table.T.tolist()}


def label_boxes(labelmap: Array | None) -> dict[int, Box]:
    """Bounding boxes of the lesions of a labelmap (z, y, x), by lesion id in ascending order.

    Args:
        labelmap: as for `label_regions`.

    Returns:
        Lesion id -> box on the labelmap's grid.
    """
    return {lesion_id: region.box for lesion_id, region in label_regions(labelmap).items()}


def lesion_masks(labelmap: Array) -> Iterator[tuple[int, MaskPrompt]]:
    """Cut the mask of each lesion out of a labelmap.

    Args:
        labelmap: lesion ids (z, y, x).

    Yields:
        Lesion id and its voxels over their bounding box, ids ascending.
    """
    for lesion_id, box in label_boxes(labelmap).items():
        yield lesion_id, MaskPrompt(box, labelmap[box.slices] == lesion_id)


def point_on_lesion(labelmap: Array, lesion_id: int, region: LabelRegion, spacing_zyx: Vector) -> Vector:
    """The centre of gravity of a lesion, or the lesion voxel nearest to it if it lies outside the lesion.

    Args:
        labelmap: lesion ids (z, y, x).
        lesion_id: an id that the labelmap holds.
        region: the lesion's, from `label_regions`.
        spacing_zyx: mm.

    Returns:
        Voxel index (z, y, x); of equally near voxels the first in (z, y, x) order.
    """
    if labelmap[voxel_at(region.centre_zyx)] == lesion_id:
        return region.centre_zyx
    voxels = np.argwhere(labelmap[region.box.slices] == lesion_id) + np.asarray(region.box.start_zyx)
    distances_mm = np.linalg.norm((voxels - np.asarray(region.centre_zyx)) * np.asarray(spacing_zyx), axis=1)
    z, y, x = (float(value) for value in voxels[np.argmin(distances_mm)])
    return (z, y, x)


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box | None:
    """The smallest box around all true voxels of a mask.

    Args:
        mask: booleans (z, y, x).

    Returns:
        The box on the mask's grid, None if no voxel is true.
    """
    box = Box.of_shape(mask.shape)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(mask[box.slices].any(axis=others))
        if not hits.size:
            return None
        start, stop = list(box.start_zyx), list(box.stop_zyx)
        start[axis], stop[axis] = int(hits[0]), int(hits[-1]) + 1
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    return box


def _memory_order(labelmap: Array) -> AxisMap:
    """The reordering after which the last axis of an array is the fastest and all strides are positive."""
    order = np.argsort([-abs(step) for step in labelmap.strides], kind="stable").tolist()
    a, b, c = (labelmap.strides[axis] < 0 for axis in order)
    return AxisMap((order[0], order[1], order[2]), (a, b, c))


# Rows of a table of labels, one column per label: label, number of voxels, and along each of the three axes
# the sum, the lowest and the highest of the voxel indices.
_LABEL, _COUNT, _SUMS, _LOW, _HIGH = 0, 1, slice(2, 5), slice(5, 8), slice(8, 11)


def _plane_table(plane: Array, number: int) -> _Integers | None:
    """The table of the labels of one plane, None for an empty plane."""
    rows = np.flatnonzero(plane.max(1) > 0)  # a maximum is faster than a comparison of all voxels
    if not rows.size:
        return None
    used = plane[rows[0] : rows[-1] + 1]
    labels, starts, lengths = _runs(used.ravel(), used.shape[1])
    y, x = np.divmod(starts, used.shape[1])
    y += rows[0]
    z, last = np.full(labels.size, number), x + lengths - 1
    sums = (z * lengths, y * lengths, (x + last) * lengths // 2)
    return _grouped(np.stack([labels, lengths, *sums, z, y, x, z, y, last]))


def _runs(flat: Array, width: int) -> tuple[_Integers, _Integers, _Integers]:
    """The labels, starts and lengths of all runs of equal labels within the rows of a flattened plane."""
    begins = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::width] = True
    starts = np.flatnonzero(begins)
    lengths, labels = np.diff(starts, append=flat.size), flat[starts]
    held = labels > 0
    return labels[held].astype(np.int64), starts[held], lengths[held]


def _grouped(table: _Integers) -> _Integers:
    """A table with one column per label, ascending, from one in which labels may occur several times."""
    table = table[:, np.argsort(table[_LABEL], kind="stable")]
    labels = table[_LABEL]
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    return np.concatenate(
        [
            table[:1, starts],
            np.add.reduceat(table[_COUNT : _SUMS.stop], starts, axis=1),
            np.minimum.reduceat(table[_LOW], starts, axis=1),
            np.maximum.reduceat(table[_HIGH], starts, axis=1),
        ]
    )


def _region(column: list[int], axes: AxisMap, shape: tuple[int, int, int]) -> LabelRegion:
    """The region of one column of a table, brought from memory order back to the labelmap's own axes."""
    back = axes.inverse()
    voxels, sums, low, high = column[_COUNT], column[_SUMS], column[_LOW], column[_HIGH]
    box = Box((low[0], low[1], low[2]), (high[0] + 1, high[1] + 1, high[2] + 1))
    # Flipped while they are whole numbers, so that a centre does not depend on the order of the memory.
    reordered = [
        voxels * (n - 1) - total if flipped else total
        for total, n, flipped in zip(sums, shape, axes.flipped, strict=True)
    ]
    z, y, x = AxisMap(back.order).triple([total / voxels for total in reordered])
    return LabelRegion(back.box(box, shape), voxels, (z, y, x))
