"""Patches extracted and pasted back, against a literal implementation on whole volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from model.case.case import Scan, Slot, TimePointName
from model.case.geometry import AxisMap, Box, Geometry, flip_order
from model.network.normalize import normalize_ct
from model.network.patches import (
    NetworkGrid,
    extract_ct,
    extract_mask,
    network_grid,
    paste_back,
    place_patches,
)
from model.network.plan import CtNormalization, Plan, read_plan
from test.helpers.orientations import FLIPS, ORDERS
from test.helpers.paths import GOLDEN_MODEL

SCHEME = CtNormalization(-800.0, 400.0, 50.0, 140.0)
shapes = st.tuples(*[st.integers(1, 24)] * 3)
seeds = st.integers(0, 1000)


def _whole(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if volume.shape == tuple(shape):
        return volume
    tensor = torch.from_numpy(volume.astype(np.float32, order="C"))[None, None]
    return interpolate(tensor, size=shape, mode="trilinear", align_corners=False)[0, 0].numpy()


def _grid(source: tuple[int, int, int], target: tuple[int, int, int]) -> NetworkGrid:
    one = (1.0, 1.0, 1.0)
    return NetworkGrid(AxisMap(), source, source, one, one, target)


@pytest.mark.slow
@given(shapes, shapes, st.tuples(*[st.integers(-9, 20)] * 3), seeds)
@settings(max_examples=150, deadline=None)
def test_extract_and_paste_back(
    source: tuple[int, int, int], target: tuple[int, int, int], start: tuple[int, int, int], seed: int
) -> None:
    """Patches beyond the image, and images smaller than the patch, against whole padded volumes."""
    rng = np.random.default_rng(seed)
    grid, patch = _grid(source, target), Box.of_shape((8, 9, 10), start)
    labels = rng.integers(0, 3, source).astype(np.uint8)
    hu = rng.normal(0, 500, source).astype(np.int16)
    ct = Scan(
        TimePointName.BASELINE,
        Slot.PRIMARY,
        Path("ct.mha"),
        Geometry((source[2], source[1], source[0]), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
        AxisMap(),
        hu,
        labels,
    )
    inside = patch.intersection(grid.whole)
    for got, whole in (
        (extract_ct(ct, grid, patch, SCHEME), _whole(normalize_ct(hu, SCHEME), target)),
        (extract_mask(ct, 2, grid, patch), (_whole((labels == 2).astype(np.float32), target) > 0.5) * 1.0),
    ):
        expected = np.zeros(patch.shape_zyx, np.float32)
        if not inside.is_empty:
            expected[inside.relative_to(patch).slices] = whole[inside.slices]
        assert np.abs(got - expected).max() <= 1e-5
    if inside.is_empty:
        return
    probability = rng.random(patch.shape_zyx).astype(np.float32)
    pasted = np.zeros(target, np.float32)
    pasted[inside.slices] = probability[inside.relative_to(patch).slices]
    box, values = paste_back(probability, patch, grid)
    result = np.zeros(source, np.float32)
    result[box.slices] = values
    assert np.abs(result - _whole(pasted, source)).max() <= 1e-6  # also: nothing outside of the box


@pytest.mark.parametrize(
    ("point", "shape", "expected"),
    [(50, 100, 34), (3, 100, 0), (98, 100, 68), (5, 23, -5), (5, 32, 0)],  # inner, borders, smaller, equal
)
def test_start_of_a_placed_patch(point: int, shape: int, expected: int) -> None:
    placement = place_patches((point,) * 3, (point + 7,) * 3, (shape,) * 3, (32,) * 3)
    assert placement.followup == Box.of_shape((32,) * 3, (expected,) * 3)
    assert placement.baseline == Box.of_shape((32,) * 3, (expected + 7,) * 3)


# --- any order and signs of the axes ---------------------------------------------------------------------

PLAN = read_plan(GOLDEN_MODEL / "plans.json")


def _scan(
    array: np.ndarray,
    spacing_zyx: tuple[float, ...],
    flipped: tuple[bool, ...] = (False,) * 3,
    mask: np.ndarray | None = None,
) -> Scan:
    stored = Geometry(flip_order(array.shape), flip_order(spacing_zyx), (1.0, -2.0, 3.0))
    geometry = stored.reoriented(AxisMap(flipped=flipped))  # type: ignore[arg-type]
    return Scan(TimePointName.BASELINE, Slot.PRIMARY, Path("ct.mha"), geometry, AxisMap(), array, mask)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Scan, Scan, Plan, Box]:
    """A scan, another one whose axis signs it takes on, a plan with any order of axes, and any patch."""
    rng = np.random.default_rng(draw(seeds))
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    spacing = draw(st.tuples(*[st.sampled_from([0.8, 1.0, 1.3, 2.5, 5.0])] * 3))
    target = draw(st.just(spacing) | st.tuples(*[st.sampled_from([1.0, 1.2, 2.4])] * 3))
    order = draw(st.sampled_from(ORDERS))
    plan = replace(PLAN, spacing_zyx=AxisMap(order).triple(target), transpose_forward=order)
    hu, labels = rng.integers(-1100, 700, shape), rng.integers(0, 3, shape)
    scan = _scan(hu.astype(np.int16), spacing, draw(st.sampled_from(FLIPS)), labels.astype(np.uint8))
    like = _scan(np.zeros((2, 2, 2)), (1, 1, 1), draw(st.sampled_from(FLIPS)))
    size = draw(st.tuples(*[st.integers(1, 9)] * 3))
    grid = network_grid(scan.geometry, plan, like.geometry if like else None)
    start = [draw(st.integers(-p + 1, n - 1)) for n, p in zip(grid.shape, size, strict=True)]
    return scan, like, plan, Box.of_shape(size, start)


@pytest.mark.slow
@given(situations())
@settings(deadline=None, max_examples=150)
def test_network_axes_are_flipped_then_permuted(situation: tuple[Scan, Scan, Plan, Box]) -> None:
    scan, like, plan, box = situation
    grid = network_grid(scan.geometry, plan, like.geometry if like else None)
    pairs = zip(scan.geometry.axis_signs_zyx(), like.geometry.axis_signs_zyx(), strict=True)
    flips = tuple(axis for axis, (mine, wanted) in enumerate(pairs) if mine != wanted)
    inside = box.intersection(grid.whole)

    def cut(array: np.ndarray) -> np.ndarray:
        patch = np.zeros(box.shape_zyx, np.float32)
        whole = _whole(np.flip(array, flips).transpose(plan.transpose_forward), grid.shape)
        patch[inside.relative_to(box).slices] = whole[inside.slices]
        return patch

    ct = extract_ct(scan, grid, box, plan.normalization)
    np.testing.assert_allclose(ct, cut(normalize_ct(scan.ct, plan.normalization)), rtol=0, atol=5e-6)
    assert scan.mask is not None
    soft = cut((scan.mask == 2).astype(np.float32))
    clear = np.abs(soft - 0.5) > 1e-6
    np.testing.assert_array_equal(extract_mask(scan, 2, grid, box)[clear], (soft > 0.5)[clear])

    pasted = np.zeros(grid.shape, np.float32)
    pasted[inside.slices] = ct[inside.relative_to(box).slices]
    back = _whole(pasted, grid.source_shape).transpose(np.argsort(plan.transpose_forward))
    touched, values = paste_back(ct, box, grid)
    got = np.zeros(scan.ct.shape, np.float32)
    got[touched.slices] = values
    np.testing.assert_allclose(got, np.flip(back, flips), rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("flipped", FLIPS)
def test_the_index_of_a_point_is_that_of_its_voxel(
    order: tuple[int, int, int], flipped: tuple[bool, bool, bool]
) -> None:
    scan = _scan(np.arange(60).reshape(3, 4, 5), (2.0, 1.0, 3.0), flipped)
    plan = replace(PLAN, spacing_zyx=AxisMap(order).triple((2.0, 1.0, 3.0)), transpose_forward=order)
    grid = network_grid(scan.geometry, plan, like=_scan(np.zeros((1, 1, 1)), (1, 1, 1)).geometry)
    for index in np.ndindex(3, 4, 5):
        assert grid.axes.array(scan.ct)[grid.index(index)] == scan.ct[index]


triples = st.tuples(*[st.integers(0, 60)] * 3)
sizes = st.tuples(*[st.integers(1, 50)] * 3)


@given(triples, triples, sizes, sizes)
@settings(deadline=None)
def test_both_points_have_the_same_position_in_their_patches(
    followup: tuple[int, ...],
    baseline: tuple[int, int, int],
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
) -> None:
    a, b, c = (min(value, n - 1) for value, n in zip(followup, shape, strict=True))
    placement = place_patches((a, b, c), baseline, shape, patch)
    assert placement.followup.shape_zyx == placement.baseline.shape_zyx == patch
    place_in_patch = np.subtract((a, b, c), placement.followup.start_zyx)
    assert np.array_equal(place_in_patch, np.subtract(baseline, placement.baseline.start_zyx))
    assert (place_in_patch >= 0).all() and (place_in_patch < patch).all()
    for (start, stop), n, p in zip(placement.followup.bounds(), shape, patch, strict=True):
        if n >= p:
            assert start >= 0 and stop <= n
        else:  # of an odd difference the low side gets one voxel more
            assert -start - (stop - n) in (0, 1)


def test_other_pairs_of_patches_have_the_offset_of_the_points() -> None:
    usual = place_patches((20, 30, 5), (24, 27, 5), (40, 40, 9), (16, 16, 16))
    other = usual.at(Box.of_shape((16, 16, 16), (0, 10, -3)))
    assert other.followup.start_zyx == (0, 10, -3) and other.baseline.start_zyx == (4, 7, -3)
    assert (other.followup_index, other.baseline_index) == (usual.followup_index, usual.baseline_index)
    assert usual.at(usual.followup) == usual
    assert usual.to_followup(other.baseline) == other.followup


def test_a_patch_between_two_thick_slices() -> None:
    scan = _scan(np.zeros((2, 64, 64), np.int16), (200.0, 1.2, 1.2))
    grid = network_grid(scan.geometry, PLAN)
    box = place_patches(grid.index((0, 9, 9)), (0, 0, 0), grid.shape, PLAN.patch_size_zyx).followup
    touched, values = paste_back(np.ones(PLAN.patch_size_zyx, np.float32), box, grid)
    assert touched.shape_zyx == values.shape == (1, 1, 1) and not values.any()


def test_a_scan_without_a_mask_gives_an_empty_channel() -> None:
    scan = _scan(np.zeros((4, 4, 4), np.int16), (1, 1, 1))
    mask = extract_mask(scan, 1, network_grid(scan.geometry, PLAN), Box.of_shape((3, 3, 3)))
    assert mask.shape == (3, 3, 3) and not mask.any()
