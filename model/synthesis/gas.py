"""Gas inside of the body, redrawn: bowel that holds fluid now, more gas, or gas in another place."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .canvas import Canvas
from .displacement import Mask
from .tissue import dilate_mm, texture_noise

_GAS_HU, _SOFT_HU = -400.0, (-20.0, 90.0)
_GAS_ML = (0.1, 150.0)  # larger ones are lung or outside
_FLUID_HU, _AIR_HU, _NOISE_HU = 20.0, -950.0, 12.0
_KEEP_AWAY_MM = 6.0  # from lesions
_MARGIN_MM = 14.0
_EDGE_VOXELS = 0.6
_SHARES = (0.35, 0.75)  # below: fluid; below: grown or moved; above: as it is


def redraw_gas(canvas: Canvas, seed: int) -> int:
    """Redraw the pockets of gas of a scan independently, away from lesions.

    Args:
        canvas: the scan to edit, in place.
        seed: seed of the changes.

    Returns:
        Number of pockets that were changed.
    """
    geometry = canvas.geometry
    labels, _ = ndimage.label(canvas.ct < _GAS_HU)
    voxel_ml = float(np.prod(geometry.spacing_zyx)) / 1000.0
    sizes = np.bincount(labels.ravel()) * voxel_ml
    changed = 0
    for number, region in enumerate(ndimage.find_objects(labels), start=1):
        shares = np.random.default_rng([seed, number]).random(2)
        # Pockets at the border of the scan may be the air around the body.
        is_cut = any(
            part.start == 0 or part.stop == n for part, n in zip(region, canvas.ct.shape, strict=True)
        )
        if is_cut or not _GAS_ML[0] <= sizes[number] <= _GAS_ML[1] or shares[0] > _SHARES[1]:
            continue
        margins = [int(np.ceil(_MARGIN_MM / s)) for s in geometry.spacing_zyx]
        where = tuple(
            slice(max(0, part.start - m), part.stop + m) for part, m in zip(region, margins, strict=True)
        )
        gas = labels[where] == number
        if canvas.labels[where].any() and _near_lesion(canvas, where, gas):
            continue
        _redraw(canvas, where, gas, shares, seed + number)
        changed += 1
    return changed


def _near_lesion(canvas: Canvas, where: tuple[slice, ...], gas: Mask) -> bool:
    near = dilate_mm(canvas.labels[where] != 0, _KEEP_AWAY_MM + _MARGIN_MM, canvas.geometry.spacing_zyx)
    return bool((near & gas).any())


def _redraw(canvas: Canvas, where: tuple[slice, ...], gas: Mask, shares: np.ndarray, seed: int) -> None:
    """Fill a pocket with fluid, or let it grow into the soft tissue around it."""
    hu = canvas.ct[where].astype(np.float32)
    noise = texture_noise(gas.shape, _NOISE_HU, seed)
    if shares[0] < _SHARES[0]:
        target, value = ndimage.binary_dilation(gas), _FLUID_HU
    else:
        soft = (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1])
        spread = dilate_mm(gas, 2 + 6 * float(shares[1]), canvas.geometry.spacing_zyx)
        target, value = gas | (spread & soft), _AIR_HU
    weight = ndimage.gaussian_filter(target.astype(np.float32), _EDGE_VOXELS)
    hu += weight * (value + noise - hu)
    free = (canvas.labels[where] == 0) & (weight > 0.02)
    canvas.ct[where][free] = np.rint(hu[free]).astype(np.int16)
