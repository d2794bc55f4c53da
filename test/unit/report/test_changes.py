"""Changes against baseline and nadir, growth, and limits of repeatability."""

from __future__ import annotations

import datetime

import pytest

from model.report.changes import with_changes
from model.report.findings import Change, FollowedLesion, MeasuredTimePoint
from model.report.response_criteria import repeatability_limit

from .test_response import Size, _finding


def _changes(sizes: list[Size], days: list[int | None]) -> tuple[list[Change | None], list[Change | None]]:
    first = datetime.date(2024, 1, 1)
    points = tuple(
        MeasuredTimePoint(
            f"t{number}", None if day is None else first + datetime.timedelta(day), day, (), None
        )
        for number, day in enumerate(days)
    )
    lesion = FollowedLesion(1, tuple(_finding(number, size) for number, size in enumerate(sizes)))
    findings = with_changes(lesion, points).findings
    return [one.from_baseline for one in findings], [one.from_nadir for one in findings]


def test_baseline_and_nadir() -> None:
    baseline, nadir = _changes([20, 10, 20, 40], [0, 50, 100, 200])
    assert baseline[0] is None and nadir[0] is None
    last, lowest = baseline[3], nadir[3]
    assert last is not None and lowest is not None
    assert (last.since, last.days, lowest.since, lowest.days) == ("t0", 200, "t1", 150)
    assert last.volume_percent == pytest.approx(700) and last.long_percent == pytest.approx(100)
    assert (last.long_mm, lowest.long_mm) == (20, 30)
    assert last.ml_per_day == pytest.approx(last.volume_ml / 200)
    assert last.doubling_days == pytest.approx(200 / 3)  # three doublings
    half = baseline[1]
    assert half is not None and half.doubling_days == pytest.approx(-50 / 3)


def test_absent_and_unknown() -> None:
    baseline, nadir = _changes([0, 20, None, 0], [0, 10, 20, 30])
    first = baseline[1]
    assert first is not None and first.volume_percent is None and first.doubling_days is None
    assert first.volume_ml > 0 and first.is_within_repeatability is None
    assert baseline[2] is None and nadir[2] is None
    gone = nadir[3]
    assert gone is not None and gone.since == "t0" and gone.volume_ml == 0
    late, _ = _changes([None, 20, 22], [0, 10, 20])
    assert late == [None, None, None]


@pytest.mark.parametrize("days", [[0, None], [None, 5], [0, 0]])
def test_without_days_there_is_no_growth_per_day(days: list[int | None]) -> None:
    baseline, _ = _changes([20, 22], days)
    change = baseline[1]
    assert change is not None and change.ml_per_day is None and change.doubling_days is None


@pytest.mark.parametrize(
    ("before", "now", "limit", "within"),
    [
        (40.0, 43.0, 29.0, True),
        (40.0, 44.0, 29.0, False),
        (60.0, 53.0, 24.0, False),
        (20.0, 22.0, 39.0, True),
        (6.5, 7.5, 80.0, True),
        (5.0, 5.1, None, None),
        (120.0, 121.0, None, None),
    ],
)
def test_repeatability(before: float, now: float, limit: float | None, within: bool | None) -> None:
    baseline, _ = _changes([before, now], [0, 10])
    change = baseline[1]
    assert change is not None
    assert (change.repeatability_percent, change.is_within_repeatability) == (limit, within)


def test_limits_begin_at_their_diameter() -> None:
    found = [repeatability_limit(mm) for mm in (5.99, 6, 9.99, 10, 34.9, 35, 50, 100, 101)]
    assert [one.percent if one else None for one in found] == [None, 80, 44, 39, 39, 29, 24, 24, None]
