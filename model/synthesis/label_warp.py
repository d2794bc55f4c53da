"""Lesion ids on the voxels of the follow-up, without ever mixing two ids.

A voxel gets the id of the baseline voxel that its centre comes from. That could lose or double a lesion of
few voxels; such a lesion gets the voxels that it fills most, as many as correspond to its volume.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse.csgraph import connected_components

from ..case.geometry import Array, Box, FloatArray, Vector
from ..propagation.register.field import invert_displacement
from .displacement import grid_positions
from .scan_lesions import LabelledLesion

SMALL_VOXELS = 100
"""Lesions of up to this many baseline voxels are placed by how much of each follow-up voxel they fill."""

_SAMPLES = 4  # per axis and voxel
_MARGIN_VOXELS = 3
# In larger boxes only the surroundings of each piece of a scattered lesion are sampled.
_MAX_SAMPLED_VOXELS = 30_000

PositionMap = Callable[[FloatArray], FloatArray]
"""Map of follow-up positions (3, N) to baseline positions (3, N), both in axis mm (z, y, x)."""


def nearest_ids(labels: Array, positions_mm: FloatArray, spacing_zyx: Vector) -> Array:
    """Look up the lesion id of the nearest voxel.

    Args:
        labels: lesion ids (z, y, x) of the baseline.
        positions_mm: positions (3, N) in axis mm (z, y, x).
        spacing_zyx: voxel spacing (z, y, x) in mm.

    Returns:
        Ids (N,) with the dtype of ``labels``; 0 outside the scan.
    """
    index = np.floor(positions_mm / np.reshape(spacing_zyx, (3, 1)) + 0.5).astype(np.int32)
    inside = ((index >= 0) & (index < np.reshape(labels.shape, (3, 1)))).all(axis=0)
    ids = np.zeros(positions_mm.shape[1], labels.dtype)
    ids[inside] = labels[tuple(index[:, inside])]
    return ids


def push_forward(pullback: PositionMap, positions_mm: FloatArray) -> FloatArray:
    """Map baseline positions to the follow-up: the inverse of a pullback, by fixed-point iteration.

    Args:
        pullback: map of follow-up positions to baseline positions.
        positions_mm: baseline positions (3, N) in axis mm (z, y, x).

    Returns:
        Follow-up positions (3, N) in axis mm (z, y, x).
    """
    return invert_displacement(lambda points: (pullback(points.T) - points.T).T, positions_mm.T).T


def place_small(
    followup: Array,
    baseline: Array,
    lesion: LabelledLesion,
    pullback: PositionMap,
    spacing: Vector,
    expected: float,
) -> None:
    """Assign a small lesion its voxels in the follow-up.

    Args:
        followup: lesion ids (z, y, x) of the follow-up; modified in place.
        baseline: lesion ids (z, y, x) of the baseline.
        lesion: the lesion in the baseline.
        pullback: map of follow-up positions to baseline positions.
        spacing: voxel spacing (z, y, x) in mm.
        expected: number of voxels that corresponds to the lesion's volume; voxels outside the scan are
            dropped.
    """
    box = _reachable_box(lesion.box, lesion.centre_zyx, pullback, spacing, followup.shape)
    if box.is_empty:
        return
    for plane in followup[box.slices]:
        plane[plane == lesion.lesion_id] = 0
    near = _candidates(baseline, lesion, pullback, spacing, box)
    ends = zip(box.start_zyx, box.stop_zyx, followup.shape, strict=True)
    inside = all(start > 0 and stop < n for start, stop, n in ends)
    count = max(1, round(expected)) if inside else round(float(near.filled.sum()))
    is_free = followup[tuple(near.index_zyx)] == 0
    free = np.flatnonzero(is_free & ((near.filled > 0) | inside))
    # Among equally filled voxels (e.g. those that the lesion does not reach): the nearest to its centre.
    best = free[np.lexsort((near.distance_mm[free], -near.filled[free]))[:count]]
    followup[tuple(near.index_zyx[:, best])] = lesion.lesion_id


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Voxels (3, N) of the follow-up in the order of a raveled array.

    ``filled`` (N,) is the share of each voxel that comes from the lesion, ``distance_mm`` (N,) its distance
    from the centre of the lesion or of its nearest piece.
    """

    index_zyx: Array
    filled: FloatArray
    distance_mm: FloatArray


