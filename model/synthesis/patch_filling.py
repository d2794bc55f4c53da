"""Fill a hole with patches of the tissue around it, so that it keeps texture, borders and gradients.

Patches are laid from the rim of the hole inwards. Each is the one, among randomly chosen patches of known
tissue (mirrored at times), that fits best what is known or filled already where it is laid, and a smooth
filling elsewhere; its mean is shifted to match, and it joins the earlier ones over about two voxels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import Mask, Volume
from .tissue import fill_hole

_PATCH_MM, _CANDIDATES = 14.0, 48
_LEAST_VOXELS = 3  # of a patch along each axis
_FEATHER_VOXELS = 1.0
# The smooth filling is computed on a grid of this share of the hole's depth, and counts less than tissue.
_BASE_SHARE, _BASE_WEIGHT = 0.15, 0.5
# HU are compared within this range; the mean of a patch is shifted by at most this much.
_BONE_HU, _BONE_SHARE = 220.0, 0.3
_COMPARED_HU, _MOST_SHIFT_HU = (-300.0, 300.0), 25.0


def fill_with_patches(hu: Volume, hole: Mask, usable: Mask, spacing_zyx: Vector, seed: int) -> Volume | None:
    """Fill a hole with patches of usable tissue.

    Args:
        hu: HU (z, y, x), float32.
        hole: voxels (z, y, x) to fill.
        usable: voxels (z, y, x) to take patches from.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        seed: seed of the choice of patches.

    Returns:
        HU (z, y, x), changed in the hole and within about two voxels of it; None if no whole patch of usable
        tissue lies around the hole.
    """
    size = _patch_size(hole, spacing_zyx)
    # Bone beside the hole would grow into it.
    usable = usable & ~_foreign_bone(hu, hole, usable)
    known = usable & ~hole
    origins = _patch_origins(known, size)
    if not len(origins) or not hole.any():
        return None
    rng = np.random.default_rng(seed)
    filled, todo = known.copy(), hole.copy()
    result = np.where(hole, _smooth_base(hu, hole, usable, spacing_zyx, seed), hu).astype(np.float32)
    for centre in _inward(hole, size):
        if not todo[centre]:
            continue
        start = [min(max(c - n // 2, 0), m - n) for c, n, m in zip(centre, size, hu.shape, strict=True)]
        where = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        chosen = origins[rng.integers(len(origins), size=_CANDIDATES)]
        patches = _patches(hu, chosen, size, rng)
        weights = np.where(filled[where], 1.0, np.where(todo[where], _BASE_WEIGHT, 0.0))
        patch = _best(patches, result[where], weights.astype(np.float32))
        _lay(result[where], todo[where], filled[where], patch)
        filled[where] |= todo[where]
        todo[where] = False
    return result


def _foreign_bone(hu: Volume, hole: Mask, usable: Mask) -> Mask:
    """Mark bone and its partial volume, unless much of the hole's rim is bone."""
    bone = hu > _BONE_HU
    rim = ndimage.binary_dilation(hole, iterations=2) & usable & ~hole
    if not rim.any() or float(bone[rim].mean()) > _BONE_SHARE:
        return np.zeros_like(hole)
    return np.asarray(ndimage.binary_dilation(bone))


def _patch_size(hole: Mask, spacing: Vector) -> tuple[int, int, int]:
    z, y, x = (
        min(max(round(_PATCH_MM / s), _LEAST_VOXELS), n) for s, n in zip(spacing, hole.shape, strict=True)
    )
    return z, y, x


def _patch_origins(known: Mask, size: tuple[int, int, int]) -> Array:
    """List the first voxels (N, 3) of all patches that consist of known voxels."""
    sums = np.pad(known.astype(np.int64), ((1, 0),) * 3).cumsum(0).cumsum(1).cumsum(2)
    for axis, n in enumerate(size):
        sums = np.take(sums, range(n, sums.shape[axis]), axis) - np.take(
            sums, range(sums.shape[axis] - n), axis
        )
    return np.argwhere(sums == np.prod(size))


def _inward(hole: Mask, size: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """List the voxels of the hole at which patches are laid, the outermost first."""
    depth = ndimage.distance_transform_cdt(np.pad(hole, 1, mode="edge"), "chessboard")[1:-1, 1:-1, 1:-1]
    # A grid of half patches, then every voxel that it leaves.
    steps = [max(1, n // 2) for n in size]
    voxels = np.argwhere(hole)
    on_grid = (voxels % np.asarray(steps) == 0).all(axis=1)
    order = np.lexsort((depth[hole], ~on_grid))
    return [(int(z), int(y), int(x)) for z, y, x in voxels[order]]


def _patches(hu: Volume, origins: Array, size: tuple[int, int, int], rng: np.random.Generator) -> Volume:
    """Copy patches (N, z, y, x), mirrored along the last axis at times."""
    windows = np.lib.stride_tricks.sliding_window_view(hu, size)
    patches = windows[tuple(origins.T)]
    flipped = rng.random(len(patches)) < 0.5
    patches[flipped] = patches[flipped][..., ::-1]
    return np.asarray(patches)


def _best(patches: Volume, there: Volume, weights: Volume) -> Volume:
    """Choose the patch that fits best what is there, by weight, and shift its mean to match."""
    difference = np.clip(there, *_COMPARED_HU) - np.clip(patches, *_COMPARED_HU)
    total = float(weights.sum())
    shift = np.clip((difference * weights).sum(axis=(1, 2, 3)) / total, -_MOST_SHIFT_HU, _MOST_SHIFT_HU)
    cost = (weights * (difference - shift[:, None, None, None]) ** 2).sum(axis=(1, 2, 3))
    best = int(cost.argmin())
    return np.asarray(patches[best] + np.float32(shift[best]), np.float32)


def _smooth_base(hu: Volume, hole: Mask, usable: Mask, spacing: Vector, seed: int) -> Volume:
    """Fill the hole smoothly, on a coarser grid if it is large."""
    depth_mm = float(ndimage.distance_transform_edt(hole, sampling=spacing).max())
    steps = [max(1, int(_BASE_SHARE * depth_mm / s)) for s in spacing]
    part = tuple(slice(None, None, n) for n in steps)
    wide = (spacing[0] * steps[0], spacing[1] * steps[1], spacing[2] * steps[2])
    coarse = fill_hole(hu[part], hole[part], usable[part], wide, seed)
    if max(steps) == 1:
        return coarse
    axes = [np.arange(n, dtype=np.float32) / step for n, step in zip(hu.shape, steps, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.asarray(ndimage.map_coordinates(coarse, index, order=1, mode="nearest"), np.float32)


def _lay(there: Volume, todo: Mask, filled: Mask, patch: Volume) -> None:
    """Write a patch into the voxels to fill, and fade it out over those around them."""
    weight = np.clip(2.2 * ndimage.gaussian_filter(todo.astype(np.float32), _FEATHER_VOXELS) - 0.1, 0, 1)
    weight = np.where(todo, 1.0, np.where(filled, weight, 0.0)).astype(np.float32)
    there += weight * (patch - there)
