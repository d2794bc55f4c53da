"""Tissue: fill in a removed lesion, and generate texture."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import Mask, Volume

# Widths at which a hole is filled from its rim; each voxel takes the narrowest one that reaches it.
_FILLING_MM = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0)
_LEAST_WEIGHT = 0.02
_RELAXATIONS = 25
# Texture is what a blur of this width removes; it is correlated over about a voxel.
_TEXTURE_MM = 2.5
_GRAIN_VOXELS = 0.7
_MAD_TO_DEVIATION = 1.4826
_RIM_MM = 6.0


def fill_hole(hu: Volume, hole: Mask, usable: Mask, spacing_zyx: Vector, seed: int) -> Volume:
    """Fill a hole from the usable voxels around it.

    The base is smooth: normalised convolutions of growing width, relaxed until it joins the rim without a
    step (as a harmonic filling would); the texture is correlated noise as strong as that of the rim.

    Args:
        hu: HU (z, y, x), float32.
        hole: voxels (z, y, x) to fill.
        usable: voxels (z, y, x) to fill them from.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        seed: seed of the texture.

    Returns:
        HU (z, y, x); ``hu`` itself if there is nothing to fill, or nothing to fill it from.
    """
    known = usable & ~hole
    if not known.any() or not hole.any():
        return hu
    spacing = np.asarray(spacing_zyx)
    base = np.where(known, hu, 0).astype(np.float32)
    weight, todo = known.astype(np.float32), hole.copy()
    values = base.copy()
    for width in _FILLING_MM:
        blurred_weight = ndimage.gaussian_filter(weight, width / spacing)
        take = todo & (blurred_weight > _LEAST_WEIGHT)
        blurred = ndimage.gaussian_filter(base, width / spacing)
        values[take] = blurred[take] / blurred_weight[take]
        todo &= ~take
        if not todo.any():
            break
    values[todo] = np.median(hu[known])
    # Voxels of other lesions do not contribute: they are held at the value of the nearest tissue.
    other = ~known & ~hole
    nearest = ndimage.distance_transform_edt(other, sampling=spacing, return_indices=True)[1]
    values[other] = values[tuple(nearest[:, other])]
    for _ in range(_RELAXATIONS):
        values[hole] = ndimage.gaussian_filter(values, 1.0)[hole]
    deviation = texture_deviation(hu, known & _near(hole, spacing), spacing_zyx)
    result = hu.copy()
    result[hole] = values[hole] + deviation * _grain(hu.shape, seed)[hole]
    return result


def texture_deviation(hu: Volume, where: Mask, spacing_zyx: Vector) -> float:
    """Estimate the standard deviation of the texture in a region, robustly: vessels in lung are not noise.

    Args:
        hu: HU (z, y, x), float32.
        where: voxels (z, y, x) of the region.
        spacing_zyx: voxel spacing (z, y, x) in mm.
    """
    if not where.any():
        return 0.0
    sigma = _TEXTURE_MM / np.asarray(spacing_zyx)
    weight = np.maximum(ndimage.gaussian_filter(where.astype(np.float32), sigma), 1e-6)
    smooth = ndimage.gaussian_filter(np.where(where, hu, 0).astype(np.float32), sigma) / weight
    left = (hu - smooth)[where]
    return float(_MAD_TO_DEVIATION * np.median(np.abs(left - np.median(left))))


def texture_noise(shape: tuple[int, ...], deviation: float, seed: int) -> Volume:
    """Generate correlated noise with mean zero.

    Args:
        shape: shape (z, y, x) of the result.
        deviation: standard deviation in HU.
        seed: seed of the noise.

    Returns:
        Noise (z, y, x) in HU, float32.
    """
    return np.asarray(_grain(shape, seed) * np.float32(deviation), np.float32)


def dilate_mm(mask: Mask, width_mm: float, spacing_zyx: Vector) -> Mask:
    """Dilate a mask by a width in mm, and at least to its neighbours.

    Args:
        mask: bool (z, y, x).
        width_mm: width in mm.
        spacing_zyx: voxel spacing (z, y, x) in mm.

    Returns:
        Dilated mask, bool (z, y, x).
    """
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing_zyx)
    return np.asarray((distance <= width_mm) | ndimage.binary_dilation(mask))


def _near(hole: Mask, spacing: Array) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(~hole, sampling=spacing) <= _RIM_MM)


def _grain(shape: tuple[int, ...], seed: int) -> Volume:
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    smooth = ndimage.gaussian_filter(noise, _GRAIN_VOXELS)
    return np.asarray(smooth / max(float(smooth.std()), 1e-6), np.float32)
