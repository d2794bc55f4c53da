"""Spline resampling against scikit-image, along a coarse axis, and of a box."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from model.case.geometry import Box
from model.network.spline_resample import coarse_axis, linear_reach, resample_linear, resample_volume


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(9, 14, 8), (5, 6, 7), (10, 11, 12), (1, 30, 12)])
def test_equals_scikit_image(order: int, shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).normal(size=(10, 11, 13)).astype(np.float32)
    wanted = resize(volume.astype(float), shape, order, mode="edge", anti_aliasing=False)
    got = resample_volume(volume, shape, order)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, wanted.astype(np.float32))


def test_the_same_shape_is_left_as_it_is() -> None:
    volume = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(resample_volume(volume, (4, 5, 6), 3), volume)


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_the_nearest_slice_is_taken_along_a_coarse_axis(coarse: int) -> None:
    volume = np.moveaxis(np.arange(4.0)[:, None, None] * np.ones((4, 6, 6)), 0, coarse)
    shape = [12, 12, 12]
    shape[coarse] = 8
    got = resample_volume(volume, (shape[0], shape[1], shape[2]), 3, coarse)
    line = np.moveaxis(got, coarse, 0)[:, 5, 5]
    np.testing.assert_allclose(line, [0, 0, 1, 1, 2, 2, 3, 3], atol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((6.5, 2, 2), (3, 2, 2), 0),
        ((2, 2, 6.5), (3, 2, 2), 2),
        ((3, 2, 2), (1, 1, 3.5), 2),  # the target is anisotropic
        ((6, 2, 2), (3, 2, 2), None),  # exactly three times is not
        ((7, 7, 2), (9, 1, 1), None),  # two axes tie: the scan decides, not the target
    ],
)
def test_the_coarse_axis(spacing: tuple[float, ...], target: tuple[float, ...], axis: int | None) -> None:
    assert coarse_axis(spacing, target) == axis


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([None, 0, 1, 2]),
    st.randoms(use_true_random=False),
)
def test_linear_resampling_of_a_box_is_that_of_the_whole(
    shape_in: tuple[int, int, int], shape_out: tuple[int, int, int], coarse: int | None, draw: Random
) -> None:
    volume = np.random.default_rng(draw.randrange(1000)).normal(size=shape_in).astype(np.float32)
    whole = resample_linear(volume, shape_out, coarse)
    np.testing.assert_allclose(whole, resample_volume(volume, shape_out, 1, coarse), rtol=1e-6, atol=1e-7)
    assert whole.dtype == np.float32 and volume.min() <= whole.min() and whole.max() <= volume.max()
    part, changed = _box_in(shape_out, draw), _box_in(shape_in, draw)
    np.testing.assert_array_equal(resample_linear(volume, shape_out, coarse, part), whole[part.slices])
    volume[changed.slices] += 100
    differs = np.argwhere(resample_linear(volume, shape_out, coarse) != whole)
    reach = linear_reach(shape_in, shape_out, coarse, changed)
    if len(differs):
        assert (differs >= reach.start_zyx).all() and (differs < reach.stop_zyx).all()


def _box_in(shape: tuple[int, int, int], draw: Random) -> Box:
    starts = [draw.randrange(n) for n in shape]
    z, y, x = (draw.randrange(start, n) + 1 for start, n in zip(starts, shape, strict=True))
    return Box((starts[0], starts[1], starts[2]), (z, y, x))
