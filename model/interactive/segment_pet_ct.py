"""Segmentation of one PET/CT: images and clicks in memory → mask and margin on the scan's grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ..case.geometry import Array, Box, Geometry
from ..case.tumor_clicks import TumorClick
from ..errors import LongilesionError, one_line
from ..inference.prediction import Prediction, foreground_probability
from ..network.pet_ct import Mark, click_voxels, margin_on_scan, network_images, pet_ct_grid, tile_channels
from ..network.resample import FloatVolume
from ..network.tiles import window_tiles
from ..network.window import WindowMean
from .load_pet_ct import PetCtModel
from .organ_window import LabelVolume, OrganWindow
from .place_clicks import usable_clicks

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TumorSegmentation:
    """All tumour of one PET/CT, on its axial grid.

    Attributes:
        mask: booleans (z, y, x).
        box: the voxels that the network saw; background outside.
        margin: tumour minus background logit over ``box``, float32.
        clicks: those that were used.
        warnings: what the user should know.
        organs: labels of organs (z, y, x), uint8, 0 for background; None if the model does not predict them.
    """

    mask: npt.NDArray[np.bool_]
    box: Box
    margin: FloatVolume
    clicks: tuple[TumorClick, ...]
    warnings: tuple[str, ...]
    organs: LabelVolume | None = None

    def probability(self) -> FloatVolume:
        """Tumour probability on the axial grid.

        Returns:
            float32 (z, y, x) of the mask's shape; 0 outside of ``box``.
        """
        whole = np.zeros(self.mask.shape, np.float32)
        whole[self.box.slices] = foreground_probability(np.ascontiguousarray(self.margin))
        return whole


def segment_pet_ct(
    model: PetCtModel, ct: Array, pet: Array, geometry: Geometry, clicks: Sequence[TumorClick] = ()
) -> TumorSegmentation:
    """Segment all tumour (docs/interactive.md).

    Args:
        model: from `load_pet_ct_model`.
        ct: HU (z, y, x) of the axial scan.
        pet: SUV on the same grid.
        geometry: of the axial scan.
        clicks: voxel indices (z, y, x) on it.

    Raises:
        LongilesionError: the network's output is not finite, or a forward pass failed.
        MemoryExhaustedError: out of memory on every rung of the memory ladder.
    """
    grid = pet_ct_grid(ct, pet, geometry.spacing_zyx, model.plan)
    placed, warnings = usable_clicks(clicks, geometry, grid, model.takes_clicks)
    for warning in warnings:
        log.warning("%s", warning)
    log.info("network grid %s, cropped from %s", grid.shape, ct.shape)
    images = network_images(ct, pet, grid, model.plan)
    organs = None
    if model.ensemble.organ_classes:
        organs = OrganWindow(model.ensemble.organ_classes, grid.shape, model.plan.network.patch_size_zyx)
    margin = predict_margin(model, images, click_voxels(placed, grid), organs)
    box, on_scan = margin_on_scan(margin, grid)
    mask = np.zeros(ct.shape, bool)
    mask[box.slices] = on_scan > 0  # a tie is background
    labels = organs.labels(grid) if organs is not None else None
    return TumorSegmentation(mask, box, on_scan, placed, tuple(warnings), labels)


def predict_margin(
    model: PetCtModel, images: FloatVolume, voxels: Mark, organs: OrganWindow | None = None
) -> FloatVolume:
    """Predict the whole network grid by a sliding window, averaged over the folds.

    Args:
        model: from `load_pet_ct_model`.
        images: float32 [2, *shape] from `network_images`.
        voxels: network voxels of the clicks.
        organs: collects the logits of organs, too.

    Returns:
        Tumour minus background logit, float32 [*shape] in network axes.

    Raises:
        LongilesionError: as `segment_pet_ct`.
    """
    _, z, y, x = images.shape
    patch, ensemble = model.plan.network.patch_size_zyx, model.ensemble
    tiles = window_tiles(Box.of_shape((z, y, x)), (z, y, x), patch)
    log.info("predicting %d tiles with %d folds", len(tiles), len(ensemble.folds))
    mean = WindowMean(Box.of_shape((z, y, x)), patch)
    for prediction in ensemble.predict([partial(tile_channels, images, voxels, tile) for tile in tiles]):
        mean.add(tiles[prediction.index], tile_margin(prediction, len(tiles)))
        if organs is not None and prediction.organs is not None:
            organs.add(tiles[prediction.index], prediction.organs)
    margin = mean.result()
    margin /= np.float32(len(ensemble.folds))
    return margin


def tile_margin(prediction: Prediction, count: int) -> FloatVolume:
    """The margin of a tile, summed over the folds.

    Args:
        prediction: of the tile.
        count: number of tiles, for the message.

    Returns:
        float32 of the tile's shape.

    Raises:
        LongilesionError: the tile could not be predicted.
    """
    if prediction.margin is not None:
        return prediction.margin
    reason = one_line(prediction.error) if prediction.error is not None else "no reason is known"
    raise LongilesionError(
        f"tile {prediction.index + 1} of {count} could not be predicted ({reason}); expected a finite margin"
    ) from prediction.error
