"""Trilinear resampling of boxes, equal to torch's interpolation of the whole volume.

Only the voxels that a patch needs are resampled. On CPUs with fused multiply-add the result equals the crop
of ``torch.nn.functional.interpolate(mode="trilinear", align_corners=False)`` of the whole volume bit for bit;
the published model was run with that function (docs/model_recipe.md, steps 3, 4, 5 and 11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..case.geometry import Array, Box, Index

FloatVolume = npt.NDArray[np.float32]


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]) -> Index:
    """The shape of an image after resampling.

    Args:
        shape: of the image, in voxels.
        spacing_mm: of the image, along the same axes.
        target_mm: spacing after resampling, along the same axes.

    Returns:
        Shape along the same axes, at least 1; halves are rounded to even.
    """
    a, b, c = (max(1, round(s / t * n)) for n, s, t in zip(shape, spacing_mm, target_mm, strict=True))
    return (a, b, c)


def resampled_index(
    point: Sequence[float],
    spacing_mm: Sequence[float],
    target_mm: Sequence[float],
    shape: Sequence[int],
    rounds: bool = False,
) -> Index:
    """The voxel of the resampled image that belongs to a point of the original one.

    As in training, the index is multiplied, divided and truncated, without a half-voxel correction. It is
    clipped to the image, since rounding can make the resampled shape one voxel too short for the point.

    Args:
        point: voxel index on the original image.
        spacing_mm: of the original image, along the same axes.
        target_mm: spacing of the resampled image.
        shape: of the resampled image, in voxels.
        rounds: rounds to the nearest voxel, halves to even, instead of truncating.

    Returns:
        Integer voxel index on the resampled image, along the same axes.
    """
    whole = round if rounds else int
    a, b, c = (
        min(max(whole(p * s / t), 0), n - 1)
        for p, s, t, n in zip(point, spacing_mm, target_mm, shape, strict=True)
    )
    return (a, b, c)


@dataclass(frozen=True, eq=False)
class _AxisSamples:
    """Both input neighbours of each output voxel along one axis, and the weight of the upper one."""

    lower: npt.NDArray[np.int64]
    upper: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]


def _axis_samples(n_in: int, n_out: int, start: int, stop: int) -> _AxisSamples:
    scale = np.float64(np.float32(n_in) / np.float32(n_out))
    # Torch fuses the product and the subtraction: exact in float64, rounded once.
    centre = ((np.arange(start, stop) + 0.5) * scale - 0.5).astype(np.float32)
    position = np.maximum(centre, np.float32(0))
    lower = np.minimum(position.astype(np.int64), n_in - 1)
    upper = np.minimum(lower + 1, n_in - 1)
    return _AxisSamples(lower, upper, np.clip(position - lower.astype(np.float32), 0, 1).astype(np.float32))


def source_box(shape_in: Sequence[int], shape_out: Sequence[int], box_out: Box) -> Box:
    """The input voxels from which the output voxels of a box are interpolated.

    Args:
        shape_in: shape of the whole image before resampling.
        shape_out: shape of the whole image after resampling, along the same axes.
        box_out: non-empty box of output voxels inside the image.

    Returns:
        Box of input voxels.
    """
    bounds = []
    for n_in, n_out, start, stop in zip(
        shape_in, shape_out, box_out.start_zyx, box_out.stop_zyx, strict=True
    ):
        samples = _axis_samples(n_in, n_out, start, stop)
        bounds.append((int(samples.lower[0]), int(samples.upper[-1]) + 1))
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


def touched_box(shape_in: Sequence[int], shape_out: Sequence[int], box_in: Box) -> Box:
    """The output voxels whose interpolation uses any input voxel of a box.

    Args:
        shape_in: shape of the whole image before resampling.
        shape_out: shape of the whole image after resampling, along the same axes.
        box_in: box of input voxels.

    Returns:
        Box of output voxels; may be empty.
    """
    bounds = []
    for n_in, n_out, start, stop in zip(shape_in, shape_out, box_in.start_zyx, box_in.stop_zyx, strict=True):
        samples = _axis_samples(n_in, n_out, 0, n_out)
        touched = np.flatnonzero((samples.upper >= start) & (samples.lower < stop))
        bounds.append((int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0))
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


def resample_box(
    source: Array,
    source_start: Sequence[int],
    shape_in: Sequence[int],
    shape_out: Sequence[int],
    box_out: Box,
) -> FloatVolume:
    """Interpolate the output voxels of a box.

    Args:
        source: input voxels, at least those of `source_box`; taken as float32.
        source_start: voxel index of the source's first voxel on the whole input image.
        shape_in: shape of the whole image before resampling.
        shape_out: shape of the whole image after resampling, along the same axes.
        box_out: box of output voxels inside the image.

    Returns:
        float32 array of the box's shape.
    """
    volume = torch.from_numpy(np.ascontiguousarray(source, dtype=np.float32))
    if tuple(shape_in) != tuple(shape_out):
        for axis in (2, 1, 0):
            samples = _axis_samples(
                shape_in[axis], shape_out[axis], box_out.start_zyx[axis], box_out.stop_zyx[axis]
            )
            volume = _interpolate_axis(volume, axis, samples, source_start[axis])
        return volume.numpy()
    inner = box_out.shifted([-start for start in source_start])
    return np.ascontiguousarray(volume.numpy()[inner.slices])


def _interpolate_axis(volume: torch.Tensor, axis: int, samples: _AxisSamples, start: int) -> torch.Tensor:
    view = [1, 1, 1]
    view[axis] = -1
    upper_weight = torch.from_numpy(samples.weight).view(view)
    lower = volume.index_select(axis, torch.from_numpy(samples.lower - start))
    upper = volume.index_select(axis, torch.from_numpy(samples.upper - start))
    # The order of operands in which torch's own kernel fuses; any other differs in the last bit.
    return torch.addcmul(upper.mul_(upper_weight), lower, 1 - upper_weight)
