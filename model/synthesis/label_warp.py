"""Lesion ids on the follow-up's voxels, without ever mixing two ids.

A voxel gets the id of the baseline voxel that its centre comes from. A lesion of few voxels would be lost or
doubled by that; it gets the voxels that it fills most, as many as its volume makes.
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
"""Lesions of at most so many voxels in the baseline are placed by how much of each voxel they fill."""

_SAMPLES = 4  # per axis and voxel
_MARGIN_VOXELS = 3
# In larger boxes only what is near to the pieces of a scattered lesion is looked at.
_MAX_SAMPLED_VOXELS = 30_000

PositionMap = Callable[[FloatArray], FloatArray]
"""Places (3, N) of the follow-up, axis mm -> those of the baseline."""


def nearest_ids(labels: Array, places_mm: FloatArray, spacing_zyx: Vector) -> Array:
    """Ids (N,) at baseline places (3, N); 0 outside of the scan."""
    index = np.floor(places_mm / np.reshape(spacing_zyx, (3, 1)) + 0.5).astype(np.int32)
    inside = ((index >= 0) & (index < np.reshape(labels.shape, (3, 1)))).all(axis=0)
    ids = np.zeros(places_mm.shape[1], labels.dtype)
    ids[inside] = labels[tuple(index[:, inside])]
    return ids


def push_forward(pull: PositionMap, places_mm: FloatArray) -> FloatArray:
    """Places (3, N) of the baseline -> those of the follow-up."""
    return invert_displacement(lambda points: (pull(points.T) - points.T).T, places_mm.T).T


def place_small(
    followup: Array,
    baseline: Array,
    lesion: LabelledLesion,
    pull: PositionMap,
    spacing: Vector,
    expected: float,
) -> None:
    """Give a small lesion its voxels in the follow-up's labelmap (z, y, x), which is written to.

    ``expected`` is how many they are by its volume; what lies out of the scan is left out of them.
    """
    box = _reach(lesion.box, lesion.centre_zyx, pull, spacing, followup.shape)
    if box.is_empty:
        return
    for plane in followup[box.slices]:
        plane[plane == lesion.lesion_id] = 0
    near = _candidates(baseline, lesion, pull, spacing, box)
    ends = zip(box.start_zyx, box.stop_zyx, followup.shape, strict=True)
    inside = all(start > 0 and stop < n for start, stop, n in ends)
    count = max(1, round(expected)) if inside else round(float(near.filled.sum()))
    is_free = followup[tuple(near.index_zyx)] == 0
    free = np.flatnonzero(is_free & ((near.filled > 0) | inside))
    # Of voxels filled alike, as are those that it does not reach, the nearest to its centre.
    best = free[np.lexsort((near.distance_mm[free], -near.filled[free]))[:count]]
    followup[tuple(near.index_zyx[:, best])] = lesion.lesion_id


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Voxels (3, N) of the follow-up, in the order of a raveled array, the share of each that comes from the
    lesion, and how far it is from the centre of the lesion (or of its nearest piece)."""

    index_zyx: Array
    filled: FloatArray
    distance_mm: FloatArray


def _candidates(
    baseline: Array, lesion: LabelledLesion, pull: PositionMap, spacing: Vector, box: Box
) -> _Candidates:
    """The voxels of a box, or where pieces lie scattered over a large one, those near to the pieces."""
    if np.prod(box.shape_zyx) <= _MAX_SAMPLED_VOXELS:
        return _sampled(baseline, lesion, lesion.centre_zyx, pull, spacing, box)
    found = []
    for piece in _pieces(baseline, lesion):
        start, stop = piece.min(axis=0).tolist(), (piece.max(axis=0) + 1).tolist()
        z, y, x = piece.mean(axis=0).tolist()
        around = _reach(Box(tuple(start), tuple(stop)), (z, y, x), pull, spacing, baseline.shape)
        if not around.is_empty:
            found.append(_sampled(baseline, lesion, (z, y, x), pull, spacing, around))
    if not found:
        return _Candidates(np.empty((3, 0), int), np.empty(0), np.empty(0))
    index = np.concatenate([part.index_zyx for part in found], axis=1)
    distance = np.concatenate([part.distance_mm for part in found])
    # A voxel near to several pieces counts once, for the nearest of them.
    order = np.lexsort((distance, *index[::-1]))
    index, distance = index[:, order], distance[order]
    filled = np.concatenate([part.filled for part in found])[order]
    first = np.ones(len(order), bool)
    first[1:] = (index[:, 1:] != index[:, :-1]).any(axis=0)
    return _Candidates(index[:, first], filled[first], distance[first])


