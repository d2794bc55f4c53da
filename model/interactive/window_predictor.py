"""The margin of a whole network grid under changing clicks: only tiles whose marks differ are predicted."""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple

import numpy as np

from ..case.geometry import Box, Index
from ..case.tumor_clicks import ClickKind
from ..inference.memory import Rung
from ..network.pet_ct import Mark, mark_box, tile_channels
from ..network.resample import FloatVolume
from ..network.tiles import enclosing_box, window_tiles
from ..network.window import WindowMean
from .load_pet_ct import PetCtModel
from .margin_store import MarginStore
from .segment_pet_ct import tile_margin

log = logging.getLogger(__name__)


class TileKey(NamedTuple):
    """All that the margin of a tile depends on, for one model and one pair of images.

    Attributes:
        number: of the tile.
        rung: way of computing; another one may differ in the last bits.
        tumor: network voxels of the tumour clicks whose marks may reach into the tile.
        background: the same of the background clicks.
    """

    number: int
    rung: Rung
    tumor: frozenset[Index]
    background: frozenset[Index]


class WindowPredictor:
    """The margin of a network grid, kept up to date while clicks come and go.

    After each `update` it equals that of `segment_pet_ct.predict_margin` for the same clicks, bit for bit:
    a voxel that may have changed is summed again over all its tiles in their order.

    Args:
        model: from `load_pet_ct_model`.
        images: float32 [2, *shape] from `network_images`.
        memory_bytes: for margins of tiles, present and earlier ones; a tile that is needed and not stored is
            predicted again.

    Attributes:
        tiles: boxes of the sliding window, in the order in which they are summed.
        margin: tumour minus background logit, float32 [*shape]; 0 before the first update.
        predicted: tiles that the last update predicted.
    """

    def __init__(self, model: PetCtModel, images: FloatVolume, memory_bytes: int) -> None:
        _, z, y, x = images.shape
        self._model, self._images = model, images
        self._whole = Box.of_shape((z, y, x))
        self._patch = model.plan.network.patch_size_zyx
        self._store = MarginStore(memory_bytes)
        self._current: list[TileKey] = []
        self.tiles = window_tiles(self._whole, (z, y, x), self._patch)
        self.margin: FloatVolume = np.zeros((z, y, x), np.float32)
        self.predicted = 0

    def update(self, voxels: Mark) -> Box | None:
        """Bring the margin up to date; after an error it is as before.

        Args:
            voxels: network voxels of all clicks.

        Returns:
            The box of the grid in which the margin may have changed; None if it has not.

        Raises:
            LongilesionError: as `segment_pet_ct.predict_margin`.
        """
        self.predicted = 0
        ensemble = self._model.ensemble
        while True:
            rung = ensemble.rung
            wanted = [self._key(number, rung, voxels) for number in range(len(self.tiles))]
            changed = [self.tiles[key.number] for key in wanted if key not in self._current]
            if not changed:
                return None
            region = enclosing_box(changed).intersection(self._whole)
            margin = self._mean(region, wanted, voxels)
            if ensemble.rung == rung:
                break
            # A smaller way of computing was taken meanwhile: all tiles are computed in the same way.
        self.margin[region.slices] = margin
        self._current = wanted
        log.info("predicted %d of %d tiles", self.predicted, len(self.tiles))
        return region

    def _key(self, number: int, rung: Rung, voxels: Mark) -> TileKey:
        tumor, background = (marks_in_tile(voxels[kind], self.tiles[number]) for kind in ClickKind)
        return TileKey(number, rung, tumor, background)

    def _mean(self, region: Box, wanted: list[TileKey], voxels: Mark) -> FloatVolume:
        """Sum all tiles that cover a region; those that are not stored are predicted."""
        ensemble, keep = self._model.ensemble, set(wanted)
        covering = [key for key in wanted if not self.tiles[key.number].intersection(region).is_empty]
        held = {key: margin for key in covering if (margin := self._store.get(key)) is not None}
        missing = [key for key in covering if key not in held]
        tiles = [self.tiles[key.number] for key in missing]
        predictions = ensemble.predict([partial(tile_channels, self._images, voxels, tile) for tile in tiles])
        mean = WindowMean(region, self._patch)
        for key in covering:  # in the order of the tiles, which decides on the last bit of a sum
            while key not in held:
                prediction = next(predictions)
                margin, done = tile_margin(prediction, len(tiles)), missing[prediction.index]
                held[done] = margin
                self._store.put(done._replace(rung=ensemble.rung), margin, keep)
            mean.add(self.tiles[key.number], held.pop(key))
        self.predicted += len(missing)
        margin = mean.result()
        margin /= np.float32(len(ensemble.folds))
        return margin


def marks_in_tile(voxels: list[Index], tile: Box) -> frozenset[Index]:
    """The clicks whose marks may reach into a tile.

    Args:
        voxels: network voxels of clicks.
        tile: box of the network grid.

    Returns:
        Voxel indices, each once.
    """
    return frozenset(voxel for voxel in voxels if not mark_box(voxel).intersection(tile).is_empty)
