"""Registration within the time: the back end itself, an affine one, or none, by a clock of the test."""

from __future__ import annotations

from typing import cast

import pytest

from model.inference.time_budget import TimeBudget
from model.inference.timed_backend import TimedBackend
from model.propagation.register import Backend, Registration, RegistrationImage

from ...helpers.clocks import HandClock


class _Registers:
    """A back end that takes its time, and remembers the call."""

    def __init__(self, name: str, seconds: float, clock: HandClock, calls: list[str]) -> None:
        self._name, self._seconds, self._clock, self._calls = name, seconds, clock, calls

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self._clock.now += self._seconds
        self._calls.append(self._name)
        return cast(Registration, self._name)


@pytest.mark.parametrize(
    ("name", "seconds", "affine_seconds", "expected", "note"),
    [
        (None, 900, 3, ["affine", "inner"], None),
        (None, 120, 3, ["affine"], "by an affine transform only"),
        ("mine:function", 120, 3, ["affine"], "by an affine transform only"),
        ("bspline", 9, 3, ["identity"], "were not registered"),
        ("affine", 12, 3, ["inner"], None),
        ("affine", 9, 3, ["identity"], "were not registered"),
        ("landmarks:x.csv", 2, 3, ["inner"], None),
        ("identity", 2, 3, ["inner"], None),
    ],
)
def test_what_registers(
    name: str | None, seconds: float, affine_seconds: float, expected: list[str], note: str | None
) -> None:
    clock, calls = HandClock(), list[str]()
    budget = TimeBudget(seconds, clock)

    def cheaper(kind: str) -> Backend:
        return _Registers(kind, affine_seconds if kind == "affine" else 0, clock, calls)

    image = cast(RegistrationImage, None)
    timed = TimedBackend(_Registers("inner", 60, clock, calls), name, budget, cheaper)
    found: object = timed.register(image, image)
    assert found == expected[-1]
    assert calls == expected
    assert budget.notes == [] if note is None else note in budget.notes[0]
