"""The ledger: the state, duration and score of every step.

The run folders alone decide what is finished; each call reads them again. The ledger shows it in one place
and keeps what the folders lack: the minutes of calls and predictions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..case.lesion_json import write_json
from ..case.text_files import read_json
from ..crossval.scores import Score
from ..errors import InputError, one_line
from .inputs import ComparisonContext, DataSet, Patients
from .variants import Row

LEDGER_FILE = "ledger.json"
State = Literal["not run", "begun", "finished", "collapsed"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class TrainingEntry(_Entry):
    """One fold of a row; ``minutes`` counts the epochs in its log, ``reason`` says why it collapsed.

    ``shares_pretraining``: one pretraining serves all folds of the row; each has its minutes.
    ``in_pretraining``: the pretraining collapsed.
    """

    row: str
    fold: str
    state: State = "not run"
    epochs: int = 0
    of_epochs: int = 0
    minutes: float = 0.0
    pretraining_minutes: float = 0.0
    shares_pretraining: bool = False
    in_pretraining: bool = False
    reason: str | None = None


class PredictionEntry(_Entry):
    """Predictions by a fold, or an ensemble of folds, at one point setting, and their score.

    ``minutes`` are summed over calls, None if unknown; settings predicted together have equal shares.
    ``failed`` has a line for each lesion without a prediction.
    """

    row: str
    patients: Patients = Field(validation_alias="asked", serialization_alias="asked")
    setting: str = Field(validation_alias="question", serialization_alias="question")
    folds: tuple[str, ...]
    state: State = "not run"
    minutes: float | None = None
    score: Score | None = None
    failed: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, Patients, str, tuple[str, ...]]:
        """Network, patients and point setting."""
        return (self.row, self.patients, self.setting, self.folds)


class Call(_Entry):
    """One call of the command: its start (UTC, ISO 8601), budget, and minutes by the clock."""

    begun: str
    budget_minutes: float
    minutes: float


class Ledger(_Entry):
    """All entries; ``data``, ``pretraining`` and ``test`` are digests of the data sets, None until given."""

    data: str | None = None
    pretraining: str | None = None
    test: str | None = None
    calls: tuple[Call, ...] = ()
    trainings: tuple[TrainingEntry, ...] = ()
    predictions: tuple[PredictionEntry, ...] = Field(
        default=(), validation_alias="answers", serialization_alias="answers"
    )

    def training(self, row: Row, fold: str) -> TrainingEntry:
        """The entry of a fold, or "not run"."""
        entries = (entry for entry in self.trainings if (entry.row, entry.fold) == (row.name, fold))
        return next(entries, TrainingEntry(row=row.name, fold=fold))

    def prediction(
        self, row: Row, patients: Patients, setting: str, folds: tuple[str, ...]
    ) -> PredictionEntry:
        """The entry of predictions at a point setting (by its name), or "not run"."""
        missing = PredictionEntry(row=row.name, patients=patients, setting=setting, folds=folds)
        return next((entry for entry in self.predictions if entry.key == missing.key), missing)


def read_ledger(path: Path) -> Ledger:
    """Read the ledger of earlier calls; an empty one if there is no file.

    Raises:
        InputError: the file cannot be read.
    """
    if not path.exists():
        return Ledger()
    expected = "the ledger of the table (without it only the minutes of calls and predictions are lost)"
    try:
        return Ledger.model_validate(read_json(path, expected))
    except ValueError as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)[:120]}); expected {expected}") from error


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write the ledger atomically. OutputError if it cannot be written."""
    write_json(path, ledger.model_dump(mode="json", by_alias=True), decimals=None)


def with_digests(ledger: Ledger, context: ComparisonContext) -> Ledger:
    """The ledger with the digests of the data sets; those of data sets not given in this call are kept.

    Raises:
        InputError: the ledger belongs to other data.
    """
    updates = {}
    for name in ("data", "pretraining", "test"):
        given: DataSet | None = getattr(context, name)
        if given is not None and getattr(ledger, name) not in (None, given.digest):
            raise InputError(
                f"{context.folder.root / LEDGER_FILE}: belongs to another data set than {given.path}; "
                "expected the same patients, lesions and folds, or another -o"
            )
        if given is not None:
            updates[name] = given.digest
    return ledger.model_copy(update=updates)
