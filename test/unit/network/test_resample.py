"""Resampled boxes against torch's interpolation of the whole volume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import Box, Index
from model.network.resample import resample_box, resampled_index, resampled_shape, source_box, touched_box

Volume = npt.NDArray[np.float32]
# Exactly equal on CPUs with fused multiply-add; torch's plain kernels round once more.
TOLERANCE = 1e-6

shapes = st.tuples(*[st.integers(1, 14)] * 3)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def shapes_and_boxes(draw: st.DrawFn) -> tuple[Index, Index, Box]:
    """Shapes before and after resampling, and a box of the latter, often at its borders."""
    before = draw(shapes)
    after = before if draw(st.integers(0, 9)) == 0 else draw(shapes)
    start = [draw(st.integers(0, n - 1)) for n in after]
    return before, after, Box.of_shape([draw(st.integers(1, n - s)) for n, s in zip(after, start)], start)  # noqa: B905


def _volume(seed: int, shape: Index) -> Volume:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _whole(volume: Volume, shape: Index) -> Volume:
    """Torch's interpolation of the whole volume, as published."""
    tensor = torch.from_numpy(volume)[None, None]
    resampled: Volume = torch.nn.functional.interpolate(tensor, shape, mode="trilinear")[0, 0].numpy()
    return resampled


@pytest.mark.slow
@given(shapes_and_boxes(), seeds)
@settings(deadline=None, max_examples=300)
def test_a_resampled_box_equals_the_crop_of_the_whole_volume(
    case: tuple[Index, Index, Box], seed: int
) -> None:
    before, after, box = case
    volume = _volume(seed, before)
    needed = source_box(before, after, box)
    assert needed.intersection(Box.of_shape(before)) == needed
    got = resample_box(volume[needed.slices], needed.start_zyx, before, after, box)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, _whole(volume, after)[box.slices], rtol=0, atol=TOLERANCE)


@given(shapes_and_boxes(), seeds)
@settings(deadline=None)
def test_voxels_outside_the_source_box_have_no_effect(case: tuple[Index, Index, Box], seed: int) -> None:
    before, after, box = case
    volume, needed = _volume(seed, before), source_box(before, after, box)
    other = _volume(seed + 1, before)
    other[needed.slices] = volume[needed.slices]
    np.testing.assert_array_equal(_whole(volume, after)[box.slices], _whole(other, after)[box.slices])


@pytest.mark.slow
@given(shapes_and_boxes(), seeds)
@settings(deadline=None, max_examples=300)
def test_voxels_outside_the_touched_box_are_exactly_zero(case: tuple[Index, Index, Box], seed: int) -> None:
    after, before, box = case  # here the box is one of the volume that is resampled
    volume = np.zeros(before, np.float32)
    volume[box.slices] = np.abs(_volume(seed, before)[box.slices]) + 0.1
    whole = _whole(volume, after)
    touched = touched_box(before, after, box)
    assert touched.intersection(Box.of_shape(after)) == touched
    whole[touched.slices] = 0
    assert not whole.any()


@pytest.mark.parametrize(
    ("n", "spacing", "target", "expected"),
    [
        (5, 1.0, 2.0, 2),
        (7, 1.0, 2.0, 4),
        (9, 1.0, 2.0, 4),
        (10, 1.5, 1.2, 12),
        (3, 0.1, 5.0, 1),
        (8, 2.0, 2.0, 8),
    ],
)
def test_the_resampled_shape_rounds_halves_to_even(
    n: int, spacing: float, target: float, expected: int
) -> None:
    assert resampled_shape((n, 7, n), (spacing, 1, spacing), (target, 1, target)) == (expected, 7, expected)


@pytest.mark.parametrize(
    ("point", "spacing", "target", "n", "expected"),
    [
        (90.0, 1.4, 1.2, 200, 104),  # multiplied first: 104.99999999999999, truncated
        (3.9, 1.0, 1.0, 10, 3),  # truncated, not rounded
        (-0.4, 1.0, 1.0, 10, 0),
        (9.4, 1.0, 1.0, 9, 8),  # the shape may round to less than the last point needs
        (2.0, 3.0, 1.5, 10, 4),  # without a half-voxel correction
    ],
)
def test_index_on_the_network_grid(
    point: float, spacing: float, target: float, n: int, expected: int
) -> None:
    assert resampled_index((point,) * 3, (spacing,) * 3, (target,) * 3, (n,) * 3) == (expected,) * 3


@pytest.mark.parametrize(
    ("point", "spacing", "expected"),
    [(90.0, 1.4, 105), (3.5, 1.2, 4), (4.5, 1.2, 4), (-0.4, 1.2, 0), (149.6, 1.2, 149)],  # of 150 voxels
)
def test_points_rounded_to_the_nearest_voxel(point: float, spacing: float, expected: int) -> None:
    """Halves to even; a point beyond the last voxel's centre stays inside."""
    index = resampled_index((point,) * 3, (spacing,) * 3, (1.2,) * 3, (150,) * 3, rounds=True)
    assert index == (expected,) * 3
