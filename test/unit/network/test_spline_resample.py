"""Spline resampling against scikit-image, and along a coarse axis."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from model.network.spline_resample import coarse_axis, resample_volume


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
