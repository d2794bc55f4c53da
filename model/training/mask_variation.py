"""Vary the baseline mask of training samples, so that the network cannot simply copy it.

In synthetic follow-ups the baseline mask, moved to the follow-up point, is already close to the target. A
network trained on it alone learns to redraw the mask, whatever the follow-up shows. A mask that is missing,
too small, too large, beside its lesion, or of another shape has to be checked against both images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..case.geometry import Index
from ..network.resample import FloatVolume

_Mask = npt.NDArray[np.bool_]

# Depths and widths are shares of the lesion's inner radius: the largest distance of a voxel to its surface.
_ERODED, _DILATED = (0.2, 0.8), (0.3, 1.0)
_LEAST_SHIFT, _REPLACED_RADII = 2.0, (0.5, 2.0)


def vary_mask(mask: FloatVolume, point: Index, rng: np.random.Generator) -> FloatVolume:
    """Drop, erode, dilate, shift or replace a mask, each with equal probability.

    Args:
        mask: float32 [z, y, x], the baseline lesion as 0 and 1.
        point: voxel (z, y, x) of the baseline point in the patch; an ellipsoid around it replaces the lesion.
        rng: source of the draws.

    Returns:
        float32 [z, y, x], 0 and 1; the mask itself if it is empty.
    """
    lesion = mask > 0.5
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    if not lesion.any():
        return mask
    varied: FloatVolume = kind(lesion, point, rng).astype(np.float32)
    return varied


def _dropped(lesion: _Mask, point: Index, rng: np.random.Generator) -> _Mask:
    return np.zeros_like(lesion)


def _eroded(lesion: _Mask, point: Index, rng: np.random.Generator) -> _Mask:
    depth = _depth(lesion)
    return np.asarray(depth > rng.uniform(*_ERODED) * depth.max())


def _dilated(lesion: _Mask, point: Index, rng: np.random.Generator) -> _Mask:
    width = max(1.0, rng.uniform(*_DILATED) * float(_depth(lesion).max()))
    return np.asarray(ndimage.distance_transform_edt(~lesion) <= width)


def _shifted(lesion: _Mask, point: Index, rng: np.random.Generator) -> _Mask:
    reach = max(_LEAST_SHIFT, float(_depth(lesion).max()))
    limits = np.asarray(lesion.shape)  # at most out of the patch
    steps = np.clip(np.rint(rng.uniform(-reach, reach, 3)).astype(int), -limits, limits).tolist()
    moved = np.zeros_like(lesion)
    target = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(steps, lesion.shape, strict=True))
    source = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(steps, lesion.shape, strict=True))
    moved[target] = lesion[source]
    return moved


def _replaced(lesion: _Mask, point: Index, rng: np.random.Generator) -> _Mask:
    """An ellipsoid of about the lesion's size around the point."""
    radius = max(1.0, (3 * float(lesion.sum()) / (4 * np.pi)) ** (1 / 3))
    radii = radius * np.exp(rng.uniform(np.log(_REPLACED_RADII[0]), np.log(_REPLACED_RADII[1]), 3))
    axes = (np.arange(n) - p for n, p in zip(lesion.shape, point, strict=True))
    z, y, x = (axis / r for axis, r in zip(axes, radii, strict=True))
    return np.asarray(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= 1)


def _depth(lesion: _Mask) -> npt.NDArray[np.float64]:
    """Distance of each voxel of the lesion to its surface in voxels; the patch's border is no surface."""
    if lesion.all():
        return np.full(lesion.shape, float(max(lesion.shape)))
    return np.asarray(ndimage.distance_transform_edt(lesion), np.float64)


_KINDS: tuple[Callable[[_Mask, Index, np.random.Generator], _Mask], ...] = (
    _dropped,
    _eroded,
    _dilated,
    _shifted,
    _replaced,
)
