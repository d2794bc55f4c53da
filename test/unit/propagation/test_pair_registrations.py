"""One registration per pair of scans: threads, errors, directions, refinement, incomparable pairs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from model.case.case import Scan
from model.case.geometry import Array, FloatArray, Geometry
from model.propagation.pair_registrations import PairError, PairRegistrations, RegistrationCache
from model.propagation.points import Direction
from model.propagation.register import Registration, RegistrationImage, Transform
from model.propagation.register.linear import LinearTransform

from ...helpers.registration_scans import empty_scan

GRID = Geometry((30, 20, 10), (1.0, 2.0, 3.0), (5.0, -7.0, 11.0))
TIMES = {"week0": 0, "week6": 1}


def _position(scan: Scan) -> int:
    return TIMES[scan.time_point]


EARLY, LATE = empty_scan("week0", GRID), empty_scan("week6", GRID)


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


def test_one_registration_per_pair_for_all_threads() -> None:
    slow = SlowBackend()
    cache = RegistrationCache(slow)
    followup, baseline, other = fake("primary-followup", 1), fake("primary-baseline", 2), fake("other", 3)
    registrations: list[Registration] = []
    threads = [
        threading.Thread(target=lambda: registrations.append(cache.get(followup, baseline))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.calls == 1
    assert len({id(registration) for registration in registrations}) == 1
    assert cache.get(followup, other) is not registrations[0]
    assert slow.calls == 2
    record = cache.records[0]
    assert (record.followup, record.baseline) == ("primary-followup", "primary-baseline")
    assert record.warnings == ("look",)
    assert record.seconds >= 0.04


def test_fixed_is_the_followup() -> None:
    registration = RegistrationCache(SlowBackend()).get(fake("followup", 1), fake("baseline", 2))
    assert registration.transform.fixed_to_moving([(0, 0, 0)]) == pytest.approx(np.array([[1.0, 2.0, 0.0]]))


def test_an_error_is_raised_for_each_caller() -> None:
    cache = RegistrationCache(SlowBackend(MemoryError("no room")))
    followup, baseline = fake("followup", 1), fake("baseline", 2)
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room"):
            cache.get(followup, baseline)
    assert cache.records == ()


@dataclass
class Recorder:
    """Identity; records the registered pairs (fixed, moving) and the points of each refinement."""

    similarity: float = 0.9
    is_reliable: bool = True
    fails_backward: bool = False

    def __post_init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.refined: list[FloatArray] = []

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self.pairs.append((fixed.name, moving.name))
        if self.fails_backward and fixed.name == EARLY.name:
            raise RuntimeError("no way back")
        warnings = () if self.is_reliable else ("the scans do not overlap; the headers are used",)
        identity = LinearTransform.identity()
        return Registration(identity, self.similarity, self.is_reliable, warnings, self._refine)

    def _refine(self, points_mm: npt.ArrayLike) -> Transform:
        self.refined.append(np.asarray(points_mm))
        return LinearTransform.translation((1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("source", "target", "direction"),
    [(EARLY, LATE, Direction.TO_FOLLOWUP), (LATE, EARLY, Direction.TO_BASELINE)],
)
def test_the_later_scan_is_fixed(source: Scan, target: Scan, direction: Direction) -> None:
    backend = Recorder()
    pairs = PairRegistrations(RegistrationCache(backend), _position)
    assert pairs.get(source, target)[1] is direction
    assert backend.pairs == [(LATE.name, EARLY.name)] and pairs.reverse(source, target) is None


def test_a_pair_is_refined_once_near_all_expected_points() -> None:
    backend = Recorder()
    pairs = PairRegistrations(RegistrationCache(backend), _position)
    pairs.expect(EARLY, LATE, [(1, 2, 3)])
    pairs.expect(EARLY, LATE, [(4, 5, 6), (7, 8, 9)])
    first, second = pairs.get(EARLY, LATE)[0], pairs.get(EARLY, LATE)[0]
    assert first is second and first.refine is None
    assert len(backend.refined) == 1 and len(backend.refined[0]) == 3 and len(backend.pairs) == 1
    assert pairs.unrefined(EARLY, LATE)[0].refine is not None


@pytest.mark.parametrize("allowed", [False, True])
def test_incomparable_pairs_fail_unless_allowed(allowed: bool) -> None:
    backend = Recorder(similarity=float("nan"), is_reliable=False)
    pairs = PairRegistrations(RegistrationCache(backend), _position, allow_incomparable=allowed)
    if allowed:
        assert not pairs.get(EARLY, LATE)[0].is_reliable
        return
    reason = f"{LATE.name} could not be registered with {EARLY.name}: the scans do not overlap$"
    with pytest.raises(PairError, match=reason):
        pairs.get(EARLY, LATE)


@pytest.mark.parametrize("fails", [False, True])
def test_the_opposite_direction_may_fail(fails: bool) -> None:
    backend = Recorder(fails_backward=fails)
    pairs = PairRegistrations(RegistrationCache(backend), _position, there_and_back=True)
    assert (pairs.reverse(EARLY, LATE) is None) == fails
    assert backend.pairs == [(EARLY.name, LATE.name)]
