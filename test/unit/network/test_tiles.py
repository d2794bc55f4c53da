"""Tiles: coverage, weights, blending, and the number of patches of a lesion."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.case import LesionPrompt, PointSource, PromptPoint, Scan, Slot, TimePointName
from model.case.geometry import AxisMap, Box, Geometry, Index, flip_order
from model.case.labelmaps import bounding_box
from model.network.encoding import encode_patches, place_lesion
from model.network.patches import Placement, place_patches
from model.network.plan import read_plan
from model.network.tiles import (
    Blend,
    centred_tile,
    cover,
    even_starts,
    lesion_tiles,
    tile_weight,
    window_tiles,
)
from test.helpers.paths import GOLDEN_MODEL

GOLDEN = GOLDEN_MODEL
PATCH = (16, 16, 16)
PLAN = replace(read_plan(GOLDEN / "plans.json"), patch_size_zyx=PATCH, spacing_zyx=(1.0, 1.0, 1.0))


def _covered(boxes: list[Box], shape: Index) -> np.ndarray:
    seen = np.zeros(shape, bool)
    for box in boxes:
        seen[box.intersection(Box.of_shape(shape)).slices] = True
    return seen


@given(st.integers(1, 200), st.integers(1, 60))
def test_even_starts(length: int, patch: int) -> None:
    starts = even_starts(length, patch)
    assert starts[0] == 0
    if length <= patch:
        assert starts == [0]
        return
    assert starts[-1] == length - patch
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= np.ceil(patch / 2)).all()
    assert np.ptp(steps) <= 1


@st.composite
def extents(draw: st.DrawFn) -> tuple[Index, Index, Index, Box]:
    """An image, a patch, a point and an extent in the image."""
    shape = draw(st.tuples(*[st.integers(1, 40)] * 3))
    patch = draw(st.tuples(*[st.integers(4, 14)] * 3))
    point = tuple(draw(st.integers(0, n - 1)) for n in shape)
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return shape, patch, point, Box(start, stop)  # type: ignore[return-value,arg-type]


@pytest.mark.slow
@given(extents())
@settings(max_examples=200, deadline=None)
def test_tiles_cover_an_extent(situation: tuple[Index, Index, Index, Box]) -> None:
    shape, patch, point, extent = situation
    first = place_patches(point, point, shape, patch).followup
    tiles = cover(extent, first, shape)
    assert tiles[0] == first and len(set(tiles)) == len(tiles)
    assert _covered(tiles, shape)[extent.slices].all()
    image = Box.of_shape(shape)
    for tile in tiles:
        assert tile.shape_zyx == patch
        for axis, (n, p) in enumerate(zip(shape, patch, strict=True)):
            if n >= p:
                assert tile.start_zyx[axis] >= 0 and tile.stop_zyx[axis] <= n
            else:
                assert tile.start_zyx[axis] == first.start_zyx[axis]
    if extent.intersection(first.intersection(image)) == extent:
        assert tiles == [first]
    # Never more than the extent alone would need, and the first.
    counts = [len(even_starts(e, p)) for e, p in zip(extent.shape_zyx, patch, strict=True)]
    assert len(tiles) <= 1 + np.prod(counts)


@pytest.mark.slow
@given(extents())
@settings(max_examples=100, deadline=None)
def test_tiles_of_the_sliding_window(situation: tuple[Index, Index, Index, Box]) -> None:
    shape, patch, _, extent = situation
    tiles = window_tiles(extent, shape, patch)
    assert _covered(tiles, shape)[extent.slices].all()
    assert all(not tile.intersection(extent).is_empty for tile in tiles)
    everywhere = window_tiles(Box.of_shape(shape), shape, patch)
    assert _covered(everywhere, shape).all()
    assert [tile for tile in everywhere if not tile.intersection(extent).is_empty] == tiles


def test_tile_weights() -> None:
    weight = tile_weight((16, 24, 9))
    assert weight.dtype == np.float32 and (weight > 0).all()
    assert weight[8, 12, 4] == weight.max() == 1
    assert weight[10, 12, 4] == pytest.approx(np.exp(-0.5), rel=1e-6)  # an eighth of 16 away
    assert weight[8, 15, 4] == pytest.approx(np.exp(-0.5), rel=1e-6)


def test_blended_margins_equal_the_weighted_average() -> None:
    rng = np.random.default_rng(1)
    tiles = [Box.of_shape((6, 8, 8), start) for start in ((-2, 0, 0), (2, 3, 0), (2, 3, 12))]
    margins = [rng.normal(0, 9, (6, 8, 8)).astype(np.float32) for _ in tiles]
    blend = Blend(tiles)
    for tile, margin in zip(tiles, margins, strict=True):
        blend.add(tile, margin)
    assert blend.box == Box((-2, 0, 0), (8, 11, 20))
    got = blend.margin()
    for voxel in product(range(-2, 8), range(11), range(20)):
        total = weights = 0.0
        for tile, margin in zip(tiles, margins, strict=True):
            inside = np.subtract(voxel, tile.start_zyx)
            if (inside >= 0).all() and (inside < tile.shape_zyx).all():
                offset = inside - np.array(tile.shape_zyx) // 2
                weight = np.exp(-0.5 * np.square(offset / (np.array(tile.shape_zyx) / 8)).sum())
                total, weights = total + weight * margin[tuple(inside)], weights + weight
        value = got[voxel[0] + 2, voxel[1], voxel[2]]
        assert value == (-np.inf if not weights else pytest.approx(total / weights, rel=1e-4, abs=1e-4))


@given(extents())
@settings(max_examples=100, deadline=None)
def test_a_centred_tile_contains_its_extent(situation: tuple[Index, Index, Index, Box]) -> None:
    shape, patch, point, extent = situation
    tile = centred_tile(point, extent, shape, patch)
    assert tile.shape_zyx == patch
    for axis, (n, p) in enumerate(zip(shape, patch, strict=True)):
        start, stop = tile.start_zyx[axis], tile.stop_zyx[axis]
        low, high = extent.start_zyx[axis], extent.stop_zyx[axis]
        if n <= p:
            assert 0 <= (stop - n) - -start <= 1  # as much after as before, or one more
        else:
            assert start >= 0 and stop <= n
        if high - low <= p:
            assert start <= low and high <= stop


# --- a lesion's pairs of patches -------------------------------------------------------------------------


def _scan(mask: np.ndarray, time_point: str, flipped: tuple[bool, bool, bool] = (False,) * 3) -> Scan:
    """A CT of noise with a mask; axes run against the world's if flipped."""
    stored = Geometry(flip_order(mask.shape), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    ct = np.random.default_rng(3).integers(-500, 500, mask.shape).astype(np.int16)
    axes = AxisMap(flipped=flipped)
    return Scan(
        time_point,
        Slot.PRIMARY,
        Path("ct.mha"),
        stored.reoriented(axes),
        AxisMap(),
        axes.array(ct),
        axes.array(mask),
    )


def _mask(*boxes: Box, shape: Index = (40, 60, 60)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for box in boxes:
        mask[box.slices] = 5
    return mask


def _pairs(
    mask: np.ndarray,
    baseline_point: Index,
    followup_point: Index,
    followup_shape: Index = (40, 60, 60),
    flipped: tuple[bool, bool, bool] = (False,) * 3,
) -> list[Placement]:
    baseline = _scan(mask, TimePointName.BASELINE, flipped)
    followup = _scan(np.zeros(followup_shape, np.uint8), TimePointName.FOLLOWUP)
    stored_point = AxisMap(flipped=flipped).point(baseline_point, mask.shape)
    prompt = LesionPrompt(
        5,
        baseline,
        PromptPoint(stored_point, PointSource.GIVEN),
        followup,
        PromptPoint(followup_point, PointSource.GIVEN),
    )
    lesion = place_lesion(prompt, PLAN)
    labelled = bounding_box(baseline.mask == 5)  # type: ignore[arg-type]
    assert labelled is not None
    pairs = lesion_tiles(
        baseline, 5, labelled, lesion.placement, lesion.baseline_grid, lesion.followup_grid.shape
    )
    assert pairs[0] == lesion.placement
    for pair in pairs:  # each as far apart as the points are
        step = np.subtract(pair.baseline_index, pair.followup_index)
        assert np.array_equal(np.subtract(pair.baseline.start_zyx, pair.followup.start_zyx), step)
        assert encode_patches(lesion, pair, PLAN).shape == (5, *PATCH)
    return pairs


def test_one_pair_of_patches_for_a_mask_that_fits() -> None:
    assert len(_pairs(_mask(Box((12, 22, 22), (28, 38, 38))), (20, 30, 30), (20, 30, 30))) == 1


@pytest.mark.parametrize("flipped", [(False,) * 3, (True, False, True)])
def test_tiles_cover_a_larger_mask_in_the_followup(flipped: tuple[bool, bool, bool]) -> None:
    lesion = Box((10, 15, 20), (34, 45, 34))
    pairs = _pairs(_mask(lesion), (20, 30, 27), (18, 33, 31), flipped=flipped)
    seen = _covered([pair.followup for pair in pairs], (40, 60, 60))
    assert seen[lesion.shifted((-2, 3, 4)).slices].all()
    assert 1 < len(pairs) <= 1 + 3 * 4  # on the last axis the usual patch holds it


def test_tiles_do_not_cover_what_is_out_of_view() -> None:
    lesion = _mask(Box((2, 22, 22), (24, 38, 38)))
    whole = _pairs(lesion, (16, 30, 30), (16, 30, 30))
    assert len(whole) > 1
    # The follow-up begins where the usual patch does: the rest of the lesion lies before its first slice.
    assert len(_pairs(lesion, (16, 30, 30), (8, 30, 30), followup_shape=(32, 60, 60))) == 1


def test_an_image_smaller_than_the_patch_needs_no_tiles_on_that_axis() -> None:
    mask = _mask(Box((0, 10, 10), (9, 40, 20)), shape=(9, 60, 60))
    pairs = _pairs(mask, (4, 25, 15), (4, 25, 15), followup_shape=(9, 60, 60))
    assert len(pairs) > 1
    assert {pair.followup.start_zyx[0] for pair in pairs} == {-4}


def test_pairs_without_voxels_of_the_mask_are_left_out() -> None:
    ends = _mask(Box((18, 4, 4), (22, 12, 12)), Box((18, 48, 48), (22, 56, 56)))
    pairs = _pairs(ends, (20, 8, 8), (20, 8, 8))
    assert all(ends[pair.baseline.slices].any() for pair in pairs)
    seen = _covered([pair.followup for pair in pairs], (40, 60, 60))
    assert seen[ends == 5].all() and not seen[20, 30, 30]


def test_a_point_off_its_mask_gets_one_pair() -> None:
    mask = _mask(Box((18, 4, 4), (22, 12, 12)))
    assert len(_pairs(mask, (20, 30, 30), (20, 30, 30))) == 1
    assert len(_pairs(mask, (20, 16, 16), (20, 16, 16))) == 1  # beyond the margin
    assert len(_pairs(mask, (20, 15, 15), (20, 15, 15))) == 2  # within it, and cut by the usual patch


def test_heat_maps_of_tiles_are_at_their_points() -> None:
    pairs = _pairs(_mask(Box((18, 4, 20), (22, 56, 36))), (20, 30, 28), (20, 30, 28))
    prompt_scan = _scan(_mask(Box((18, 4, 20), (22, 56, 36))), TimePointName.BASELINE)
    point = PromptPoint((20.0, 30.0, 28.0), PointSource.GIVEN)
    lesion = place_lesion(LesionPrompt(5, prompt_scan, point, prompt_scan, point), PLAN)
    peaks = []
    for pair in pairs:
        channels = encode_patches(lesion, pair, PLAN)
        holds = not Box.of_shape((1, 1, 1), (20, 30, 28)).intersection(pair.followup).is_empty
        assert channels[2].any()
        assert channels[3].max() == channels[4].max() == (1 if holds else 0)
        peaks.append(holds)
    assert peaks[0] and not all(peaks)
