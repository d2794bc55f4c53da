"""A clock that the test sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class HandClock:
    """Seconds that pass only when the test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now
