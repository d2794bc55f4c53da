"""The plan's CT normalisation, with NaN and infinite voxels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from model.network.normalize import normalize_ct
from model.network.plan import CtNormalization

SCHEME = CtNormalization(lower=-831.0, upper=437.0, mean=52.31724548339844, std=141.08517456054688)
LOWEST = (np.float32(-831) - np.float32(SCHEME.mean)) / np.float32(SCHEME.std)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint16, np.float32, np.float64])
def test_hu_are_clipped_and_standardised_in_single_precision(kind: Any) -> None:
    voxels = np.arange(0, 900, 7).reshape(3, -1).astype(kind)
    if np.issubdtype(kind, np.signedinteger):
        voxels = voxels * 3 - 1400
    before = voxels.copy()
    got = normalize_ct(voxels, SCHEME)
    clipped = np.clip(voxels.astype(np.float32), -831, 437)
    expected = (clipped - np.float32(SCHEME.mean)) / np.float32(SCHEME.std)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(voxels, before)  # the scan itself serves other lesions too


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_become_the_lower_clip_value(kind: Any) -> None:
    voxels = np.array([np.nan, np.inf, -np.inf, 100], kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = normalize_ct(voxels, SCHEME)
    np.testing.assert_array_equal(got[:3], [LOWEST] * 3)
    assert got[3] == (np.float32(100) - np.float32(SCHEME.mean)) / np.float32(SCHEME.std)


def test_extreme_integers_are_clipped() -> None:
    low, high = normalize_ct(np.array([-(2**31), 2**31 - 1], np.int32), SCHEME)
    assert low == LOWEST
    assert high == (np.float32(437) - np.float32(SCHEME.mean)) / np.float32(SCHEME.std)


def test_a_standard_deviation_of_zero() -> None:
    got = normalize_ct(np.array([5, 6]), CtNormalization(0, 10, 5, 0))
    assert got[0] == 0 and np.isfinite(got).all()


def test_read_only_views_are_normalised() -> None:
    voxels = np.ones((2, 2, 2), np.float32)
    voxels.flags.writeable = False
    assert normalize_ct(voxels, SCHEME).flags.writeable
