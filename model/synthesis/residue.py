"""What is left of a vanished lesion: a soft, uneven change of density without a label."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case.geometry import Vector
from .displacement import Mask, Volume
from .draw_types import ResidueDraw

_LUNG_HU, _LUNG_FACTOR = -500.0, 6.0  # scars in lung are as much denser than the lung around them


def residue_hu(lesion: Mask, hu: Volume, spacing_zyx: Vector, draw: ResidueDraw) -> Volume:
    """Compute the change of density that a residue makes; in lung always a denser one.

    Args:
        lesion: voxels (z, y, x) of the vanished lesion.
        hu: HU (z, y, x) that it was filled with.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        draw: the drawn values.

    Returns:
        Change (z, y, x) in HU, float32, zero outside of the lesion.
    """
    depth = ndimage.distance_transform_edt(np.pad(lesion, 1), sampling=spacing_zyx)[1:-1, 1:-1, 1:-1]
    deepest = max(float(depth.max()), 1e-6)
    rng = np.random.default_rng(draw.seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(lesion.shape), deepest / 3 / np.asarray(spacing_zyx))
    noise *= 0.25 / max(float(noise.std()), 1e-6)
    # The residue ends where the drawn share of the radius is left, and is full half as far inside.
    start, width = 1 - draw.size, draw.size / 2
    weight = np.clip((depth / deepest + noise - start) / width, 0, 1) * lesion
    strength = np.where(hu < _LUNG_HU, _LUNG_FACTOR * abs(draw.hu), draw.hu)
    return np.asarray(weight * strength, np.float32)
