"""The time of a run by a clock of the test: what is left, and how many folds fit."""

from __future__ import annotations

import pytest

from model.errors import InputError
from model.inference.boost_options import Boosting, passes_of
from model.inference.time_budget import FoldPace, TimeBudget

from ...helpers.clocks import HandClock


def test_the_time_left_is_that_for_computing() -> None:
    clock = HandClock()
    budget = TimeBudget(100, clock)
    assert budget.left == 99  # a second is kept for writing
    budget.keep_for_writing(20)
    clock.now += 30
    assert budget.left == 50
    clock.now += 60
    assert budget.left == -10


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(seconds: float) -> None:
    with pytest.raises(InputError, match="--time-budget"):
        TimeBudget(seconds)


def test_each_step_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    budget = TimeBudget(1, HandClock())
    budget.note("a step")
    budget.note("a step")
    assert budget.notes == ["a step"] and caplog.text.count("a step") == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1000, [5, 5, 5, 5]),
        (101, [2, 2, 3, 3]),  # ten seconds a fold: four lesions of five folds would take 200
        (41, [1, 1, 1, 1]),
        (2, [1, 1, 1, 1]),  # at least one fold: what is late is not a matter of the folds
    ],
)
def test_the_folds_share_the_time(seconds: float, expected: list[int]) -> None:
    clock = HandClock()
    budget = TimeBudget(seconds, clock)
    pace, used = FoldPace(budget, patches=4), []
    for waiting in (3, 2, 1, 0):
        folds = 0
        while folds < 5 and (folds == 0 or pace.allows(folds, 1, waiting, 5)):
            pace.begin_fold()
            clock.now += 10
            pace.end_fold(1)
            folds += 1
        pace.end_batch(1)
        used.append(folds)
    assert used == expected
    assert bool(budget.notes) is (sum(expected) < 20)
    assert clock.now <= max(seconds, 40)


def test_patches_of_later_calls_count() -> None:
    """Lesions with propagated points come in a call of their own."""
    clock = HandClock()
    pace = FoldPace(TimeBudget(100, clock), patches=20)
    pace.begin_fold()
    clock.now += 4
    pace.end_fold(1)
    assert pace.allows(1, 1, waiting=0, folds=5) is False  # 4 + 19 * 2 * 4 s


def test_passes_of_the_boosting_methods() -> None:
    passes = {method: passes_of(method) for method in Boosting}
    assert passes == {
        Boosting.NONE: 1,
        Boosting.REPROMPT: 2,
        Boosting.ADDITIVE: 2,
        Boosting.MERGED: 2,
        Boosting.PERTURBED: 3,
        Boosting.CLICKS: 3,
        Boosting.ROTATED: 4,
    }
