"""Sliding window over the network grid: weights of a tile, their mean (docs/interactive.md, step 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from ..case.geometry import Box, Index
from .resample import FloatVolume

_SIGMAS_PER_PATCH = 8
_PEAK = 10.0


def window_weight(patch: Sequence[int]) -> FloatVolume:
    """The weights of a tile's voxels in nnU-Net's sliding window; positive everywhere.

    A Gaussian around voxel p // 2 with a sigma of p / 8 along each axis, filtered from an impulse and cut off
    at 4 sigma, with a peak of 10; where it is 0 it takes the smallest positive weight.

    Args:
        patch: shape of the tile.

    Returns:
        float32 of the given shape.
    """
    lines = [_line(n) for n in patch]
    z, y, x = lines
    weight: npt.NDArray[np.float64] = z[:, None, None] * y[None, :, None] * x[None, None, :]
    values: FloatVolume = (weight / (weight.max() / _PEAK)).astype(np.float32)
    values[values == 0] = values[values > 0].min()
    return values


def _line(length: int) -> npt.NDArray[np.float64]:
    impulse = np.zeros(length)
    impulse[length // 2] = 1
    filtered: npt.NDArray[np.float64] = gaussian_filter1d(
        impulse, length / _SIGMAS_PER_PATCH, mode="constant"
    )
    return filtered


class WindowMean:
    """The weighted mean of the margins of tiles over a box of the grid, summed in float32.

    A voxel's mean depends on the margins there and their order alone: a part has exactly the numbers of the
    whole if the tiles are added in the same order.

    Args:
        box: of the grid, in voxels.
        patch: shape of every tile.
    """

    def __init__(self, box: Box, patch: Index) -> None:
        self._box = box
        self._tile_weight = window_weight(patch)
        self._sum = np.zeros(box.shape_zyx, np.float32)
        self._weight = np.zeros(box.shape_zyx, np.float32)

    def add(self, tile: Box, margin: FloatVolume) -> None:
        """Add the margin of one tile; what lies beyond the box is dropped.

        Args:
            tile: box on the grid, may extend beyond it.
            margin: tumour minus background logit, float32 of the tile's shape.
        """
        inside = tile.intersection(self._box)
        part, where = inside.relative_to(tile).slices, inside.relative_to(self._box).slices
        self._sum[where] += self._tile_weight[part] * margin[part]
        self._weight[where] += self._tile_weight[part]

    def result(self) -> FloatVolume:
        """The mean; afterwards no tile can be added.

        Returns:
            float32 of the box's shape. Every voxel must lie in a tile.
        """
        return np.divide(self._sum, self._weight, out=self._sum)
