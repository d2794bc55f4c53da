"""Resampling, patches and heat maps against the recipe taken literally on whole volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from model.case.case import Scan, Slot, TimePointName
from model.case.geometry import AxisMap, Box, Geometry
from model.network.normalize import normalize_ct
from model.network.patches import NetworkGrid, extract_ct, extract_mask, paste_back, place
from model.network.plan import CtNormalization
from model.network.prompts import heat_map
from model.network.resample import resample_box, resampled_index, resampled_shape, source_box, touched_box

SCHEME = CtNormalization(-800.0, 400.0, 50.0, 140.0)
shapes = st.tuples(*[st.integers(1, 24)] * 3)
seeds = st.integers(0, 1000)


def _whole(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if volume.shape == tuple(shape):
        return volume
    tensor = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None, None]
    return interpolate(tensor, size=shape, mode="trilinear", align_corners=False)[0, 0].numpy()


def _grid(source: tuple[int, int, int], target: tuple[int, int, int]) -> NetworkGrid:
    one = (1.0, 1.0, 1.0)
    return NetworkGrid(AxisMap(), source, source, one, one, target)


@given(shapes, shapes, seeds)
@settings(max_examples=150, deadline=None)
def test_a_box_equals_the_whole_volume(source: tuple[int, ...], target: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=source).astype(np.float32)
    start = [int(rng.integers(n)) for n in target]
    box = Box.of_shape([int(rng.integers(1, n - s + 1)) for n, s in zip(target, start, strict=True)], start)
    needed = source_box(source, target, box)
    got = resample_box(volume[needed.slices], needed.start_zyx, source, target, box)
    # Bit-equal where the processor fuses multiply and add; elsewhere a last bit.
    assert np.abs(got - _whole(volume, target)[box.slices]).max() <= 1e-6


@given(shapes, shapes, st.tuples(*[st.integers(-9, 20)] * 3), seeds)
@settings(max_examples=150, deadline=None)
def test_extract_and_paste_back(
    source: tuple[int, int, int], target: tuple[int, int, int], start: tuple[int, int, int], seed: int
) -> None:
    """Patches that leave the image, and images smaller than the patch, as on whole padded volumes."""
    rng = np.random.default_rng(seed)
    grid, patch = _grid(source, target), Box.of_shape((8, 9, 10), start)
    labels = rng.integers(0, 3, source).astype(np.uint8)
    hu = rng.normal(0, 500, source).astype(np.int16)
    ct = Scan(
        TimePointName.BASELINE, Slot.PRIMARY, Path("ct.mha"),
        Geometry((source[2], source[1], source[0]), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), AxisMap(), hu, labels,
    )  # fmt: skip
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


@given(shapes, shapes, seeds)
@settings(deadline=None)
def test_untouched_voxels_are_exactly_zero(
    source: tuple[int, ...], target: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    start = [int(rng.integers(n)) for n in source]
    box = Box.of_shape([1, 1, 1], start)
    volume = np.zeros(source, np.float32)
    volume[box.slices] = 1
    touched = touched_box(source, target, box)
    outside = np.ones(target, bool)
    if not touched.is_empty:
        outside[touched.slices] = False
    assert not _whole(volume, target)[outside].any()


@given(shapes, st.tuples(*[st.integers(-6, 20)] * 3), seeds)
@settings(deadline=None)
def test_heat_map_is_the_recipes(shape: tuple[int, int, int], start: tuple[int, int, int], seed: int) -> None:
    grid, patch = _grid(shape, shape), Box.of_shape((12, 12, 12), start)
    inside = patch.intersection(grid.whole)
    if inside.is_empty:
        return
    rng = np.random.default_rng(seed)
    pairs = zip(inside.start_zyx, inside.stop_zyx, strict=True)
    point = tuple(int(rng.integers(a, b)) for a, b in pairs)
    delta = np.zeros(inside.shape_zyx, np.float32)
    delta[tuple(p - a for p, a in zip(point, inside.start_zyx, strict=True))] = 1
    blob = gaussian_filter(delta, 1)
    expected = np.zeros(patch.shape_zyx, np.float32)
    expected[inside.relative_to(patch).slices] = blob / blob[delta == 1]
    got = heat_map((point[0], point[1], point[2]), patch, grid)
    assert got.max() == 1 and np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("point", "shape", "expected"),
    [(50, 100, 34), (3, 100, 0), (98, 100, 68), (5, 23, -5), (5, 32, 0)],  # inner, borders, smaller, equal
)
def test_place(point: int, shape: int, expected: int) -> None:
    placement = place((point,) * 3, (point + 7,) * 3, (shape,) * 3, (32,) * 3)
    assert placement.followup == Box.of_shape((32,) * 3, (expected,) * 3)
    assert placement.baseline == Box.of_shape((32,) * 3, (expected + 7,) * 3)


def test_rounding_is_the_recipes() -> None:
    assert resampled_index((90.0, 0.4, 9.9), (1.4, 1.0, 1.0), (1.2, 1.0, 1.0), (200, 9, 9)) == (104, 0, 8)
    assert resampled_shape((5, 7, 1), (0.5, 0.5, 0.1), (1.0, 1.0, 1.0)) == (2, 4, 1)


def test_voxels_that_are_no_numbers_become_air() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 9000.0, 50.0], np.float64)
    low, high = (np.float32(v - 50) / np.float32(140) for v in (-800, 400))
    assert normalize_ct(odd, SCHEME).tolist() == [low, low, low, high, 0]
