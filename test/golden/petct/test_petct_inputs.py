"""PET/CT on the network grid against the published numbers: grids, clicks and channels."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.geometry import Box
from model.case.tumor_clicks import ClickKind
from model.network.pet_ct import click_map, click_voxels, tile_channels
from model.network.tiles import window_tiles
from test.helpers.golden_pet_ct import PET_CT_CASES, GoldenPetCt, pet_ct_plan

# Its clicks outside are moved or dropped before they are mapped (test_petct_runs).
INSIDE = [name for name in PET_CT_CASES if name != "p8_clicks_outside"]


@pytest.fixture(scope="module", params=PET_CT_CASES)
def case(request: pytest.FixtureRequest) -> GoldenPetCt:
    return GoldenPetCt(request.param)


def test_grids_and_tiles_lie_where_the_published_ones_lie(case: GoldenPetCt) -> None:
    expected = case.steps["network_grid"]
    assert case.grid.box.bounds() == case.steps["crop"]["bbox_zyx"]
    assert list(case.grid.shape) == expected["shape_zyx"]
    tiles = window_tiles(Box.of_shape(case.grid.shape), case.grid.shape, pet_ct_plan().network.patch_size_zyx)
    padding = expected["patch_padding_before"]
    starts = [{tile.start_zyx[axis] + padding[axis] for tile in tiles} for axis in range(3)]
    assert [sorted(one) for one in starts] == expected["tile_starts_per_axis"]
    assert len(tiles) == expected["tiles"]


def test_image_channels(case: GoldenPetCt) -> None:
    for image, expected in zip(case.images, case.steps["input_channels"], strict=False):
        assert image.dtype == np.float32
        assert image.sum(dtype=np.float64) == pytest.approx(expected["sum"], rel=1e-5)
        assert (image.min(), image.max()) == pytest.approx((expected["min"], expected["max"]), abs=1e-5)


@pytest.mark.parametrize("name", INSIDE)
def test_clicks_and_their_maps(name: str) -> None:
    case = GoldenPetCt(name)
    published = [click.get("voxel_zyx_fixed", click["voxel_zyx_published"]) for click in case.steps["clicks"]]
    assert [list(case.grid.click_voxel(click.point_zyx)) for click in case.clicks] == published
    voxels, whole = click_voxels(case.clicks, case.grid), Box.of_shape(case.grid.shape)
    for kind in ClickKind:
        file = "clicks_fixed.npz" if name.startswith("p7") else "clicks.npz"
        stored = case.stored(file, kind)
        assert stored is not None
        assert np.abs(click_map(voxels[kind], whole, case.grid.shape) - stored).max() <= 1e-6


@pytest.mark.parametrize("name", ["p4_ten_ten_border", "p5_thick_slices_small_z", "p6_flipped_narrow"])
def test_tile_input(name: str) -> None:
    case = GoldenPetCt(name)
    shape = case.grid.shape
    tiles = window_tiles(Box.of_shape(shape), shape, pet_ct_plan().network.patch_size_zyx)
    tile = tiles[case.steps["stored_tile"]["index"]]
    stored = case.stored("tile.npz", "input")
    assert stored is not None
    channels = tile_channels(case.images, click_voxels(case.clicks, case.grid), tile)
    assert channels.dtype == np.float32 and channels.shape == stored.shape
    assert np.abs(channels - stored).max() <= 1e-5
