"""Pockets of gas are redrawn, away from lesions and from the air around the body."""

from __future__ import annotations

import numpy as np

from model.case.geometry import Geometry
from model.synthesis.canvas import Canvas
from model.synthesis.gas import redraw_gas

GRID = Geometry((60, 60, 30), (1.5, 1.5, 2.0), (0.0, 0.0, 0.0))


def _canvas() -> Canvas:
    ct = np.full(GRID.shape_zyx, 40, np.int16)
    ct[:, :5] = -1000  # around the body
    for x in (10, 25, 40):
        ct[12:18, 25:32, x : x + 7] = -950
    return Canvas(ct, np.zeros(GRID.shape_zyx, np.uint16), GRID)


def test_pockets_are_filled_or_grow() -> None:
    before = _canvas()
    sizes = []
    for seed in range(6):
        canvas = _canvas()
        changed = redraw_gas(canvas, seed)
        assert np.array_equal(canvas.ct[:, :5], before.ct[:, :5])
        difference = (canvas.ct[:, 5:] < -400).sum() - (before.ct[:, 5:] < -400).sum()
        assert (difference != 0) <= (changed > 0)
        sizes.append(difference)
        again = _canvas()
        redraw_gas(again, seed)
        assert np.array_equal(again.ct, canvas.ct)
    assert min(sizes) < -100 and max(sizes) > 100


def test_pockets_near_lesions_stay() -> None:
    for seed in range(4):
        canvas = _canvas()
        canvas.labels[14:16, 34:38, 10:50] = 1
        before = canvas.ct.copy()
        assert redraw_gas(canvas, seed) == 0 and np.array_equal(canvas.ct, before)
