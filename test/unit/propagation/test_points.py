"""Propagation of points between grids, and the choice of the follow-up scans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import Geometry
from model.propagation.points import Direction, choose_scans, propagate_points
from model.propagation.register.linear import LinearTransform

from ...helpers.registration_scans import turn

GRID = Geometry((30, 20, 10), (1.0, 2.0, 3.0), (5.0, -7.0, 11.0))
depth = st.floats(-60, 300, allow_nan=False)
small = st.floats(-40, 40, allow_nan=False)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    signs = np.diag(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3)))
    direction = turn(draw(st.floats(-20, 20)), (0.5, 0.1, 0.8)) @ signs
    spacing = draw(st.tuples(*[st.floats(0.6, 6.0)] * 3))
    return Geometry((40, 30, 20), spacing, draw(st.tuples(small, small, small)), tuple(direction.ravel()))


@st.composite
def transforms(draw: st.DrawFn) -> LinearTransform:
    stretch = np.diag(draw(st.lists(st.floats(0.8, 1.25), min_size=3, max_size=3)))
    offset = draw(st.tuples(small, small, small))
    return LinearTransform(turn(draw(st.floats(-30, 30))) @ stretch, np.asarray(offset))


def test_a_translation_in_world_moves_voxels_by_it() -> None:
    transform = LinearTransform.translation((10.0, 0.0, -6.0))  # fixed (follow-up) -> moving (baseline)
    target = Geometry((30, 20, 10), (2.0, 2.0, 1.0), (5.0, -7.0, 11.0))
    there = propagate_points([(4.0, 3.0, 12.0)], GRID, target, transform)
    assert there == pytest.approx(np.array([[18.0, 3.0, 1.0]]))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(geometries(), geometries(), transforms(), st.lists(st.tuples(small, small, small), max_size=4))
def test_propagation_there_and_back_returns_to_the_origin(
    baseline: Geometry,
    followup: Geometry,
    transform: LinearTransform,
    points: list[tuple[float, float, float]],
) -> None:
    there = propagate_points(points, baseline, followup, transform, Direction.TO_FOLLOWUP)
    back = propagate_points(there, followup, baseline, transform, Direction.TO_BASELINE)
    assert there.shape == (len(points), 3)
    np.testing.assert_allclose(back, np.reshape(points, (-1, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("depths_mm", "chosen"),
    [
        ((40.0,), (0,)),
        ((-5.0,), (0,)),
        ((-5.1,), ()),
        ((), ()),
        ((40.0, 30.1), (0, 1)),
        ((40.0, 30.0), (0,)),
        ((30.0, 40.0), (1,)),
        ((35.0, 40.0), (1, 0)),
        ((20.0, 20.0), (0, 1)),
        ((-6.0, -4.0), (1,)),
        ((3.0, -5.0), (0, 1)),
        ((3.0, -5.5), (0,)),
        ((float("nan"), 3.0), (1,)),
    ],
)
def test_choice_of_the_followup_scan(depths_mm: tuple[float, ...], chosen: tuple[int, ...]) -> None:
    assert choose_scans(depths_mm) == chosen


@given(st.lists(depth, max_size=4))
def test_the_deepest_scan_in_view_is_always_first(depths_mm: list[float]) -> None:
    chosen = choose_scans(depths_mm)
    assert bool(chosen) == any(value >= -5 for value in depths_mm)
    if chosen:
        assert depths_mm[chosen[0]] == max(depths_mm)
        assert all(depths_mm[chosen[0]] - depths_mm[index] < 10 for index in chosen)
