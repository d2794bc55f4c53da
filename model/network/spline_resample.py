"""Resampling of whole volumes by splines, as nnU-Net resamples them (docs/interactive.md, steps 4 and 11).

The numbers are those of `skimage.transform.resize` (mode ``edge``, no anti-aliasing) on float64, which the
published networks for PET/CT were trained with; other networks use `resample`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..case.geometry import Array, Index
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
