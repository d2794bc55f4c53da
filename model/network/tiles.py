"""Tiles for lesions larger than one patch: placement, and blending of their predictions.

All boxes lie on a scan's network grid. Patches are called tiles if there can be several.
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

# Voxels covered beyond a lesion's border: as far as clicks were shifted in training ([Kirchhoff2025],
# section 3.1).
MARGIN_VOXELS = 4
# Weights of a tile fall off with a sigma of 1/8 of its size, as in nnU-Net and LesionLocator ([Rokuss2025]).
_SIGMAS_PER_PATCH = 8


def enclosing_box(boxes: Sequence[Box]) -> Box:
    """The bounding box of boxes.

    Args:
        boxes: at least one box on a common grid.

    Returns:
        The smallest box that contains all of them.
    """
    z0, y0, x0 = np.min([box.start_zyx for box in boxes], 0).tolist()
    z1, y1, x1 = np.max([box.stop_zyx for box in boxes], 0).tolist()
    return Box((z0, y0, x0), (z1, y1, x1))


def lies_within(inner: Box, outer: Box) -> bool:
    """True if every voxel of a box lies in another one; always true for an empty box.

    Args:
        inner: box in voxels.
        outer: box on the same grid.
    """
    return inner.is_empty or inner.intersection(outer) == inner


def even_starts(length: int, patch: int) -> list[int]:
    """Start indices of evenly spaced patches that cover [0, length) and overlap by at least half.

    A single 0 if one patch covers the length. The rule of nnU-Net's sliding window with a step of 0.5.

    Args:
        length: voxels to cover.
        patch: voxels of a patch.
    """
    if length <= patch:
        return [0]
    count = math.ceil((length - patch) / (patch / 2)) + 1
    starts = [round(number * (length - patch) / (count - 1)) for number in range(count)]
    return list(dict.fromkeys(starts))


def cover(extent: Box, first: Box, shape: Index, margin: int = 0) -> list[Box]:
    """Cover an extent with a first patch and further ones of its size.

    Along axes on which the first patch contains the extent, the others start where it does; along the other
    axes they cover the extent and its margin evenly, regardless of the first one.

    Args:
        extent: box inside the image.
        first: a patch placed by `patches.place_patches`.
        shape: of the image, in voxels.
        margin: voxels covered beyond the extent on either side.

    Returns:
        The patches, the first one first.
    """
    choices = []
    for (low, high), (start, stop), n in zip(extent.bounds(), first.bounds(), shape, strict=True):
        patch = stop - start
        if n <= patch or (start <= low and high <= stop):
            choices.append([start])
            continue
        low, high = max(low - margin, 0), min(high + margin, n)
        if high - low <= patch:  # the nearest position that contains the extent
            choices.append([min(max(start, high - patch), low)])
        else:
            choices.append([low + offset for offset in even_starts(high - low, patch)])
    others = [Box.of_shape(first.shape_zyx, corner) for corner in product(*choices)]
    return [first, *(box for box in others if box != first)]


def centred_tile(centre: Index, extent: Box, shape: Index, patch_size: Index) -> Box:
    """Centre a patch on a voxel, then shift it as little as needed to contain an extent that fits into it.

    It stays inside a larger image and is centred on a smaller one.

    Args:
        centre: voxel index.
        extent: box inside the image.
        shape: of the image, in voxels.
        patch_size: in voxels.

    Returns:
        Patch of the given size, may extend beyond a smaller image.
    """
    start = []
    for c, (low, high), n, patch in zip(centre, extent.bounds(), shape, patch_size, strict=True):
        holding = min(max(c - patch // 2, high - patch), low)
        start.append(min(max(holding, 0), n - patch) if n > patch else _padded_start(n, patch))
    return Box.of_shape(patch_size, start)


def window_tiles(extent: Box, shape: Index, patch_size: Index) -> list[Box]:
    """The tiles of a sliding window over the whole image that overlap an extent.

    Tiles stay inside a larger image and are centred on a smaller one.

    Args:
        extent: box in voxels of the image.
        shape: of the image, in voxels.
        patch_size: of a tile, in voxels.

    Returns:
        Tiles of the given size, in the order of their start indices.
    """
    starts = [
        even_starts(n, patch) if n > patch else [_padded_start(n, patch)]
        for n, patch in zip(shape, patch_size, strict=True)
    ]
    tiles = [Box.of_shape(patch_size, corner) for corner in product(*starts)]
    return [tile for tile in tiles if not tile.intersection(extent).is_empty]


def _padded_start(n: int, patch: int) -> int:
    """Start index of a patch centred on a shorter image; of an odd difference the high side gets more.

    This is the padding of nnU-Net's sliding window; the longitudinal model's own patches are padded the other
    way round (`patches.place_patches`).
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
    """The pairs of patches of a lesion: the default one if its baseline mask fits, otherwise several.

    The baseline mask, shifted to the follow-up by the two points, gives the lesion's extent there; parts
    outside the follow-up image need not be covered. If the point lies outside the box of its mask, the
    prompts disagree and only the default pair is used. Further pairs whose baseline patch contains no voxel
    of the mask are left out, since they would have no prompt.

    Args:
        scan: the baseline.
        lesion_id: label value of the lesion.
        labelled: bounding box (z, y, x) of the lesion on the scan's axial grid.
        placement: the default pair.
        baseline_grid: network grid of the baseline.
        followup_shape: of the follow-up's network grid, in voxels.

    Returns:
        Pairs of patches, the default one first.
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
    """The network voxels of a mask that fills a box of the axial scan; an empty box if it has none."""
    source = grid.axes.box(labelled, grid.axial_shape_zyx)
    bounds = []
    for (low, high), n_in, n_out in zip(source.bounds(), grid.source_shape, grid.shape, strict=True):
        line = np.zeros((n_in, 1, 1), np.float32)
        line[low:high] = 1
        soft = resample_box(line, (0, 0, 0), (n_in, 1, 1), (n_out, 1, 1), Box.of_shape((n_out, 1, 1)))
        held = np.flatnonzero(soft > 0.5)
        bounds.append((int(held[0]), int(held[-1]) + 1) if held.size else (0, 0))
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


def expand_box(box: Box, voxels: int) -> Box:
    """Expand a box by a margin on every side.

    Args:
        box: box in voxels.
        voxels: width of the margin.

    Returns:
        The larger box, which may extend beyond the image.
    """
    (z0, y0, x0), (z1, y1, x1) = box.start_zyx, box.stop_zyx
    return Box((z0 - voxels, y0 - voxels, x0 - voxels), (z1 + voxels, y1 + voxels, x1 + voxels))


class Blend:
    """Weighted average of the logit margins of several tiles, with weights falling off from tile centres.

    Holds the bounding box of the tiles, never a whole volume. Margins are float32 logit differences,
    foreground minus background.
    """

    def __init__(self, tiles: Sequence[Box]) -> None:
        self.box = enclosing_box(tiles)
        self._sum = np.zeros(self.box.shape_zyx, np.float32)
        self._weight = np.zeros(self.box.shape_zyx, np.float32)

    def add(self, tile: Box, margin: FloatVolume) -> None:
        """Add the margin of one tile.

        Args:
            tile: box of the tile, one of those given to the constructor.
            margin: float32 of the tile's shape.
        """
        weight = tile_weight(tile.shape_zyx)
        slices = tile.relative_to(self.box).slices
        self._sum[slices] += weight * margin
        self._weight[slices] += weight

    def margin(self) -> FloatVolume:
        """The average margin.

        Returns:
            float32 of the shape of ``box``; minus infinity (background) outside all tiles.
        """
        outside = np.full(self.box.shape_zyx, -np.inf, np.float32)
        return np.divide(self._sum, self._weight, out=outside, where=self._weight > 0)


def tile_weight(shape: Index) -> FloatVolume:
    """The weights of a tile's voxels: a Gaussian that is 1 at the middle voxel and positive everywhere.

    Args:
        shape: of the tile, in voxels.

    Returns:
        float32 of the given shape.
    """
    z, y, x = (
        np.exp(-0.5 * ((np.arange(n) - n // 2) / (n / _SIGMAS_PER_PATCH)) ** 2).astype(np.float32)
        for n in shape
    )
    weight: FloatVolume = z[:, None, None] * y[None, :, None] * x[None, None, :]
    return weight
