"""Another examination's intensities: noise, blur, brightness and contrast ([Rokuss2025], section 7.2).

The paper's parameters are in normalised intensities x = (HU - mean) / std. In HU the noise's standard
deviation is sqrt(variance) · std (up to 63 HU), brightness is mean + f · (HU - mean), and contrast f
stretches round the scan's own mean within its own range. The blur of 0.1 to 0.2 voxels does next to nothing,
as in the paper.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import Volume
from .random_draws import AppearanceDraw
from .settings import AppearanceSettings, Range

_TRUNCATE = 4.0
# Every so manyth voxel along each axis is enough for a mean.
_STRIDE = 3


def mean_hu(ct: Array, settings: AppearanceSettings) -> float:
    """The mean round which contrast is changed, of the scan clipped as the network sees it."""
    part = ct[::_STRIDE, ::_STRIDE, ::_STRIDE]
    return float(np.clip(part, *settings.clip_hu).mean(dtype=np.float64))


def halo_slices(draw: AppearanceDraw, spacing_zyx: Vector) -> int:
    """How many slices round a slab its blur looks at."""
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
    """A slab (z, y, x) of HU whose first slice has that number; noise does not depend on the slabs."""
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
