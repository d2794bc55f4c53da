"""Which tiles a click concerns, and what is kept of them."""

from __future__ import annotations

import numpy as np

from model.case.geometry import Box
from model.interactive.margin_store import MarginStore
from model.interactive.window_predictor import marks_in_tile
from test.benchmark.session import tile_shares


def test_a_mark_reaches_two_voxels_beyond_its_click() -> None:
    tile = Box((10, 10, 10), (20, 20, 20))
    voxels = [(8, 10, 10), (7, 10, 10), (21, 19, 21), (22, 19, 19), (15, 15, 15), (15, 15, 15)]
    assert marks_in_tile(voxels, tile) == {(8, 10, 10), (21, 19, 21), (15, 15, 15)}


def test_a_click_concerns_less_than_a_fifth_of_the_tiles_of_a_whole_body() -> None:
    shares = tile_shares((404, 344, 344), (192, 192, 192), 300)
    assert 0.1 < shares.mean() < 0.2
    assert shares.min() == 1 / 36 and shares.max() == 27 / 36


def _margin(value: float) -> np.ndarray:
    return np.full((2, 2, 2), value, np.float32)  # 32 bytes


def test_margins_that_are_not_kept_give_way_the_longest_unused_first() -> None:
    store = MarginStore(96)
    for name in "abc":
        store.put(name, _margin(0), keep=())
    assert store.get("a") is not None  # used now
    store.put("d", _margin(4), keep={"d"})
    assert store.get("b") is None and store.get("a") is not None and store.get("d") is not None
    store.put("e", _margin(5), keep={"a", "c", "d", "e"})
    assert store.get("e") is None and store.size_bytes == 96


def test_what_is_stored_is_a_copy_and_nothing_is_stored_without_memory() -> None:
    margin = _margin(1)
    store, none = MarginStore(1 << 20), MarginStore(0)
    for one in (store, none):
        one.put("a", margin, keep={"a"})
    margin += 1
    stored = store.get("a")
    assert stored is not None and stored.max() == 1 and none.get("a") is None
