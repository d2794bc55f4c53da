"""Propagation of boxes and masks from one scan to another."""

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

# Transforms are smooth: between points this far apart they are interpolated, to a few hundredths of a mm.
_LATTICE_MM = 4.0
_MAX_FACE_POINTS = 33
_ANCHOR_MM = 40.0
# Largest number of samples along an axis of a target voxel that is much wider than the source's.
_MAX_SAMPLES = 8
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
    """Propagate a box: the smallest box around all target voxels whose centres lie in the mapped box.

    Only points on the faces are mapped, 4 mm or a 32nd of a side apart, as the inside stays inside.

    Args:
        box: voxels of the source.
        source: grid of the scan to propagate from.
        target: grid of the scan to propagate to.
        transform: follow-up (fixed) to baseline (moving), in world coordinates, LPS mm.
        direction: from which of the two scans to which.

    Returns:
        Box in voxels of the target, at least one voxel thick; it may lie partly or wholly outside.

    Raises:
        ValueError: the box is empty, or the transform gives no finite point for it.
    """
    if box.is_empty:
        raise ValueError(f"{box} is empty")
    mapped = propagate_points(_face_points(box, source), source, target, transform, direction)
    mapped = mapped[np.isfinite(mapped).all(axis=1)]
    if len(mapped) == 0:
        raise ValueError(f"the transform loses {box}")
    low = np.clip(mapped.min(axis=0), -_FURTHEST_VOXEL, _FURTHEST_VOXEL)
    high = np.clip(mapped.max(axis=0), -_FURTHEST_VOXEL, _FURTHEST_VOXEL)
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
    """Points of a box near which to refine a registration, see `refine_near`.

    Args:
        box: voxels of a scan.
        grid: grid of that scan.

    Returns:
        Voxel indices z, y, x: the centre of the box, or the centres of its parts of at most 40 mm.
    """
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
    """Propagate a lesion's mask; volume and shape are kept between any spacings.

    Each target voxel is mapped to the source, at several points if it is wider than the source's voxels. The
    voxels that the mask covers most become the new mask, as many as the mapped volume fills, at least one,
    so that parts thinner than a voxel are kept. If all points miss the mask, the result is the voxels that
    contain the mapped centres of its voxels.

    Args:
        mask: on the grid of the source.
        source: grid of the scan to propagate from.
        target: grid of the scan to propagate to.
        transform: follow-up (fixed) to baseline (moving), in world coordinates, LPS mm.
        direction: from which of the two scans to which.

    Returns:
        The mask on the grid of the target, cropped; empty (without voxels) if it lies outside.

    Raises:
        ValueError: the transform gives no finite point for it.
    """
    inner = _cropped(mask)
    if inner.box.is_empty:
        return _EMPTY
    box = propagate_box(inner.box, source, target, transform, direction)
    # A transform and its inverse may differ by a hundredth of a mm.
    reach = Box(_index(np.subtract(box.start_zyx, 1)), _index(np.add(box.stop_zyx, 1)))
    reach = reach.intersection(Box.of_shape(target.shape_zyx))
    if reach.is_empty:
        return _EMPTY
    voxels, count = _most_covered(inner, source, target, reach, transform, direction)
    if count == 0:
        centres = np.argwhere(inner.voxels) + np.asarray(inner.box.start_zyx)
        voxels = _voxels_at(propagate_points(centres, source, target, transform, direction), target)
    return _mask_of(voxels)


