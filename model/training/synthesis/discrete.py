"""Lesion ids on the follow-up's voxels, without ever mixing two ids.

A voxel gets the id of the baseline voxel that its centre comes from. A lesion of few voxels would be lost or
doubled by that; it gets the voxels that it fills most, as many as its volume makes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from ...case.geometry import Array, Box, FloatArray, Vector
from ...propagation.register.field import undone
from .facts import LesionFacts
from .frame import grid_places

SMALL_VOXELS = 100
"""Lesions of at most so many voxels in the baseline are placed by how much of each voxel they fill."""

_SAMPLES = 4  # per axis and voxel
_MARGIN_VOXELS = 3

Pull = Callable[[FloatArray], FloatArray]
"""Places (3, N) of the follow-up, axis mm -> those of the baseline."""


def nearest_ids(labels: Array, places_mm: FloatArray, spacing_zyx: Vector) -> Array:
    """Ids (N,) at baseline places (3, N); 0 outside of the scan."""
    index = np.floor(places_mm / np.reshape(spacing_zyx, (3, 1)) + 0.5).astype(np.int32)
    inside = ((index >= 0) & (index < np.reshape(labels.shape, (3, 1)))).all(axis=0)
    ids = np.zeros(places_mm.shape[1], labels.dtype)
    ids[inside] = labels[tuple(index[:, inside])]
    return ids


def pushed(pull: Pull, places_mm: FloatArray) -> FloatArray:
    """Places (3, N) of the baseline -> those of the follow-up."""
    return undone(lambda points: (pull(points.T) - points.T).T, places_mm.T).T


def place_small(
    followup: Array, baseline: Array, lesion: LesionFacts, pull: Pull, spacing: Vector, expected: float
) -> None:
    """Give a small lesion its voxels in the follow-up's labelmap (z, y, x), which is written to.

    ``expected`` is how many they are by its volume; what lies out of the scan is left out of them.
    """
    box = _reach(lesion, pull, spacing, followup.shape)
    if box.is_empty:
        return
    part = followup[box.slices]
    part[part == lesion.lesion_id] = 0
    filled = _filled(baseline, lesion, pull, spacing, box).ravel()
    ends = zip(box.start_zyx, box.stop_zyx, followup.shape, strict=True)
    inside = all(start > 0 and stop < n for start, stop, n in ends)
    count = max(1, round(expected)) if inside else round(float(filled.sum()))
    free = np.flatnonzero((part == 0).ravel() & ((filled > 0) | inside))
    # Of voxels filled alike, as are those that it does not reach, the nearest to its centre.
    first = np.multiply(box.start_zyx, spacing).tolist()
    places = grid_places(first, spacing, box.shape_zyx)[:, free]
    centre = pushed(pull, np.reshape(np.multiply(lesion.centre_zyx, spacing), (3, 1)))
    distance = np.linalg.norm(places - centre, axis=0)
    best = free[np.lexsort((distance, -filled[free]))[:count]]
    part[np.unravel_index(best, part.shape)] = lesion.lesion_id


def _reach(lesion: LesionFacts, pull: Pull, spacing: Vector, shape: tuple[int, ...]) -> Box:
    """Where a lesion can lie in the follow-up: the box of its box's corners, and a margin."""
    corners = np.asarray(
        list(product(*zip(np.subtract(lesion.box.start_zyx, 1), lesion.box.stop_zyx, strict=True))), float
    )
    corners = np.vstack([corners, np.asarray(lesion.centre_zyx)])
    moved = pushed(pull, corners.T * np.reshape(spacing, (3, 1))) / np.reshape(spacing, (3, 1))
    start = np.floor(moved.min(axis=1)).astype(int) - _MARGIN_VOXELS
    stop = np.ceil(moved.max(axis=1)).astype(int) + _MARGIN_VOXELS + 1
    return Box(tuple(start.tolist()), tuple(stop.tolist())).intersection(Box.of_shape(shape))


def _filled(baseline: Array, lesion: LesionFacts, pull: Pull, spacing: Vector, box: Box) -> FloatArray:
    """The share of each voxel of a follow-up's box that comes from the lesion."""
    fine = np.divide(spacing, _SAMPLES)
    first = (np.asarray(box.start_zyx) - 0.5) * spacing + fine / 2
    nz, ny, nx = box.shape_zyx
    shares = np.zeros(box.shape_zyx)
    for z in range(nz):
        start = (first[0] + z * spacing[0], first[1], first[2])
        places = grid_places(start, fine.tolist(), (_SAMPLES, ny * _SAMPLES, nx * _SAMPLES))
        ids = nearest_ids(baseline, pull(places), spacing) == lesion.lesion_id
        shares[z] = ids.reshape(_SAMPLES, ny, _SAMPLES, nx, _SAMPLES).mean(axis=(0, 2, 4))
    return shares
