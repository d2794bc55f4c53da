"""Points between grids, the choice of the follow-up scan, one registration per pair."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import Array, FloatArray, Geometry
from model.errors import InputError
from model.propagation.pair_registrations import RegistrationCache
from model.propagation.points import Direction, choose_scans, propagate_points
from model.propagation.register import Registration, RegistrationImage, backend, backend_names
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


def test_a_shift_in_world_moves_voxels_by_it() -> None:
    transform = LinearTransform.translation((10.0, 0.0, -6.0))  # fixed (follow-up) -> moving (baseline)
    target = Geometry((30, 20, 10), (2.0, 2.0, 1.0), (5.0, -7.0, 11.0))
    there = propagate_points([(4.0, 3.0, 12.0)], GRID, target, transform)
    assert there == pytest.approx(np.array([[18.0, 3.0, 1.0]]))


@settings(max_examples=60, deadline=None)
@given(geometries(), geometries(), transforms(), st.lists(st.tuples(small, small, small), max_size=4))
def test_there_and_back_is_where_it_began(
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


@dataclass(frozen=True, eq=False)
class FakeScan:
    name: str
    ct: Array
    geometry: Geometry = GRID


class SlowBackend:
    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self._error = error

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self.calls += 1
        time.sleep(0.05)
        if self._error:
            raise self._error
        offset: FloatArray = np.array([fixed.array[0, 0, 0], moving.array[0, 0, 0], 0.0])
        return Registration(LinearTransform.translation(offset), 0.9, True, ("look",))


def fake(name: str, value: int) -> FakeScan:
    return FakeScan(name, np.full((2, 2, 2), value, np.int16))


def test_one_registration_per_pair_however_many_ask() -> None:
    slow = SlowBackend()
    cache = RegistrationCache(slow)
    followup, baseline, other = fake("primary-followup", 1), fake("primary-baseline", 2), fake("other", 3)
    answers: list[Registration] = []
    asking = [
        threading.Thread(target=lambda: answers.append(cache.get(followup, baseline))) for _ in range(6)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert slow.calls == 1
    assert len({id(answer) for answer in answers}) == 1
    assert cache.get(followup, other) is not answers[0]
    assert slow.calls == 2
    record = cache.records[0]
    assert (record.followup, record.baseline) == ("primary-followup", "primary-baseline")
    assert record.warnings == ("look",)
    assert record.seconds >= 0.04


def test_fixed_is_the_followup() -> None:
    answer = RegistrationCache(SlowBackend()).get(fake("followup", 1), fake("baseline", 2))
    assert answer.transform.fixed_to_moving([(0, 0, 0)]) == pytest.approx(np.array([[1.0, 2.0, 0.0]]))


def test_an_error_reaches_everyone_who_asks() -> None:
    cache = RegistrationCache(SlowBackend(MemoryError("no room")))
    followup, baseline = fake("followup", 1), fake("baseline", 2)
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room"):
            cache.get(followup, baseline)
    assert cache.records == ()


def test_back_ends_by_name() -> None:
    assert {"affine", "rigid"} <= set(backend_names())
    with pytest.raises(InputError, match="'magic' is unknown, expected one of: rigid, affine"):
        backend("magic")
