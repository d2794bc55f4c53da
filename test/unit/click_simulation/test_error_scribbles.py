"""Scribbles on errors: their kind, slice and course in each style."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.case.tumor_clicks import ClickKind
from model.click_simulation.error_scribbles import ScribbleStyle, error_scribble
from test.unit.click_simulation.test_challenge_clicks import BoolArray

STYLES = list(ScribbleStyle)
pairs = arrays(np.bool_, st.tuples(st.just(2), *[st.integers(1, 9)] * 3))


def _voxels(
    reference: BoolArray, prediction: BoolArray, style: ScribbleStyle, seed: int = 0
) -> tuple[set[ClickKind], list[tuple[int, ...]]]:
    clicks = error_scribble(reference, prediction, style, np.random.default_rng(seed))
    return {click.kind for click in clicks}, [tuple(int(i) for i in click.point_zyx) for click in clicks]


def _bar() -> BoolArray:
    """A bar of 5 x 41 voxels in slice 3, and a part of it in slice 4."""
    bar = np.zeros((8, 30, 60), bool)
    bar[3, 10:15, 8:49] = bar[4, 11:14, 20:40] = True
    return bar


@pytest.mark.slow
@given(pairs, st.sampled_from(STYLES), st.integers(0, 99))
def test_a_scribble_lies_on_one_error_in_one_slice(masks: BoolArray, style: ScribbleStyle, seed: int) -> None:
    reference, prediction = masks
    kinds, voxels = _voxels(reference, prediction, style, seed)
    assert _voxels(reference, prediction, style, seed) == (kinds, voxels)
    if (reference == prediction).all():
        assert not voxels
        return
    (kind,) = kinds
    error = reference & ~prediction if kind is ClickKind.TUMOR else prediction & ~reference
    assert voxels and all(error[voxel] for voxel in voxels)
    assert len({z for z, _, _ in voxels}) == 1 and len(set(voxels)) == len(voxels)


@pytest.mark.parametrize("style", STYLES)
def test_the_larger_error_gets_the_scribble_in_its_largest_slice(style: ScribbleStyle) -> None:
    small = np.zeros_like(_bar())
    small[6, 2:5, 2:5] = True
    kinds, voxels = _voxels(_bar(), small, style)
    assert kinds == {ClickKind.TUMOR} and {z for z, _, _ in voxels} == {3}
    kinds, voxels = _voxels(small, _bar(), style)
    assert kinds == {ClickKind.BACKGROUND} and {z for z, _, _ in voxels} == {3}


def test_a_centre_line_runs_along_the_middle_without_its_ends() -> None:
    _, voxels = _voxels(_bar(), np.zeros_like(_bar()), ScribbleStyle.CENTERLINE)
    columns = [x for _, _, x in voxels]
    assert {y for _, y, _ in voxels} == {12}
    assert sorted(columns) == list(range(min(columns), max(columns) + 1))
    assert min(columns) > 8 + 3 and max(columns) < 48 - 3 and len(columns) > 20


def test_a_random_line_is_straight_and_interrupted_where_it_leaves_the_error() -> None:
    ring = np.zeros((1, 31, 31), bool)
    ring[0, 5:26, 5:26] = True
    ring[0, 10:21, 10:21] = False
    nothing = np.zeros_like(ring)
    lines = [_voxels(ring, nothing, ScribbleStyle.RANDOM, seed)[1] for seed in range(20)]
    assert len({tuple(line) for line in lines}) == 20
    gaps = 0
    for line in lines:
        (_, y0, x0), (_, y1, x1) = line[0], line[-1]
        length = np.hypot(y1 - y0, x1 - x0)
        offsets = [abs((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) / max(length, 1) for _, y, x in line]
        assert max(offsets) <= 1
        gaps += len(line) < max(abs(y1 - y0), abs(x1 - x0)) + 1
    assert gaps > 3


def test_a_walk_follows_a_fifth_of_the_boundary() -> None:
    _, voxels = _voxels(_bar(), np.zeros_like(_bar()), ScribbleStyle.BOUNDARY)
    inner = np.zeros_like(_bar())
    inner[3, 11:14, 9:48] = True
    assert not any(inner[voxel] for voxel in voxels)
    steps = np.abs(np.diff(np.asarray(voxels), axis=0)).max(1)
    assert (steps == 1).all() and 3 <= len(voxels) <= 1 + 0.2 * 88


@pytest.mark.parametrize("style", STYLES)
def test_of_one_voxel_the_scribble_is_that_voxel(style: ScribbleStyle) -> None:
    reference = np.zeros((3, 4, 5), bool)
    reference[1, 2, 3] = True
    assert _voxels(reference, np.zeros_like(reference), style)[1] == [(1, 2, 3)]
