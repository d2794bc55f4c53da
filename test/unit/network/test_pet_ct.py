"""Network grid, channels and clicks for PET/CT on small arrays; the golden cases hold the numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.case.geometry import Box
from model.case.tumor_clicks import ClickKind, TumorClick
from model.network.pet_ct import (
    click_map,
    click_mark,
    click_voxels,
    margin_on_scan,
    network_images,
    pet_ct_grid,
    tile_channels,
)
from model.network.plan import PetCtPlan
from test.helpers.golden_pet_ct import pet_ct_plan

SPACING = (4.0, 2.5, 2.0)


def _scan(shape: tuple[int, int, int] = (12, 14, 16)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.integers(-900, 900, shape).astype(np.int16), rng.uniform(0.1, 9, shape).astype(np.float32)


def _transposed_plan() -> PetCtPlan:
    plan = pet_ct_plan()
    z, y, x = plan.network.spacing_zyx
    network = replace(plan.network, transpose_forward=(2, 0, 1), spacing_zyx=(x, z, y))
    return replace(plan, network=network)


def test_a_mark_is_a_ball_of_33_voxels() -> None:
    mark = click_mark()
    assert mark.dtype == np.float32 and np.count_nonzero(mark) == 33
    assert mark[2, 2, 2] == 1 and mark[2, 2, 3] == pytest.approx(0.63246, abs=1e-5)
    assert mark[1, 1, 2] == mark[2, 2, 4] == pytest.approx(0.44721, abs=1e-5)


def test_marks_combine_by_maximum_and_end_at_the_border_of_the_grid() -> None:
    whole = Box.of_shape((8, 8, 8))
    pair = click_map([(3, 3, 3), (3, 3, 4)], whole, (8, 8, 8))
    assert pair.max() == 1 and pair[3, 3, 3] == pair[3, 3, 4] == 1
    np.testing.assert_array_equal(pair, click_map([(3, 3, 4), (3, 3, 3), (3, 3, 3)], whole, (8, 8, 8)))
    beyond = Box((-3, 0, 0), (5, 8, 8))
    cut = click_map([(0, 3, 3)], beyond, (8, 8, 8))
    assert not cut[:3].any() and cut[3, 3, 3] == 1
    assert not click_map([(8 + 3, 3, 3)], whole, (8, 8, 8)).any()


def test_only_what_is_zero_in_both_images_is_cropped() -> None:
    ct, pet = _scan()
    ct[:3], pet[:2] = 0, 0
    assert pet_ct_grid(ct, pet, SPACING, pet_ct_plan()).box == Box((2, 0, 0), (12, 14, 16))
    empty = pet_ct_grid(ct * 0, pet * 0, SPACING, pet_ct_plan())
    assert empty.box == Box.of_shape(ct.shape)


def test_the_crop_is_subtracted_from_clicks_once() -> None:
    ct, pet = _scan()
    ct[:5], pet[:5] = 0, 0
    plan = pet_ct_plan()
    same = replace(plan, network=replace(plan.network, spacing_zyx=SPACING))
    grid = pet_ct_grid(ct, pet, SPACING, same)
    assert grid.click_voxel((8, 3, 4)) == (3, 3, 4)
    assert grid.click_voxel((1, 13, 15.4)) == (0, 13, 15)  # in the cropped margin: to its border


def test_a_transposed_plan_gives_the_same_numbers_in_its_own_axes() -> None:
    ct, pet = _scan()
    plan, transposed = pet_ct_plan(), _transposed_plan()
    grid, other = (pet_ct_grid(ct, pet, SPACING, one) for one in (plan, transposed))
    images, turned = network_images(ct, pet, grid, plan), network_images(ct, pet, other, transposed)
    np.testing.assert_allclose(turned, images.transpose(0, 3, 1, 2), atol=1e-5)
    point = (3.0, 4.0, 9.0)
    z, y, x = grid.click_voxel(point)
    assert other.click_voxel(point) == (x, z, y)
    box, margin = margin_on_scan(images[0], grid)
    other_box, other_margin = margin_on_scan(turned[0], other)
    assert box == other_box and margin.shape == ct.shape
    np.testing.assert_allclose(other_margin, margin, atol=1e-5)


def test_nan_and_infinity_count_as_the_lower_clip_value() -> None:
    ct, pet = _scan()
    plan = pet_ct_plan()
    damaged, clipped = pet.copy(), pet.copy()
    damaged[3, 4, 5:8] = (np.nan, np.inf, -np.inf)
    clipped[3, 4, 5:8] = plan.pet.lower
    grid = pet_ct_grid(ct, pet, SPACING, plan)
    np.testing.assert_array_equal(
        network_images(ct, damaged, grid, plan), network_images(ct, clipped, grid, plan)
    )


def test_channels_of_a_tile_are_zero_beyond_the_grid() -> None:
    ct, pet = _scan()
    plan = pet_ct_plan()
    grid = pet_ct_grid(ct, pet, SPACING, plan)
    images = network_images(ct, pet, grid, plan)
    clicks = [TumorClick(ClickKind.BACKGROUND, (0.0, 0.0, 0.0)), TumorClick(ClickKind.TUMOR, (5.0, 6.0, 7.0))]
    voxels = click_voxels(clicks, grid)
    tile = Box.of_shape((24, 24, 24), (-4, 0, 0))
    channels = tile_channels(images, voxels, tile)
    assert channels.shape == (4, 24, 24, 24) and channels.dtype == np.float32
    assert not channels[:, :4].any() and channels[3, 4, 0, 0] == 1
    z, y, x = voxels[ClickKind.TUMOR][0]
    assert channels[2, z + 4, y, x] == 1
    inside = images[:, :20, :24, :24]
    np.testing.assert_array_equal(
        channels[:2, 4 : 4 + inside.shape[1], : inside.shape[2], : inside.shape[3]], inside
    )