def _sampled(
    baseline: Array, lesion: LabelledLesion, centre_zyx: Vector, pull: PositionMap, spacing: Vector, box: Box
) -> _Candidates:
    """All voxels of a box."""
    places = grid_positions(np.multiply(box.start_zyx, spacing).tolist(), spacing, box.shape_zyx)
    centre = push_forward(pull, np.reshape(np.multiply(centre_zyx, spacing), (3, 1)))
    index = np.indices(box.shape_zyx).reshape(3, -1) + np.reshape(box.start_zyx, (3, 1))
    filled = _filled(baseline, lesion, pull, spacing, box).ravel()
    return _Candidates(index, filled, np.linalg.norm(places - centre, axis=0))


def _pieces(baseline: Array, lesion: LabelledLesion) -> list[Array]:
    """The connected pieces (26 neighbours) of a lesion of few voxels: voxel indices (N, 3) of each."""
    start = np.asarray(lesion.box.start_zyx)
    planes = enumerate(baseline[lesion.box.slices])
    found = [
        np.stack([np.full(y.size, z), y, x], 1)
        for z, (y, x) in ((z, np.nonzero(plane == lesion.lesion_id)) for z, plane in planes)
        if y.size
    ]
    voxels = np.concatenate(found) + start
    touching = np.abs(voxels[:, None] - voxels[None]).max(axis=2) <= 1
    count, pieces = connected_components(touching, directed=False)
    return [voxels[pieces == n] for n in range(count)]


def _reach(box: Box, centre_zyx: Vector, pull: PositionMap, spacing: Vector, shape: tuple[int, ...]) -> Box:
    """Where a box's lesion can lie in the follow-up: the box of its box's corners, and a margin."""
    corners = np.asarray(list(product(*zip(np.subtract(box.start_zyx, 1), box.stop_zyx, strict=True))), float)
    corners = np.vstack([corners, np.asarray(centre_zyx)])
    moved = push_forward(pull, corners.T * np.reshape(spacing, (3, 1))) / np.reshape(spacing, (3, 1))
    start = np.floor(moved.min(axis=1)).astype(int) - _MARGIN_VOXELS
    stop = np.ceil(moved.max(axis=1)).astype(int) + _MARGIN_VOXELS + 1
    return Box(tuple(start.tolist()), tuple(stop.tolist())).intersection(Box.of_shape(shape))


def _filled(
    baseline: Array, lesion: LabelledLesion, pull: PositionMap, spacing: Vector, box: Box
) -> FloatArray:
    """The share of each voxel of a follow-up's box that comes from the lesion."""
    fine = np.divide(spacing, _SAMPLES)
    first = (np.asarray(box.start_zyx) - 0.5) * spacing + fine / 2
    nz, ny, nx = box.shape_zyx
    shares = np.zeros(box.shape_zyx)
    for z in range(nz):
        start = (first[0] + z * spacing[0], first[1], first[2])
        places = grid_positions(start, fine.tolist(), (_SAMPLES, ny * _SAMPLES, nx * _SAMPLES))
        ids = nearest_ids(baseline, pull(places), spacing) == lesion.lesion_id
        shares[z] = ids.reshape(_SAMPLES, ny, _SAMPLES, nx, _SAMPLES).mean(axis=(0, 2, 4))
    return shares
