"""Boxes and masks of one scan on another scan's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from ..case.case import MaskPrompt
from ..case.geometry import Array, Box, FloatArray, Geometry, Index, Vector
from ..case.labelmaps import bounding_box, lesion_masks
from .points import Direction, propagate_points
from .register import Transform

# Transforms are smooth: what lies between points this far apart is interpolated, to some hundredths of a mm.
_LATTICE_MM = 4.0
_MAX_FACE_POINTS = 33
_ANCHOR_MM = 40.0
# A voxel much wider than the source's is looked at in this many places along an axis at most.
_MAX_LOOKS = 8
_CHUNK_POINTS = 500_000
_FURTHEST_VOXEL = 1e6

_EMPTY = MaskPrompt(Box((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), np.bool_))

FloatValues = npt.NDArray[np.float32]


def propagate_box(
    box: Box,
    source: Geometry,
    target: Geometry,
    transform: Transform,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> Box:
    """The smallest box of the target's grid round all voxels whose centres lie in the moved box.

    It is at least one voxel thick, and may reach outside of the target or lie there wholly. Only the faces
    are moved, with points 4 mm apart or a 32nd of a side: what is inside of them stays so.

    Raises:
        ValueError: the box is empty, or the transform gives no finite point for it.
    """
    if box.is_empty:
        raise ValueError(f"{box} is empty")
    moved = propagate_points(_face_points(box, source), source, target, transform, direction)
    moved = moved[np.isfinite(moved).all(axis=1)]
    if len(moved) == 0:
        raise ValueError(f"the transform loses {box}")
    low = np.clip(moved.min(axis=0), -_FURTHEST_VOXEL, _FURTHEST_VOXEL)
    high = np.clip(moved.max(axis=0), -_FURTHEST_VOXEL, _FURTHEST_VOXEL)
    start, stop = np.ceil(low - 1e-6), np.floor(high + 1e-6) + 1
    middle = np.floor((low + high) / 2 + 0.5)
    is_thin = stop <= start
    start, stop = np.where(is_thin, middle, start), np.where(is_thin, middle + 1, stop)
    return Box(_index(start), _index(stop))


def _face_points(box: Box, grid: Geometry) -> FloatArray:
    """Points on the outer faces of a box, (N, 3) voxel indices z, y, x."""
    axes = []
    for start, stop, spacing in zip(box.start_zyx, box.stop_zyx, grid.spacing_zyx, strict=True):
        count = int(np.clip(np.ceil((stop - start) * spacing / _LATTICE_MM) + 1, 2, _MAX_FACE_POINTS))
        axes.append(np.linspace(start - 0.5, stop - 0.5, count))
    faces = []
    for axis, side in product(range(3), (0, -1)):
        ends = [values[[side]] if k == axis else values for k, values in enumerate(axes)]
        faces.append(_lattice(ends))
    return np.concatenate(faces)


def box_anchors(box: Box, grid: Geometry) -> list[Vector]:
    """Points of a box for `refined_near`: its middle, or the middles of its parts of 40 mm at most."""
    axes = []
    for start, stop, spacing in zip(box.start_zyx, box.stop_zyx, grid.spacing_zyx, strict=True):
        parts = max(1, int(np.ceil((stop - start) * spacing / _ANCHOR_MM)))
        axes.append(start - 0.5 + (np.arange(parts) + 0.5) * (stop - start) / parts)
    return [(z, y, x) for z, y, x in _lattice(axes).tolist()]


def propagate_mask(
    mask: MaskPrompt,
    source: Geometry,
    target: Geometry,
    transform: Transform,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> MaskPrompt:
    """A lesion's mask on the target's grid, cropped; empty (no voxels at all) when it lies outside.

    Each voxel of the target is sought in the source, in several places where it is the wider one. Those that
    the mask covers most are taken, as many as the mask's moved volume fills, at least one: so volume and
    shape hold from any spacing to any other, and what is thinner than a voxel stays. A mask that all those
    places miss becomes the voxels that hold its voxels' centres.

    Raises:
        ValueError: the transform gives no finite point for it.
    """
    inner = _cropped(mask)
    if inner.box.is_empty:
        return _EMPTY
    moved = propagate_box(inner.box, source, target, transform, direction)
    # A transform and its inverse may differ by a hundredth of a mm.
    reach = Box(_index(np.subtract(moved.start_zyx, 1)), _index(np.add(moved.stop_zyx, 1)))
    reach = reach.intersection(Box.of_shape(target.shape_zyx))
    if reach.is_empty:
        return _EMPTY
    places, count = _covered(inner, source, target, reach, transform, direction)
    if count == 0:
        centres = np.argwhere(inner.voxels) + np.asarray(inner.box.start_zyx)
        places = _holding(propagate_points(centres, source, target, transform, direction), target)
    return _mask_of(places)


def propagate_labels(
    labels: Array,
    source: Geometry,
    target: Geometry,
    transform: Transform,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> Array:
    """A labelmap (z, y, x) of the source as one of the target, ids and number type kept.

    Each lesion is moved as by `propagate_mask`; a voxel that two of them take goes to the smaller one (by
    voxels in the target, the lower id on a tie), so that none is buried. One that the transform loses, or
    that lies outside of the target, has no voxels.
    """
    moved: list[tuple[int, int, MaskPrompt]] = []
    for lesion_id, lesion in lesion_masks(labels):
        try:
            mask = propagate_mask(lesion, source, target, transform, direction)
        except ValueError:
            continue
        moved.append((int(mask.voxels.sum()), lesion_id, mask))
    result: Array = np.zeros(target.shape_zyx, labels.dtype)
    for _, lesion_id, mask in sorted(moved, key=lambda entry: entry[:2], reverse=True):
        result[mask.box.slices][mask.voxels] = lesion_id
    return result


@dataclass(frozen=True, eq=False)
class _Looks:
    """Where the voxels of a box of the target are looked at: ``counts`` places along each axis of a voxel.

    ``knots`` are positions along the three axes, in voxels, at which the transform is asked; ``values``
    (Z, Y, X, 3) are the places in the source that it gave there, voxel indices z, y, x.
    """

    box: Box
    counts: Index
    knots: tuple[FloatArray, FloatArray, FloatArray]
    values: FloatArray

    def slab(self, first: int, last: int) -> FloatArray:
        """Places in the source of all looks of the slices [first, last) of the box, (looks z, y, x, 3)."""
        sizes = self.box.shape_zyx
        values = _interpolated(self.values, self.knots[0], _fine(first, last, self.counts[0]), 0)
        for axis in (1, 2):
            fine = _fine(0, sizes[axis], self.counts[axis])
            values = _interpolated(values, self.knots[axis], fine, axis)
        # Places that the transform loses become ones far from any mask.
        return np.nan_to_num(values, copy=False, nan=-_FURTHEST_VOXEL, posinf=-_FURTHEST_VOXEL)


def _looks(
    reach: Box, source: Geometry, target: Geometry, transform: Transform, direction: Direction
) -> _Looks:
    back = Direction.TO_BASELINE if direction is Direction.TO_FOLLOWUP else Direction.TO_FOLLOWUP
    middle = (np.add(reach.start_zyx, reach.stop_zyx) - 1) / 2
    around = propagate_points(middle + np.eye(4, 3, -1), target, source, transform, back)
    # How many of the source's voxels one of the target's spans along each of its axes.
    spans = np.nan_to_num(np.abs(around[1:] - around[0]).max(axis=1), nan=1.0)
    counts = np.clip(np.round(spans), 1, _MAX_LOOKS).astype(int)
    knots = []
    for size, spacing, count in zip(reach.shape_zyx, target.spacing_zyx, counts, strict=True):
        steps = min(size * count, int(np.ceil(size * spacing / _LATTICE_MM)))
        knots.append(np.linspace(-0.5, size - 0.5, steps + 1))
    lattice = _lattice(knots) + np.asarray(reach.start_zyx)
    values = propagate_points(lattice, target, source, transform, back)
    z, y, x = knots
    return _Looks(reach, _index(counts), (z, y, x), values.reshape(len(z), len(y), len(x), 3))


def _covered(
    inner: MaskPrompt,
    source: Geometry,
    target: Geometry,
    reach: Box,
    transform: Transform,
    direction: Direction,
) -> tuple[npt.NDArray[np.int64], int]:
    """The target's voxels (N, 3) that the mask covers most, and how many: its moved volume in voxels."""
    looks = _looks(reach, source, target, transform, direction)
    padded = np.pad(inner.voxels, 1).astype(np.uint8)
    shift = 1 - np.asarray(inner.box.start_zyx)
    plane = int(np.prod(reach.shape_zyx[1:])) * int(np.prod(looks.counts))
    step = max(1, _CHUNK_POINTS // plane)
    flat, values, volume = [], [], 0.0
    for first in range(0, reach.shape_zyx[0], step):
        last = min(first + step, reach.shape_zyx[0])
        places = np.moveaxis(looks.slab(first, last) + shift, -1, 0)
        smooth = _shares(padded, places, looks.counts, order=1).ravel()
        volume += float(_shares(padded, places, looks.counts, order=0).sum())
        touched = np.flatnonzero(smooth)
        flat.append(touched + first * int(np.prod(reach.shape_zyx[1:])))
        values.append(smooth[touched])
    count = max(1, round(volume)) if volume > 0 else 0
    chosen = np.concatenate(flat)[np.argsort(-np.concatenate(values), kind="stable")[:count]]
    indices = np.stack(np.unravel_index(chosen, reach.shape_zyx), axis=1)
    return indices + np.asarray(reach.start_zyx), count


def _shares(padded: Array, places: FloatArray, counts: Index, order: int) -> FloatValues:
    """The mask's mean over the looks of each voxel, (z, y, x)."""
    values = map_coordinates(padded, places, np.float32, order=order, mode="constant")
    (z, y, x), (cz, cy, cx) = values.shape, counts
    means: FloatValues = values.reshape(z // cz, cz, y // cy, cy, x // cx, cx).mean(axis=(1, 3, 5))
    return means


def _fine(first: int, last: int, count: int) -> FloatArray:
    """Positions of all looks along an axis for the voxels [first, last), in voxels."""
    return first + (np.arange((last - first) * count) + 0.5) / count - 0.5


def _interpolated(values: FloatArray, knots: FloatArray, positions: FloatArray, axis: int) -> FloatArray:
    """Linear interpolation between evenly spaced knots along one axis."""
    steps = (positions - knots[0]) / (knots[1] - knots[0])
    below = np.clip(np.floor(steps).astype(int), 0, len(knots) - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    weight = (steps - below).reshape(shape)
    return values.take(below, axis) * (1 - weight) + values.take(below + 1, axis) * weight


def _holding(points: FloatArray, grid: Geometry) -> npt.NDArray[np.int64]:
    """The voxels (N, 3) of a grid that hold points; those outside are left out."""
    voxels = np.floor(points[np.isfinite(points).all(axis=1)] + 0.5)
    inside = ((voxels >= 0) & (voxels < grid.shape_zyx)).all(axis=1)
    return np.unique(voxels[inside].astype(np.int64), axis=0)


def _mask_of(voxels: npt.NDArray[np.int64]) -> MaskPrompt:
    """The smallest mask that has the given voxels (N, 3)."""
    if len(voxels) == 0:
        return _EMPTY
    start = voxels.min(axis=0)
    box = Box(_index(start), _index(voxels.max(axis=0) + 1))
    mask = np.zeros(box.shape_zyx, np.bool_)
    mask[tuple((voxels - start).T)] = True
    return MaskPrompt(box, mask)


def _cropped(mask: MaskPrompt) -> MaskPrompt:
    box = bounding_box(mask.voxels)
    if box is None:
        return _EMPTY
    return MaskPrompt(box.shifted(mask.box.start_zyx), mask.voxels[box.slices])


def _lattice(axes: Sequence[FloatArray]) -> FloatArray:
    """All combinations of positions along three axes, (N, 3), the last axis quickest."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _index(values: Sequence[float] | npt.NDArray[np.generic]) -> Index:
    z, y, x = (int(value) for value in values)
    return (z, y, x)
