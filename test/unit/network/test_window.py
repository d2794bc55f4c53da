"""The sliding window's weights and mean, against scipy's filter and a plain sum in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from model.case.geometry import Box
from model.network.tiles import window_tiles
from model.network.window import WindowMean, window_weight


@pytest.mark.parametrize("patch", [(24, 16, 40), (9, 8, 8)])
def test_weights_are_a_filtered_impulse(patch: tuple[int, int, int]) -> None:
    impulse = np.zeros(patch)
    impulse[tuple(n // 2 for n in patch)] = 1
    wanted = gaussian_filter(impulse, [n / 8 for n in patch], mode="constant")
    weight = window_weight(patch)
    assert weight.dtype == np.float32 and weight.min() > 0
    positive = wanted > 0
    np.testing.assert_allclose(weight[positive], (wanted / wanted.max() * 10)[positive], rtol=1e-6)
    assert weight.max() == weight[tuple(n // 2 for n in patch)] == 10


def test_the_mean_of_tiles_is_weighted_and_ends_at_the_grid() -> None:
    shape, patch = (10, 21, 16), (16, 16, 16)
    tiles = window_tiles(Box.of_shape(shape), shape, patch)
    assert [tile.start_zyx for tile in tiles] == [(-3, 0, 0), (-3, 5, 0)]
    rng = np.random.default_rng(0)
    margins = [rng.normal(size=patch).astype(np.float32) for _ in tiles]
    part = Box((2, 3, 1), (9, 20, 11))
    mean, mean_of_part = WindowMean(Box.of_shape(shape), patch), WindowMean(part, patch)
    for tile, margin in zip(tiles, margins, strict=True):
        mean.add(tile, margin)
        mean_of_part.add(tile, margin)
    weight = window_weight(patch).astype(np.float64)
    total, weights = np.zeros((16, 21, 16)), np.zeros((16, 21, 16))
    for start, margin in zip((0, 5), margins, strict=True):
        total[:, start : start + 16] += weight * margin
        weights[:, start : start + 16] += weight
    found = mean.result()
    np.testing.assert_allclose(found, (total / weights)[3:13], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mean_of_part.result(), found[part.slices])
