"""Intensities of another examination: noise, blur, brightness and contrast ([Rokuss2025], section 7.2).

The parameters of [Rokuss2025] apply to normalised intensities x = (HU - mean) / std. In HU, the standard
deviation of the noise is sqrt(variance) · std (up to 63 HU), brightness is mean + f · (HU - mean), and
contrast stretches by f about the mean of the scan, clipped to the scan's own range. The blur of 0.1 to 0.2
voxels has next to no effect, as published.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import Volume
from .draw_types import AppearanceDraw
from .settings import AppearanceSettings, Range

_TRUNCATE = 4.0
# Every third voxel along each axis is enough for a mean.
_STRIDE = 3


def mean_hu(ct: Array, settings: AppearanceSettings) -> float:
    """Compute the mean about which contrast is changed, of the scan as the network clips it.

    Args:
        ct: HU (z, y, x).
        settings: the clipping range.
    """
    part = ct[::_STRIDE, ::_STRIDE, ::_STRIDE]
    return float(np.clip(part, *settings.clip_hu).mean(dtype=np.float64))


def halo_slices(draw: AppearanceDraw, spacing_zyx: Vector) -> int:
    """Count the slices on either side of a slab that its blur reads.

    Args:
        draw: the drawn changes.
        spacing_zyx: voxel spacing (z, y, x) in mm.
    """
    return 0 if draw.blur_mm is None else int(_TRUNCATE * draw.blur_mm[0] / spacing_zyx[0] + 0.5)


def apply_appearance(
    hu: Volume,
    first_slice: int,
    centre_hu: float,
    limits_hu: Range,
    spacing_zyx: Vector,
    draw: AppearanceDraw,
    settings: AppearanceSettings,
) -> Volume:
    """Apply the drawn changes to a slab of slices; the noise does not depend on how a scan is cut into slabs.

    Args:
        hu: HU (z, y, x) of the slab, float32; not modified.
        first_slice: index of the slab's first slice in the scan.
        centre_hu: mean about which contrast is changed, from `mean_hu`.
        limits_hu: smallest and largest HU after a change of contrast.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        draw: the drawn changes.
        settings: normalisation to which the drawn values refer.

    Returns:
        HU (z, y, x) of the slab, float32.
    """
    if draw.noise_variance is not None:
        deviation = np.float32(np.sqrt(draw.noise_variance) * settings.std_hu)
        hu = hu.copy()
        for z, plane in enumerate(hu):
            rng = np.random.default_rng([draw.noise_seed, first_slice + z])
            plane += deviation * rng.standard_normal(plane.shape, np.float32)
    if draw.blur_mm is not None:
        sigmas = np.divide(draw.blur_mm, spacing_zyx)
        hu = ndimage.gaussian_filter(hu, sigmas, mode="nearest", truncate=_TRUNCATE)
    if draw.brightness is not None:
        hu = settings.mean_hu + draw.brightness * (hu - np.float32(settings.mean_hu))
    if draw.contrast is not None:
        hu = np.clip(centre_hu + draw.contrast * (hu - np.float32(centre_hu)), *limits_hu)
    return np.asarray(hu, np.float32)
