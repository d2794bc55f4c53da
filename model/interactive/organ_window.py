"""Organs beside the tumour: their logits over the sliding window → one labelmap of the scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..case.geometry import Box, Index
from ..network.pet_ct import PetCtGrid, margin_on_scan
from ..network.resample import FloatVolume
from ..network.window import window_weight

LabelVolume = npt.NDArray[np.uint8]


class OrganWindow:
    """Weighted sums of the organ logits of tiles, with the weights and the recipe of the tumour's margin.

    Holds all classes on the whole network grid, float32.

    Args:
        classes: of organs, with background.
        shape: of the network grid.
        patch: shape of every tile.
    """

    def __init__(self, classes: int, shape: Index, patch: Sequence[int]) -> None:
        self._whole = Box.of_shape(shape)
        self._tile_weight = window_weight(patch)
        self._sums = np.zeros((classes, *shape), np.float32)
        self._weight = np.zeros(shape, np.float32)

    def add(self, tile: Box, logits: FloatVolume) -> None:
        """Add the logits of one tile; what lies beyond the grid is dropped.

        Args:
            tile: box on the grid, may extend beyond it.
            logits: float32 [classes, *tile].
        """
        inside = tile.intersection(self._whole)
        weight = self._tile_weight[inside.relative_to(tile).slices]
        for total, values in zip(self._sums, logits, strict=True):
            total[inside.slices] += weight * values[inside.relative_to(tile).slices]
        self._weight[inside.slices] += weight

    def labels(self, grid: PetCtGrid) -> LabelVolume:
        """Resample the mean logits to the scan one by one, and take the largest; a tie is the lower class.

        Args:
            grid: of the scan.

        Returns:
            uint8 (z, y, x) of the axial scan: class 0 is background, as is everything outside of the crop.
        """
        labels = np.zeros(grid.axial_shape_zyx, np.uint8)
        best: FloatVolume | None = None
        for organ, total in enumerate(self._sums):
            box, logits = margin_on_scan(total / self._weight, grid)
            if best is None:
                best = np.array(logits)
                continue
            larger = logits > best
            labels[box.slices][larger] = organ
            np.maximum(best, logits, out=best)
        return labels
