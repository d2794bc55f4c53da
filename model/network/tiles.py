"""Lesions larger than one patch: patches that cover them together, and how their answers become one.

All boxes lie on a scan's network grid. A patch is called a tile where there can be several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress, product

import numpy as np

from ..case.case import Scan
from ..case.geometry import Box, Index
from .patches import NetworkGrid, Placement, extract_mask
from .resample import FloatVolume, resample_box

# A lesion's own border is no end: as far as clicks were shifted in training ([Kirchhoff2025], section 3.1).
MARGIN_VOXELS = 4
# Weights of a tile fall off with a sigma of an eighth of it, as in nnU-Net and LesionLocator ([Rokuss2025]).
_SIGMAS_PER_PATCH = 8


def enclosing_box(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of some boxes."""
    z0, y0, x0 = np.min([box.start_zyx for box in boxes], 0).tolist()
    z1, y1, x1 = np.max([box.stop_zyx for box in boxes], 0).tolist()
    return Box((z0, y0, x0), (z1, y1, x1))


def lies_within(inner: Box, outer: Box) -> bool:
    """Whether every voxel of a box lies in another one; an empty box lies anywhere."""
    return inner.is_empty or inner.intersection(outer) == inner


def even_starts(length: int, patch: int) -> list[int]:
    """Where evenly spaced patches start that cover [0, length); neighbours share half of a patch or more.

    One patch at 0 when it is long enough alone. The rule of nnU-Net's sliding window with a step of 0.5.
    """
    if length <= patch:
        return [0]
    count = math.ceil((length - patch) / (patch / 2)) + 1
    starts = [round(number * (length - patch) / (count - 1)) for number in range(count)]
    return list(dict.fromkeys(starts))


def cover(extent: Box, first: Box, shape: Index, margin: int = 0) -> list[Box]:
    """The patch placed first, and as many of its size as it takes to cover an extent.

    On an axis on which the first patch holds the extent the others start where it does; on the other axes
    they cover the extent and its margin evenly, however the first one lies.

    Args:
        extent: inside the image.
        first: a patch placed by `patches.place_patches`.
        shape: of the image.
        margin: voxels on either side.
    """
    choices = []
    for (low, high), (start, stop), n in zip(extent.bounds(), first.bounds(), shape, strict=True):
        patch = stop - start
        if n <= patch or (start <= low and high <= stop):
            choices.append([start])
            continue
        low, high = max(low - margin, 0), min(high + margin, n)
        if high - low <= patch:  # the nearest place that holds the extent
            choices.append([min(max(start, high - patch), low)])
        else:
            choices.append([low + offset for offset in even_starts(high - low, patch)])
    others = [Box.of_shape(first.shape_zyx, corner) for corner in product(*choices)]
    return [first, *(box for box in others if box != first)]


