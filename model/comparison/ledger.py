"""The ledger: what was run, how long it took, and what came out.

What is finished is in the run folders and in nothing else; each call reads it from there. The ledger tells
it in one place, and keeps what the folders do not say: the minutes of each call and of the answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..case.lesion_json import write_json
from ..crossval.scores import Score
from ..errors import InputError

State = Literal["not run", "begun", "finished", "collapsed"]
AskedAbout = Literal["held-out", "test"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)


class Training(_Entry):
    """One fold of a row. Minutes are those of the epochs that count; ``reason`` is why it has collapsed.

    ``pretraining_minutes`` of a pretraining that serves all folds stand at each of them, and
    ``shares_pretraining`` says so. ``in_pretraining``: it was that which has collapsed.
    """

    row: str
    fold: str
    state: State
    epochs: int
    of_epochs: int
    minutes: float
    pretraining_minutes: float = 0.0
    shares_pretraining: bool = False
    in_pretraining: bool = False
    reason: str | None = None


class PredictionEntry(_Entry):
    """The answers of a network, or of an ensemble of folds, to one question, and their score.

    ``minutes`` are those of all calls as far as they are known: answers to several questions that were given
    in one go have equal parts. ``failed`` has a line for each lesion without an answer.
    """

    row: str
    asked: AskedAbout
    question: str
    folds: tuple[str, ...]
    state: State
    minutes: float | None = None
    score: Score | None = None
    failed: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, tuple[str, ...]]:
        return (self.row, self.asked, self.question, self.folds)


class Call(_Entry):
    """One call of the command: its wall minutes, and the budget it had."""

    begun: str  # UTC, ISO 8601
    budget_minutes: float
    minutes: float


class Ledger(_Entry):
    """``data``, ``pretraining`` and ``test`` are fingerprints of who is in them; None where nobody told."""

    data: str | None = None
    pretraining: str | None = None
    test: str | None = None
    calls: tuple[Call, ...] = ()
    trainings: tuple[Training, ...] = ()
    answers: tuple[PredictionEntry, ...] = ()

    def training(self, row: str, fold: str) -> Training | None:
        return next((entry for entry in self.trainings if (entry.row, entry.fold) == (row, fold)), None)

    def answer(
        self, row: str, asked: AskedAbout, question: str, folds: tuple[str, ...]
    ) -> PredictionEntry | None:
        key = (row, asked, question, folds)
        return next((entry for entry in self.answers if entry.key == key), None)


def read_ledger(path: Path) -> Ledger:
    """The ledger of earlier calls; an empty one where there is none.

    Raises:
        InputError: it is there, but cannot be read.
    """
    if not path.exists():
        return Ledger()
    try:
        return Ledger.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:120]}); expected the ledger of the "
            "table (without it only the minutes of calls and answers are lost)"
        ) from error


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write it whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(path, ledger.model_dump(mode="json"), decimals=None)
