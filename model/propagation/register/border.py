"""What a registration finds near the ends of what both scans see: little, so that it is taken from inside.

Neighbourhoods are cut off there, and whatever is filled in beyond looks like something that could match.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from .field import FloatField
from .grids import Mask
from .warp import PairOnGrid

# Displacements so near to an end are not believed, ...
_DOUBTED_MM = 12.0
# ... but are the mean of those further inside, weighted by a Gaussian: the first width that reaches them.
_WIDTHS_MM = (8.0, 16.0, 32.0, 64.0)
_LEAST_SHARE = 0.02


def extrapolate_border(found: FloatField, pair: PairOnGrid) -> FloatField:
    """Displacements (z, y, x, 3) mm on a pair's grid, replaced near the ends of what both scans see."""
    spacing_mm = pair.grid.spacing_xyz[0]
    seen = np.pad(pair.fixed_seen & _seen_through(found, pair.moving_seen, spacing_mm), 1)
    depth_mm = distance_transform_edt(seen, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    known = depth_mm > _DOUBTED_MM
    if not known.any():
        return found
    weight = known.astype(np.float32)
    result = np.where(known[..., None], found, np.float32(0))
    for width_mm in _WIDTHS_MM:
        sigma = width_mm / spacing_mm
        share = gaussian_filter(weight, sigma)
        reached = (share > _LEAST_SHARE) & ~known
        for axis in range(3):
            mean = gaussian_filter(weight * found[..., axis], sigma)
            result[..., axis][reached] = mean[reached] / share[reached]
        known |= reached
    return np.asarray(result, np.float32)


def _seen_through(found: FloatField, seen: Mask, spacing_mm: float) -> Mask:
    """Where a mask on the grid is seen by following the displacements."""
    steps = np.moveaxis(found[..., ::-1], -1, 0) / np.float32(spacing_mm)
    places = np.indices(seen.shape, np.float32) + steps
    return np.asarray(map_coordinates(seen.astype(np.float32), places, order=1, mode="constant") > 0.5)
