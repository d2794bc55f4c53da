"""Displacements near the ends of the region that both scans cover, extrapolated from further inside.

Neighbourhoods are cut off there, and values filled in beyond the scans can be mistaken for matches, so that
the estimated displacements are wrong.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter1d, map_coordinates

from .field import FloatField
from .grids import FloatVolume, Mask
from .warp import PairOnGrid

# Displacements this near to an end are discarded, ...
_DOUBTED_MM = 12.0
# ... and replaced by a Gaussian mean of those further inside, with the first width that reaches them.
_WIDTHS_MM = (8.0, 16.0, 32.0, 64.0)
_LEAST_SHARE = 0.02


def extrapolate_border(field: FloatField, pair: PairOnGrid) -> FloatField:
    """Replace displacements near the ends of the region that both scans cover.

    Args:
        field: displacements (z, y, x, 3) in mm, last axis x, y, z, on the pair's grid.
        pair: both scans on that grid.

    Returns:
        Displacements of the same shape; the argument itself if the common region is too thin.
    """
    spacing_mm = pair.grid.spacing_xyz[0]
    seen = np.pad(pair.fixed_seen & _seen_through(field, pair.moving_seen, spacing_mm), 1)
    depth_mm = distance_transform_edt(seen, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    known = depth_mm > _DOUBTED_MM
    if not known.any():
        return field
    weight = known.astype(np.float32)
    result = np.where(known[..., None], field, np.float32(0))
    for width_mm in _WIDTHS_MM:
        if known.all():
            break
        unknown, sigma = ~known, width_mm / spacing_mm
        share = _gaussian_at(unknown, weight, sigma)
        is_reached = share > _LEAST_SHARE
        reached = unknown.copy()
        reached[unknown] = is_reached
        for axis in range(3):
            mean = _gaussian_at(reached, weight * field[..., axis], sigma)
            result[..., axis][reached] = mean / share[is_reached]
        known |= reached
    return np.asarray(result, np.float32)


def _gaussian_at(voxels: Mask, volume: FloatVolume, sigma: float) -> FloatVolume:
    """``gaussian_filter`` at some voxels alone, equal to the bit: the last voxels to be reached are few.

    Args:
        voxels: mask (z, y, x) of N voxels.
        volume: (z, y, x) float32.
        sigma: of the Gaussian, voxels.

    Returns:
        (N,) float32, in the order of ``volume[voxels]``.
    """
    planes, rows = (np.asarray(voxels.any(axis=axes)) for axes in ((1, 2), (2,)))
    along_y = gaussian_filter1d(gaussian_filter1d(volume, sigma, axis=0)[planes], sigma, axis=1)
    along_x = gaussian_filter1d(along_y[rows[planes]], sigma, axis=1)
    return np.asarray(along_x[voxels[rows]], np.float32)


def _seen_through(field: FloatField, seen: Mask, spacing_mm: float) -> Mask:
    """A mask on the grid, warped by the displacements."""
    steps = np.moveaxis(field[..., ::-1], -1, 0) / np.float32(spacing_mm)
    points = np.indices(seen.shape, np.float32) + steps
    return np.asarray(map_coordinates(seen.astype(np.float32), points, order=1, mode="constant") > 0.5)