def propagate_labels(
    labels: Array,
    source: Geometry,
    target: Geometry,
    transform: Transform,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> Array:
    """Propagate a labelmap, lesion by lesion as `propagate_mask` does.

    Args:
        labels: labelmap (z, y, x) on the grid of the source.
        source: grid of the scan to propagate from.
        target: grid of the scan to propagate to.
        transform: follow-up (fixed) to baseline (moving), in world coordinates, LPS mm.
        direction: from which of the two scans to which.

    Returns:
        Labelmap (z, y, x) on the grid of the target with the same ids and dtype. A voxel claimed by two
        lesions is assigned to the smaller one (by voxels in the target; the lower id on a tie). Lesions that
        the transform loses, or that lie outside of the target, have no voxels.
    """
    propagated: list[tuple[int, int, MaskPrompt]] = []
    for lesion_id, lesion in lesion_masks(labels):
        try:
            mask = propagate_mask(lesion, source, target, transform, direction)
        except ValueError:
            continue
        propagated.append((int(mask.voxels.sum()), lesion_id, mask))
    result: Array = np.zeros(target.shape_zyx, labels.dtype)
    for _, lesion_id, mask in sorted(propagated, key=lambda entry: entry[:2], reverse=True):
        result[mask.box.slices][mask.voxels] = lesion_id
    return result


@dataclass(frozen=True, eq=False)
class _SampleGrid:
    """Sample points in the voxels of a box of the target, mapped to the source by interpolation.

    Attributes:
        box: voxels of the target.
        counts: samples along the axes z, y, x of a voxel.
        knots: positions along the three axes, in voxels, at which the transform is evaluated.
        values: (Z, Y, X, 3) the mapped knots, voxel indices z, y, x on the source.
    """

    box: Box
    counts: Index
    knots: tuple[FloatArray, FloatArray, FloatArray]
    values: FloatArray

    def slab(self, first: int, last: int) -> FloatArray:
        """Mapped samples of the slices [first, last) of the box, (samples z, y, x, 3) on the source."""
        sizes = self.box.shape_zyx
        values = _interpolated(self.values, self.knots[0], _fine(first, last, self.counts[0]), 0)
        for axis in (1, 2):
            fine = _fine(0, sizes[axis], self.counts[axis])
            values = _interpolated(values, self.knots[axis], fine, axis)
        # Samples that the transform loses are put far away from any mask.
        return np.nan_to_num(values, copy=False, nan=-_FURTHEST_VOXEL, posinf=-_FURTHEST_VOXEL)


def _sample_grid(
    reach: Box, source: Geometry, target: Geometry, transform: Transform, direction: Direction
) -> _SampleGrid:
    back = Direction.TO_BASELINE if direction is Direction.TO_FOLLOWUP else Direction.TO_FOLLOWUP
    middle = (np.add(reach.start_zyx, reach.stop_zyx) - 1) / 2
    around = propagate_points(middle + np.eye(4, 3, -1), target, source, transform, back)
    # Number of source voxels that a target voxel spans along each of its axes.
    spans = np.nan_to_num(np.abs(around[1:] - around[0]).max(axis=1), nan=1.0)
    counts = np.clip(np.round(spans), 1, _MAX_SAMPLES).astype(int)
    knots = []
    for size, spacing, count in zip(reach.shape_zyx, target.spacing_zyx, counts, strict=True):
        steps = min(size * count, int(np.ceil(size * spacing / _LATTICE_MM)))
        knots.append(np.linspace(-0.5, size - 0.5, steps + 1))
    lattice = _lattice(knots) + np.asarray(reach.start_zyx)
    values = propagate_points(lattice, target, source, transform, back)
    z, y, x = knots
    return _SampleGrid(reach, _index(counts), (z, y, x), values.reshape(len(z), len(y), len(x), 3))


def _most_covered(
    inner: MaskPrompt,
    source: Geometry,
    target: Geometry,
    reach: Box,
    transform: Transform,
    direction: Direction,
) -> tuple[npt.NDArray[np.int64], int]:
    """The target's voxels (N, 3) that the mask covers most, and N: its mapped volume in voxels."""
    samples = _sample_grid(reach, source, target, transform, direction)
    padded = np.pad(inner.voxels, 1).astype(np.uint8)
    shift = 1 - np.asarray(inner.box.start_zyx)
    plane = int(np.prod(reach.shape_zyx[1:])) * int(np.prod(samples.counts))
    step = max(1, _CHUNK_POINTS // plane)
    flat, values, volume = [], [], 0.0
    for first in range(0, reach.shape_zyx[0], step):
        last = min(first + step, reach.shape_zyx[0])
        points = np.moveaxis(samples.slab(first, last) + shift, -1, 0)
        smooth = _coverage(padded, points, samples.counts, order=1).ravel()
        volume += float(_coverage(padded, points, samples.counts, order=0).sum())
        touched = np.flatnonzero(smooth)
        flat.append(touched + first * int(np.prod(reach.shape_zyx[1:])))
        values.append(smooth[touched])
    count = max(1, round(volume)) if volume > 0 else 0
    chosen = np.concatenate(flat)[np.argsort(-np.concatenate(values), kind="stable")[:count]]
    indices = np.stack(np.unravel_index(chosen, reach.shape_zyx), axis=1)
    return indices + np.asarray(reach.start_zyx), count


def _coverage(padded: Array, points: FloatArray, counts: Index, order: int) -> FloatValues:
    """Mean of the mask over the samples of each voxel, (z, y, x)."""
    values = map_coordinates(padded, points, np.float32, order=order, mode="constant")
    (z, y, x), (cz, cy, cx) = values.shape, counts
    means: FloatValues = values.reshape(z // cz, cz, y // cy, cy, x // cx, cx).mean(axis=(1, 3, 5))
    return means


def _fine(first: int, last: int, count: int) -> FloatArray:
    """Positions of all samples along an axis for the voxels [first, last), in voxels."""
    return first + (np.arange((last - first) * count) + 0.5) / count - 0.5


def _interpolated(values: FloatArray, knots: FloatArray, positions: FloatArray, axis: int) -> FloatArray:
    """Linear interpolation between evenly spaced knots along one axis."""
    steps = (positions - knots[0]) / (knots[1] - knots[0])
    below = np.clip(np.floor(steps).astype(int), 0, len(knots) - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    weight: FloatArray = (steps - below).reshape(shape)
    before: FloatArray = values.take(below, axis)
    after: FloatArray = values.take(below + 1, axis)
    return before * (1 - weight) + after * weight


def _voxels_at(points: FloatArray, grid: Geometry) -> npt.NDArray[np.int64]:
    """The voxels (N, 3) of a grid that contain points; points outside are left out."""
    voxels = np.floor(points[np.isfinite(points).all(axis=1)] + 0.5)
    inside = ((voxels >= 0) & (voxels < grid.shape_zyx)).all(axis=1)
    return np.unique(voxels[inside].astype(np.int64), axis=0)


def _mask_of(voxels: npt.NDArray[np.int64]) -> MaskPrompt:
    """The smallest mask that contains the given voxels (N, 3)."""
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
    """All combinations of positions along three axes, (N, 3), the last axis fastest."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _index(values: Sequence[float] | npt.NDArray[np.generic]) -> Index:
    z, y, x = (int(value) for value in values)
    return (z, y, x)
