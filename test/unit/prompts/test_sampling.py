"""Points sampled from masks: on the mask, deepest points, weights and filters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.case.case import MaskPrompt
from model.case.geometry import AxisMap, Box, Vector
from model.prompts.sampling import (
    Candidates,
    ChoiceOptions,
    Sampling,
    SamplingOptions,
    choose_points,
    deepest_point,
    depth_mm,
    filter_by_hu,
    filter_by_probability,
    sample_points,
    weighted_voxels,
)
from test.helpers.orientations import ORIENTATIONS

masks = arrays(bool, st.tuples(*[st.integers(1, 7)] * 3)).filter(np.any)
spacings = st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 2.5, 5.0])] * 3)
offsets = st.tuples(*[st.integers(-50, 500)] * 3)
UNIT = (1.0, 1.0, 1.0)


def _brute_depth(mask: np.ndarray, spacing: Vector) -> np.ndarray:
    """Depth of each voxel of the mask by brute force over the voxels outside."""
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    depth = np.zeros(mask.shape)
    for voxel in np.argwhere(mask):
        depth[tuple(voxel)] = np.linalg.norm((outside - voxel) * np.asarray(spacing), axis=1).min()
    return depth


def _grid(shape: Sequence[int]) -> list[np.ndarray]:
    return list(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"))


def _ring() -> np.ndarray:
    z, y, x = _grid((5, 31, 31))
    radius: np.ndarray = np.hypot(y, x)
    return (radius > 8) & (radius < 13) & (abs(z) < 3)


def _sickle() -> np.ndarray:
    z, y, x = _grid((7, 31, 31))
    outer: np.ndarray = np.hypot(y, x)
    inner: np.ndarray = np.hypot(y, x - 6)
    return (outer < 14) & (inner > 12) & (abs(z) < 4)


@pytest.mark.slow
@given(masks, spacings, offsets)
def test_the_deepest_point_is_the_deepest_voxel(
    mask: np.ndarray, spacing: Vector, offset: tuple[int, int, int]
) -> None:
    box = Box.of_shape(mask.shape, offset)
    point = deepest_point(mask, box, spacing)
    depth = _brute_depth(mask, spacing)
    assert np.allclose(depth_mm(mask, spacing), depth)
    index = tuple(int(p - o) for p, o in zip(point, offset, strict=True))
    assert mask[index] and depth[index] == pytest.approx(depth.max())
    centre = np.argwhere(mask).mean(axis=0)
    rivals = np.argwhere(depth > depth.max() - 1e-6)
    distances = np.linalg.norm((rivals - centre) * spacing, axis=1)
    mine = np.linalg.norm((np.asarray(index) - centre) * spacing)
    assert mine == pytest.approx(distances.min(), abs=1e-5)


@pytest.mark.slow
@given(masks, spacings, st.sampled_from(ORIENTATIONS))
def test_the_depth_of_the_deepest_point_is_the_same_in_every_orientation(
    mask: np.ndarray, spacing: Vector, axes: AxisMap
) -> None:
    turned, turned_spacing = axes.array(mask), axes.triple(spacing)
    point = deepest_point(turned, Box.of_shape(turned.shape), turned_spacing)
    back = axes.inverse().point(point, turned.shape)
    depth = depth_mm(mask, spacing)
    assert depth[tuple(int(v) for v in back)] == pytest.approx(depth.max())


@pytest.mark.parametrize("mask", [_ring(), _sickle()], ids=["ring", "sickle"])
def test_deepest_points_of_hollow_lesions(mask: np.ndarray) -> None:
    centre = np.round(np.argwhere(mask).mean(axis=0)).astype(int)
    assert not mask[tuple(centre)]
    z, y, x = deepest_point(mask, Box.of_shape(mask.shape), UNIT)
    assert mask[int(z), int(y), int(x)]


def test_deepest_points_of_a_ball_and_a_rod() -> None:
    z, y, x = _grid((11, 11, 11))
    ball = z**2 + y**2 + x**2 <= 16
    assert deepest_point(ball, Box.of_shape((11, 11, 11), (100, 0, 7)), UNIT) == (105, 5, 12)
    rod = np.zeros((3, 3, 9), bool)
    rod[1, 1, 1:8] = True  # every voxel is as deep: the one in the middle
    assert deepest_point(rod, Box.of_shape(rod.shape), UNIT) == (1, 1, 4)


def test_voxels_beyond_the_image_are_outside_the_mask() -> None:
    """A block at the first slice of the image: its depth counts from that face too."""
    block = np.ones((3, 9, 9), bool)
    assert deepest_point(block, Box.of_shape(block.shape), UNIT) == (1, 4, 4)


def test_depth_is_in_mm() -> None:
    """A T of a thick slab along z and a wide plate: the deeper one depends on the spacing."""
    mask = np.zeros((9, 9, 20), bool)
    mask[:, 3:6, :3] = True
    mask[4:5, :, 6:] = True
    assert deepest_point(mask, Box.of_shape(mask.shape), UNIT)[2] < 3
    assert deepest_point(mask, Box.of_shape(mask.shape), (9.0, 1.0, 1.0))[2] > 6


def test_an_empty_mask_has_no_point() -> None:
    empty = np.zeros((3, 3, 3), bool)
    with pytest.raises(ValueError, match="empty"):
        deepest_point(empty, Box.of_shape((3, 3, 3)), UNIT)
    with pytest.raises(ValueError, match="empty"):
        sample_points(empty, UNIT, SamplingOptions(), np.random.default_rng(0))


@pytest.mark.slow
@given(
    masks,
    spacings,
    st.sampled_from(Sampling),
    st.integers(1, 30),
    st.integers(1, 5),
    st.sampled_from([0.3, 1.0, 2.7, 8.0]),
    st.integers(0, 2**32),
    offsets,
)
def test_every_sampled_point_lies_on_the_mask(
    mask: np.ndarray,
    spacing: Vector,
    method: Sampling,
    count: int,
    per_axis: int,
    distance: float,
    seed: int,
    offset: tuple[int, int, int],
) -> None:
    options = SamplingOptions(method, count, per_axis, distance)
    box = Box.of_shape(mask.shape, offset)
    points = sample_points(mask, spacing, options, np.random.default_rng(seed), box)
    assert points == sample_points(mask, spacing, options, np.random.default_rng(seed), box)
    assert 1 <= len(points) <= count and len(set(points)) == len(points)
    for point in points:
        assert mask[tuple(int(p - o) for p, o in zip(point, offset, strict=True))]
    if method not in (Sampling.FIXED_NUMBER, Sampling.FIXED_DISTANCE):
        assert len(points) == min(count, mask.sum())


def test_weights_of_the_random_methods() -> None:
    row = np.ones((1, 1, 5), bool)
    wide = (100.0, 100.0, 1.0)  # only x matters
    for method, expected in (
        (Sampling.UNIFORM, [1, 1, 1, 1, 1]),
        (Sampling.DISTANCE, [1, 2, 3, 2, 1]),
        (Sampling.DISTANCE_SQUARED, [1, 4, 9, 4, 1]),
    ):
        voxels, weights = weighted_voxels(row, wide, method)
        assert voxels[:, 2].tolist() == [0, 1, 2, 3, 4]
        assert weights == pytest.approx(np.asarray(expected) / sum(expected))


def test_samples_follow_their_weights() -> None:
    row = np.ones((1, 1, 5), bool)
    options = SamplingOptions(Sampling.DISTANCE, 1)
    rng = np.random.default_rng(1)
    drawn = [sample_points(row, (100.0, 100.0, 1.0), options, rng)[0][2] for _ in range(900)]
    assert np.bincount(np.asarray(drawn, int)) == pytest.approx(np.asarray([1, 2, 3, 2, 1]) * 100, abs=45)


def test_a_grid_with_a_fixed_number_of_points_per_axis() -> None:
    cube = np.zeros((20, 20, 20), bool)
    cube[5:14, 5:14, 5:14] = True
    options = SamplingOptions(Sampling.FIXED_NUMBER)
    points = sample_points(cube, UNIT, options, np.random.default_rng(0))
    assert set(points) == set(product((6, 9, 12), repeat=3)) and points[0] == (9.0, 9.0, 9.0)
    few = sample_points(cube, UNIT, SamplingOptions(Sampling.FIXED_NUMBER, count=1), np.random.default_rng(0))
    assert few == [(9, 9, 9)]


def test_a_grid_with_a_fixed_distance() -> None:
    block = np.ones((5, 17, 17), bool)
    options = SamplingOptions(Sampling.FIXED_DISTANCE, distance_mm=8.0)
    points = sample_points(block, (4.0, 1.0, 1.0), options, np.random.default_rng(0))
    assert set(points) == set(product((0, 2, 4), (0, 8, 16), (0, 8, 16))) and points[0] == (2, 8, 8)


def test_a_grid_that_misses_a_ring_gives_its_deepest_voxel() -> None:
    ring = _ring()
    options = SamplingOptions(Sampling.FIXED_NUMBER, per_axis=1)
    points = sample_points(ring, UNIT, options, np.random.default_rng(0))
    assert points == [deepest_point(ring, Box.of_shape(ring.shape), UNIT)]


def test_filter_by_the_hu_of_a_voxel_and_of_a_ball() -> None:
    ct = np.full((9, 9, 9), -800, np.int16)
    ct[3:6, 3:6, 3:6] = 40
    ct[7, 7, 7] = 40
    points = [(0, 0, 0), (4, 4, 4), (7, 7, 7)]
    assert filter_by_hu(points, ct, UNIT, (0, 100)).points == ((4, 4, 4), (7, 7, 7))
    assert filter_by_hu(points, ct, UNIT, (0, 100), radius_mm=1.0) == Candidates(((4, 4, 4),))
    assert filter_by_hu(points, ct, UNIT, (40, 40)).points == ((4, 4, 4), (7, 7, 7))
    # Slices 5 mm apart: a ball of 1 mm has no neighbours along z.
    assert filter_by_hu([(3, 4, 4)], ct, (5.0, 1.0, 1.0), (40, 40), radius_mm=1.0).points == ((3, 4, 4),)
    assert filter_by_hu([(3, 4, 4)], ct, UNIT, (40, 40), radius_mm=1.0).is_fallback


def test_filter_by_hu_at_the_border_and_beside_nan() -> None:
    ct = np.full((3, 3, 3), 10.0)
    ct[0, 0, 1] = np.nan
    assert filter_by_hu([(0, 0, 0), (2, 2, 2.6)], ct, UNIT, (10, 10), radius_mm=1.0) == Candidates(
        ((0, 0, 0), (2, 2, 2.6))
    )
    assert filter_by_hu([(0, 0, 1)], ct, UNIT, (-1e9, 1e9)) == Candidates(((0, 0, 1),), is_fallback=True)


def test_all_candidates_are_kept_if_none_passes_the_filter() -> None:
    ct = np.zeros((3, 3, 3), np.int16)
    points = [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
    assert filter_by_hu(points, ct, UNIT, (50, 60)) == Candidates(tuple(points), is_fallback=True)
    assert filter_by_hu([], ct, UNIT, (50, 60)) == Candidates(())
    probability = np.zeros((3, 3, 3), np.float32)
    probability[1, 1, 1] = 0.3
    assert filter_by_probability(points, probability) == Candidates(tuple(points[::-1]), is_fallback=True)


def test_candidates_are_ranked_by_probability() -> None:
    points = [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 2.0), (0.0, 0.0, 3.0)]
    probability = np.asarray([[[0.6, 0.4, 0.9, np.nan]]], np.float32)
    expected = Candidates((points[2], points[0]))
    assert filter_by_probability(points, probability) == expected
    assert (
        filter_by_probability(points, lambda candidates: [probability[0, 0, int(p[2])] for p in candidates])
        == expected
    )
    assert filter_by_probability(points, np.full((1, 1, 4), 0.7, np.float32)).points == tuple(points)


def test_sampled_points_are_filtered_and_ranked() -> None:
    """A lesion half in lung and half in soft tissue, with the highest probability at one end."""
    lesion = MaskPrompt(Box((2, 2, 2), (3, 3, 12)), np.ones((1, 1, 10), bool))
    ct = np.full((5, 5, 14), -800, np.int16)
    ct[..., 7:] = 30
    probability = np.broadcast_to(np.linspace(0, 1, 14, dtype=np.float32), ct.shape)
    every = SamplingOptions(Sampling.UNIFORM, count=10)

    def choose(**limits: Any) -> Candidates:
        options = ChoiceOptions(every, **limits)
        return choose_points(lesion, UNIT, options, np.random.default_rng(3), ct, probability)

    assert sorted(choose().points) == [(2, 2, x) for x in range(2, 12)]
    assert sorted(choose(hu_window=(0, 60)).points) == [(2, 2, x) for x in range(7, 12)]
    both = choose(hu_window=(-900, -700), min_probability=0.3)
    assert both == Candidates(((2, 2, 6), (2, 2, 5), (2, 2, 4)))
    none = choose(hu_window=(500, 600), min_probability=0.6)
    assert none.is_fallback and none.points == ((2, 2, 11), (2, 2, 10), (2, 2, 9), (2, 2, 8))
