"""The time that a run may take, and what is left out as it runs short: folds, then the costly registration.

What remains is for the command line: lesions that are not done at the end get their baseline mask, moved to
their point. Every step is a warning of the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

from ..errors import InputError

log = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Seconds since any moment, rising."""

_LEAST_RESERVE = 1.0


class TimeBudget:
    """How much time is left, and what was left out to stay within it.

    Args:
        seconds: that the run may take, from now on.
        clock: tells the time.

    Attributes:
        notes: what was left out, one sentence each.

    Raises:
        InputError: the seconds are no positive number.
    """

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        if not 0 < seconds < float("inf"):
            raise InputError(f"--time-budget: is {seconds:g}; expected a positive number of seconds")
        self.clock = clock
        self.notes: list[str] = []
        self._end = clock() + seconds
        self._reserve = _LEAST_RESERVE
        self._lock = Lock()

    @property
    def left(self) -> float:
        """Seconds left for computing; below zero if the time is spent."""
        return self._end - self._reserve - self.clock()

    def keep_for_writing(self, seconds: float) -> None:
        """Set the time aside that writing and checking the outputs takes; at least a second."""
        self._reserve = max(_LEAST_RESERVE, seconds)

    def note(self, sentence: str) -> None:
        """Log a step and remember it for the record of the run; the same one only once."""
        with self._lock:
            is_new = sentence not in self.notes
            if is_new:
                self.notes.append(sentence)
        if is_new:
            log.warning("%s", sentence)


class FoldPace:
    """How many folds predict each batch, so that all patches are predicted in time by at least one fold.

    Args:
        budget: of the run.
        patches: that are expected in all calls of the ensemble.
    """

    def __init__(self, budget: TimeBudget, patches: int) -> None:
        self._budget = budget
        self._patches_left = patches
        self._seconds = 0.0  # of one fold and one patch, the last time
        self._start = 0.0

    def begin_fold(self) -> None:
        """A fold begins to predict a batch."""
        self._start = self._budget.clock()

    def end_fold(self, batch: int) -> None:
        """A fold has predicted a batch of so many patches."""
        self._seconds = (self._budget.clock() - self._start) / batch

    def allows(self, fold: int, batch: int, waiting: int, folds: int) -> bool:
        """True if a further fold fits: the present batch by it, and all later patches by as many folds.

        Args:
            fold: number of folds that have predicted the batch.
            batch: patches of the batch.
            waiting: patches of this call that come after the batch.
            folds: of the ensemble.
        """
        later = max(waiting, self._patches_left - batch)
        needed = self._seconds * (batch + later * (fold + 1))
        if needed <= self._budget.left:
            return True
        self._budget.note(f"the time is short: some lesions were predicted with fewer than {folds} folds")
        return False

    def end_batch(self, batch: int) -> None:
        """A batch of so many patches is done."""
        self._patches_left -= batch
