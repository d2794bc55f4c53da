"""Resampling by splines, as nnU-Net resamples (docs/interactive.md, steps 4 and 11).

The numbers are those of `skimage.transform.resize` (mode ``edge``, no anti-aliasing) on float64, which the
published networks for PET/CT were trained with; other networks use `resample`. Linear splines can be confined
to a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..case.geometry import Array, Box, Index
from .resample import FloatVolume

# Ratio of the largest spacing to the smallest above which the coarsest axis is resampled by itself.
_ANISOTROPY = 3


def coarse_axis(spacing_mm: Sequence[float], target_mm: Sequence[float]) -> int | None:
    """The axis along which the nearest slice is taken instead of a spline.

    Args:
        spacing_mm: of the volume before resampling, along its axes; it decides if it is anisotropic.
        target_mm: after resampling, along the same axes; it decides otherwise.

    Returns:
        The coarsest axis of the anisotropic grid; None without one, or if several axes are equally coarse.
    """
    for spacing in (spacing_mm, target_mm):
        if max(spacing) / min(spacing) > _ANISOTROPY:
            coarsest = [axis for axis, value in enumerate(spacing) if max(spacing) / value == 1]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def resample_volume(volume: Array, shape: Index, order: int, coarse: int | None = None) -> FloatVolume:
    """Resample a volume to a shape.

    Args:
        volume: 3-D, any number type.
        shape: after resampling, along the same axes.
        order: of the spline, 3 for images and 1 for logits.
        coarse: axis along which the nearest slice is taken, see `coarse_axis`.

    Returns:
        float32 of the given shape, within the range of the volume; untouched if it has this shape.
    """
    if volume.shape == tuple(shape):
        return np.ascontiguousarray(volume, np.float32)
    values = volume.astype(np.float64)
    if coarse is None:
        return _zoomed(values, shape, order)
    slices = np.moveaxis(values, coarse, 0)
    in_plane = [n for axis, n in enumerate(shape) if axis != coarse]
    sharp = np.stack([_zoomed(one, in_plane, order) for one in slices])
    nearest = _nearest_indices(len(slices), shape[coarse])
    return np.ascontiguousarray(np.moveaxis(sharp[nearest], 0, coarse))


def _zoomed(values: npt.NDArray[np.float64], shape: Sequence[int], order: int) -> npt.NDArray[np.float32]:
    """Interpolate an image of any number of axes; the spline must not leave the image's range."""
    factors = [1 / (n_in / n_out) for n_in, n_out in zip(values.shape, shape, strict=True)]
    zoomed = ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    np.clip(zoomed, values.min(), values.max(), out=zoomed)
    values_32: FloatVolume = zoomed.astype(np.float32)
    return values_32


def _nearest_indices(n_in: int, n_out: int) -> npt.NDArray[np.int64]:
    """The input slice nearest to the centre of each output slice; halves go up."""
    centres = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    indices: npt.NDArray[np.int64] = np.clip(np.floor(centres + 0.5).astype(np.int64), 0, n_in - 1)
    return indices


def resample_linear(
    volume: Array, shape: Index, coarse: int | None = None, box: Box | None = None
) -> FloatVolume:
    """Resample a box of a volume linearly.

    A voxel's value depends on its own neighbours alone: a box has exactly the numbers of the whole.

    Args:
        volume: the whole volume, 3-D, finite numbers of any type.
        shape: of the whole volume after resampling, along the same axes.
        coarse: axis along which the nearest slice is taken, see `coarse_axis`.
        box: output voxels; None for all of them.

    Returns:
        float32 of the box's shape.
    """
    whole = Box.of_shape(shape)
    z, y, x = _linear_samples(volume.shape, shape, coarse, whole if box is None else box)
    values = np.empty((len(z.weight), len(y.weight), len(x.weight)), np.float32)
    planes: dict[int, npt.NDArray[np.float64]] = {}
    for number, (lower, upper, weight) in enumerate(zip(z.lower, z.upper, z.weight, strict=True)):
        # The lower index never decreases: what lies below it is not needed again.
        planes = {index: plane for index, plane in planes.items() if index >= lower}
        for index in (lower, upper):
            if index not in planes:
                planes[index] = y.along(x.along(volume[index].astype(np.float64), 1), 0)
        values[number] = planes[lower] * (1 - weight) + planes[upper] * weight
    return values


def linear_reach(shape_in: Sequence[int], shape_out: Sequence[int], coarse: int | None, box: Box) -> Box:
    """The output voxels whose linear interpolation uses any input voxel of a box.

    Args:
        shape_in: shape of the whole volume before resampling.
        shape_out: shape of the whole volume after resampling, along the same axes.
        coarse: as for `resample_linear`.
        box: box of input voxels.

    Returns:
        Box of output voxels; may be empty.
    """
    bounds = []
    samples = _linear_samples(shape_in, shape_out, coarse, Box.of_shape(shape_out))
    for axis, (start, stop) in zip(samples, box.bounds(), strict=True):
        reached = np.flatnonzero((axis.upper >= start) & (axis.lower < stop))
        bounds.append((int(reached[0]), int(reached[-1]) + 1) if reached.size else (0, 0))
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


@dataclass(frozen=True, eq=False)
class _LinearSamples:
    """Both input neighbours of each output voxel along one axis, and the weight of the upper one."""

    lower: npt.NDArray[np.int64]
    upper: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]

    def along(self, plane: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        """Interpolate a plane along one of its axes."""
        weight = self.weight if axis else self.weight[:, None]
        lower, upper = plane.take(self.lower, axis), plane.take(self.upper, axis)
        lower *= 1 - weight
        upper *= weight
        lower += upper
        return lower


def _linear_samples(
    shape_in: Sequence[int], shape_out: Sequence[int], coarse: int | None, box: Box
) -> list[_LinearSamples]:
    """The samples of a box's voxels along each axis."""
    samples = []
    for axis, (n_in, n_out, (start, stop)) in enumerate(zip(shape_in, shape_out, box.bounds(), strict=True)):
        if axis == coarse:
            nearest = _nearest_indices(n_in, n_out)[start:stop]
            samples.append(_LinearSamples(nearest, nearest, np.zeros(len(nearest))))
            continue
        position = np.clip((np.arange(start, stop) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
        lower = np.floor(position).astype(np.int64)
        samples.append(_LinearSamples(lower, np.minimum(lower + 1, n_in - 1), position - lower))
    return samples