def centred_tile(centre: Index, extent: Box, shape: Index, patch_size: Index) -> Box:
    """The patch with its middle at a voxel, moved as little as holds all of an extent that fits into it.

    It stays inside an image that is larger than it, and is centred on one that is smaller.

    Args:
        extent: inside the image.
        shape: of the image.
    """
    start = []
    for c, (low, high), n, patch in zip(centre, extent.bounds(), shape, patch_size, strict=True):
        holding = min(max(c - patch // 2, high - patch), low)
        start.append(min(max(holding, 0), n - patch) if n > patch else _padded_start(n, patch))
    return Box.of_shape(patch_size, start)


def window_tiles(extent: Box, shape: Index, patch_size: Index) -> list[Box]:
    """Of the tiles of a sliding window over the whole image those that share a voxel with an extent.

    Tiles stay inside an image that is larger than they are, and are centred on one that is smaller.
    """
    starts = [
        even_starts(n, patch) if n > patch else [_padded_start(n, patch)]
        for n, patch in zip(shape, patch_size, strict=True)
    ]
    tiles = [Box.of_shape(patch_size, corner) for corner in product(*starts)]
    return [tile for tile in tiles if not tile.intersection(extent).is_empty]


def _padded_start(n: int, patch: int) -> int:
    """Where a patch starts that is centred on a shorter image; of an odd difference the far side gets more.

    So pads nnU-Net's sliding window; the longitudinal model's own patches do it the other way round
    (`patches.place_patches`).
    """
    return -((patch - n) // 2)


def lesion_tiles(
    scan: Scan,
    lesion_id: int,
    labelled: Box,
    placement: Placement,
    baseline_grid: NetworkGrid,
    followup_shape: Index,
) -> list[Placement]:
    """The pairs of patches for a lesion: the usual one while its baseline mask fits, else several.

    The baseline mask, carried to the follow-up as the points are, says how far the lesion reaches there;
    what lies outside of the follow-up image need not be covered. A point that lies off the box of its
    mask means something else, and is left its usual pair alone. The usual pair always comes first;
    another is left out when its baseline patch shows nothing of the mask, as it would hold no prompt.

    Args:
        scan: the baseline.
        labelled: the box of the lesion's voxels on the scan's axial grid.
        placement: the usual pair.
        followup_shape: of the follow-up's network grid.
    """
    reach = placement.to_followup(_resampled_box(labelled, baseline_grid))
    extent = reach.intersection(Box.of_shape(followup_shape))
    point = Box.of_shape((1, 1, 1), placement.followup_index)
    if lies_within(extent, placement.followup) or not lies_within(point, expand_box(reach, MARGIN_VOXELS)):
        return [placement]
    _, *others = cover(extent, placement.followup, followup_shape, MARGIN_VOXELS)
    pairs = [placement.at(tile) for tile in others]
    shown = (extract_mask(scan, lesion_id, baseline_grid, pair.baseline).any() for pair in pairs)
    return [placement, *compress(pairs, shown)]


def _resampled_box(labelled: Box, grid: NetworkGrid) -> Box:
    """The network voxels that a mask which fills a box of the axial scan has; of none an empty box."""
    source = grid.axes.box(labelled, grid.axial_shape_zyx)
    bounds = []
    for (low, high), n_in, n_out in zip(source.bounds(), grid.source_shape, grid.shape, strict=True):
        line = np.zeros((n_in, 1, 1), np.float32)
        line[low:high] = 1
        soft = resample_box(line, (0, 0, 0), (n_in, 1, 1), (n_out, 1, 1), Box.of_shape((n_out, 1, 1)))
        found = np.flatnonzero(soft > 0.5)
        bounds.append((int(found[0]), int(found[-1]) + 1) if found.size else (0, 0))
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


def expand_box(box: Box, voxels: int) -> Box:
    """A box with a margin on every side."""
    (z0, y0, x0), (z1, y1, x1) = box.start_zyx, box.stop_zyx
    return Box((z0 - voxels, y0 - voxels, x0 - voxels), (z1 + voxels, y1 + voxels, x1 + voxels))


class Blend:
    """Margins of several tiles, averaged with weights that fall off from each tile's centre.

    Holds the box round all tiles, never a whole volume. Margins are float32 logit differences, foreground
    minus background.
    """

    def __init__(self, tiles: Sequence[Box]) -> None:
        self.box = enclosing_box(tiles)
        self._sum = np.zeros(self.box.shape_zyx, np.float32)
        self._weight = np.zeros(self.box.shape_zyx, np.float32)

    def add(self, tile: Box, margin: FloatVolume) -> None:
        """Take in one tile's margin, float32 of the tile's shape."""
        weight = tile_weight(tile.shape_zyx)
        slices = tile.relative_to(self.box).slices
        self._sum[slices] += weight * margin
        self._weight[slices] += weight

    def margin(self) -> FloatVolume:
        """The average, float32 of the box's shape; minus infinity (background) where no tile lies."""
        outside = np.full(self.box.shape_zyx, -np.inf, np.float32)
        return np.divide(self._sum, self._weight, out=outside, where=self._weight > 0)


def tile_weight(shape: Index) -> FloatVolume:
    """A Gaussian that is 1 at a tile's middle voxel and nowhere 0, float32 (z, y, x)."""
    z, y, x = (
        np.exp(-0.5 * ((np.arange(n) - n // 2) / (n / _SIGMAS_PER_PATCH)) ** 2).astype(np.float32)
        for n in shape
    )
    weight: FloatVolume = z[:, None, None] * y[None, :, None] * x[None, None, :]
    return weight
