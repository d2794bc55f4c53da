"""Organs beside the tumour: same mask as without them, labels of the largest mean logit on the scan."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from model.case.geometry import Box
from model.interactive.organ_window import OrganWindow
from model.interactive.segment_pet_ct import segment_pet_ct
from model.network.pet_ct import click_voxels, network_images, pet_ct_grid, tile_channels
from model.network.tiles import window_tiles
from test.helpers.tiny_pet_ct import TINY_GEOMETRY, TINY_SHAPE, tiny_pet_ct, tiny_pet_ct_model

CLASSES = 4


@pytest.mark.parametrize("resident", [True, False])
def test_the_tumour_keeps_its_numbers_and_organs_are_predicted(resident: bool) -> None:
    ct, pet = tiny_pet_ct()
    plain = segment_pet_ct(tiny_pet_ct_model(2), ct, pet, TINY_GEOMETRY)
    model = tiny_pet_ct_model(2, organ_classes=CLASSES)
    model.ensemble.rung = replace(model.ensemble.rung, resident=resident)
    done = segment_pet_ct(model, ct, pet, TINY_GEOMETRY)
    assert plain.organs is None and done.organs is not None
    np.testing.assert_array_equal(done.margin, plain.margin)
    assert done.organs.shape == TINY_SHAPE and done.organs.dtype == np.uint8
    assert 1 < len(np.unique(done.organs)) <= CLASSES


def test_labels_are_those_of_the_largest_weighted_mean() -> None:
    ct, pet = tiny_pet_ct()
    ct[:2], pet[:2] = 0, 0  # cropped
    model = tiny_pet_ct_model(organ_classes=CLASSES)
    grid = pet_ct_grid(ct, pet, TINY_GEOMETRY.spacing_zyx, model.plan)
    images, patch = network_images(ct, pet, grid, model.plan), model.plan.network.patch_size_zyx
    tiles = window_tiles(Box.of_shape(grid.shape), grid.shape, patch)
    window = OrganWindow(CLASSES, grid.shape, patch)
    votes = np.zeros((CLASSES, *grid.shape))
    encode = [partial(tile_channels, images, click_voxels((), grid), tile) for tile in tiles]
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in patch), indexing="ij")
    weight = np.exp(-(z**2 + y**2 + x**2) / 2)  # sigma of patch / 8
    for prediction in model.ensemble.predict(encode):
        assert prediction.organs is not None and prediction.organs.shape == (CLASSES, *patch)
        window.add(tiles[prediction.index], prediction.organs)
        votes[:, *tiles[prediction.index].slices] += weight * prediction.organs
    labels = window.labels(grid)
    assert not labels[:2].any()  # the grids are the same else: nothing is resampled
    assert (labels[2:] == votes.argmax(0)).mean() > 0.99


def test_a_tie_is_the_lower_class() -> None:
    ct, pet = tiny_pet_ct()
    grid = pet_ct_grid(ct, pet, TINY_GEOMETRY.spacing_zyx, tiny_pet_ct_model().plan)
    window = OrganWindow(3, grid.shape, grid.shape)
    logits = np.zeros((3, *grid.shape), np.float32)
    logits[1:, 4:] = 1
    window.add(Box.of_shape(grid.shape), logits)
    labels = window.labels(grid)
    assert not labels[:4].any() and (labels[4:] == 1).all()