def _candidates(
    baseline: Array, lesion: LabelledLesion, pullback: PositionMap, spacing: Vector, box: Box
) -> _Candidates:
    """Sample all voxels of a small box; of a large one only those near each piece of the lesion."""
    if np.prod(box.shape_zyx) <= _MAX_SAMPLED_VOXELS:
        return _sample_box(baseline, lesion, lesion.centre_zyx, pullback, spacing, box)
    parts = []
    for piece in _pieces(baseline, lesion):
        start, stop = piece.min(axis=0).tolist(), (piece.max(axis=0) + 1).tolist()
        z, y, x = piece.mean(axis=0).tolist()
        around = _reachable_box(Box(tuple(start), tuple(stop)), (z, y, x), pullback, spacing, baseline.shape)
        if not around.is_empty:
            parts.append(_sample_box(baseline, lesion, (z, y, x), pullback, spacing, around))
    if not parts:
        return _Candidates(np.empty((3, 0), int), np.empty(0), np.empty(0))
    index = np.concatenate([part.index_zyx for part in parts], axis=1)
    distance = np.concatenate([part.distance_mm for part in parts])
    # A voxel near several pieces counts once, for the nearest of them.
    order = np.lexsort((distance, *index[::-1]))
    index, distance = index[:, order], distance[order]
    filled = np.concatenate([part.filled for part in parts])[order]
    first = np.ones(len(order), bool)
    first[1:] = (index[:, 1:] != index[:, :-1]).any(axis=0)
    return _Candidates(index[:, first], filled[first], distance[first])


def _sample_box(
    baseline: Array,
    lesion: LabelledLesion,
    centre_zyx: Vector,
    pullback: PositionMap,
    spacing: Vector,
    box: Box,
) -> _Candidates:
    """Sample all voxels of a box."""
    positions = grid_positions(np.multiply(box.start_zyx, spacing).tolist(), spacing, box.shape_zyx)
    centre = push_forward(pullback, np.reshape(np.multiply(centre_zyx, spacing), (3, 1)))
    index = np.indices(box.shape_zyx).reshape(3, -1) + np.reshape(box.start_zyx, (3, 1))
    filled = _filled_shares(baseline, lesion, pullback, spacing, box).ravel()
    return _Candidates(index, filled, np.linalg.norm(positions - centre, axis=0))


def _pieces(baseline: Array, lesion: LabelledLesion) -> list[Array]:
    """Split a lesion of few voxels into connected pieces (26 neighbours): voxel indices (N, 3) of each."""
    start = np.asarray(lesion.box.start_zyx)
    planes = enumerate(baseline[lesion.box.slices])
    parts = [
        np.stack([np.full(y.size, z), y, x], 1)
        for z, (y, x) in ((z, np.nonzero(plane == lesion.lesion_id)) for z, plane in planes)
        if y.size
    ]
    voxels = np.concatenate(parts) + start
    touching = np.abs(voxels[:, None] - voxels[None]).max(axis=2) <= 1
    count, pieces = connected_components(touching, directed=False)
    return [voxels[pieces == n] for n in range(count)]


def _reachable_box(
    box: Box, centre_zyx: Vector, pullback: PositionMap, spacing: Vector, shape: tuple[int, ...]
) -> Box:
    """Bound the lesion in the follow-up: the box of the mapped corners of its box, plus a margin."""
    corners = np.asarray(list(product(*zip(np.subtract(box.start_zyx, 1), box.stop_zyx, strict=True))), float)
    corners = np.vstack([corners, np.asarray(centre_zyx)])
    mapped = push_forward(pullback, corners.T * np.reshape(spacing, (3, 1))) / np.reshape(spacing, (3, 1))
    start = np.floor(mapped.min(axis=1)).astype(int) - _MARGIN_VOXELS
    stop = np.ceil(mapped.max(axis=1)).astype(int) + _MARGIN_VOXELS + 1
    return Box(tuple(start.tolist()), tuple(stop.tolist())).intersection(Box.of_shape(shape))


def _filled_shares(
    baseline: Array, lesion: LabelledLesion, pullback: PositionMap, spacing: Vector, box: Box
) -> FloatArray:
    """Compute the share of each voxel (z, y, x) of a follow-up box that comes from the lesion."""
    fine = np.divide(spacing, _SAMPLES)
    first = (np.asarray(box.start_zyx) - 0.5) * spacing + fine / 2
    nz, ny, nx = box.shape_zyx
    shares = np.zeros(box.shape_zyx)
    for z in range(nz):
        start = (first[0] + z * spacing[0], first[1], first[2])
        positions = grid_positions(start, fine.tolist(), (_SAMPLES, ny * _SAMPLES, nx * _SAMPLES))
        ids = nearest_ids(baseline, pullback(positions), spacing) == lesion.lesion_id
        shares[z] = ids.reshape(_SAMPLES, ny, _SAMPLES, nx, _SAMPLES).mean(axis=(0, 2, 4))
    return shares
