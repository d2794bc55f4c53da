"""What is finished, read from the run folders: networks, their logs, and the records of their answers."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...evaluation.records import RECORDS_NAME
from ..engine.config import TrainingConfig, first_difference, from_plain
from ..engine.job import CONFIG_FILE, HEALTH_FILE
from ..engine.logs import LOG_FILE
from ..engine.pipeline import PRETRAINING_FOLDER, SHARED
from .layout import Layout
from .ledger import State, Training
from .rows import Row, Stages
from .steps import AskStep, TestStep, answer_folders


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a folder says of one stage of a fold."""

    is_finished: bool
    epochs: int
    minutes: float
    reason: str | None  # why it has collapsed

    @property
    def state(self) -> State:
        if self.is_finished:
            return "finished"
        return "collapsed" if self.reason is not None else "begun" if self.epochs else "not run"


def training_of(layout: Layout, row: Row, fold: str, stages: Stages) -> Training:
    """How far the training of a fold is. It does not matter which command trained it.

    Raises:
        InputError: it was trained with other settings than the row's, or without the row's pretraining.
    """
    final = layout.final(row.name, fold)
    own = _stage(final.parent, final.name, stages.config)
    if stages.pretraining is None:
        return Training(
            row=row.name, fold=fold, state=own.state, epochs=own.epochs, of_epochs=stages.config.epochs,
            minutes=own.minutes, reason=own.reason,
        )  # fmt: skip
    folder = pretraining_folder(layout, row, fold)
    first = _stage(folder, final.name, stages.pretraining)
    if own.state == "finished" and not (folder / CONFIG_FILE).is_file():
        raise InputError(
            f"{final.parent}: was finished without a pretraining in {folder}; expected one, or another folder"
        )
    state: State = "collapsed" if first.state == "collapsed" else own.state
    if state == "not run" and first.state != "not run":
        state = "begun"
    return Training(
        row=row.name,
        fold=fold,
        state=state,
        epochs=first.epochs + own.epochs,
        of_epochs=stages.pretraining.epochs + stages.config.epochs,
        minutes=own.minutes,
        pretraining_minutes=first.minutes,
        shares_pretraining=folder.name == f"fold_{SHARED}",
        reason=own.reason or (f"in pretraining: {first.reason}" if first.reason else None),
    )


def pretraining_folder(layout: Layout, row: Row, fold: str) -> Path:
    """Where a fold's pretraining is: its own, also while there is none, or the one that serves all folds."""
    folder = layout.run(row.name) / PRETRAINING_FOLDER
    own, shared = folder / f"fold_{fold}", folder / f"fold_{SHARED}"
    return shared if shared.is_dir() and not own.is_dir() else own


def _stage(folder: Path, final: str, config: TrainingConfig) -> _Stage:
    _check_settings(folder / CONFIG_FILE, config)
    epochs, seconds = _logged(folder / LOG_FILE)
    is_finished = (folder / final).is_file()
    return _Stage(is_finished, epochs, seconds / 60, None if is_finished else _collapse(folder / HEALTH_FILE))


def _check_settings(path: Path, config: TrainingConfig) -> None:
    try:
        saved = from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, InputError):
        return  # nothing was begun, or the folder was moved without it
    name = first_difference(saved, config)
    if name is not None:
        raise InputError(
            f"{path}: was trained with {name}={getattr(saved, name)}, not {getattr(config, name)}; expected "
            "the row's settings, or another -o"
        )


def _logged(path: Path) -> tuple[int, float]:
    """Epochs and seconds of a log; of an epoch that stands there twice the last counts."""
    seconds: dict[int, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                try:
                    spent = float(row["training_seconds"]) + float(row["validation_seconds"])
                    epoch = int(row["epoch"])
                except (KeyError, TypeError, ValueError):
                    continue  # cut short when the run was stopped
                if math.isfinite(spent):
                    seconds[epoch] = spent
    except OSError:
        return 0, 0.0
    return len(seconds), sum(seconds.values())


def _collapse(path: Path) -> str | None:
    """Why a stage has collapsed; None where it has not."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("state") != "collapsed":
        return None
    return str(document.get("reason") or "no reason was written down")


def is_answered(step: AskStep | TestStep, layout: Layout) -> bool:
    """Whether all answers of a step are there and scored, by the networks as they are now."""
    finals = [layout.final(step.row.name, fold) for fold in step.needs]
    return all(is_current(folder / RECORDS_NAME, finals) for _, folder in answer_folders(step, layout))


def is_current(records: Path, finals: list[Path]) -> bool:
    """Whether records were written after the weights that they are of."""
    try:
        written = records.stat().st_mtime_ns
        return all(final.stat().st_mtime_ns <= written for final in finals)
    except OSError:
        return False
