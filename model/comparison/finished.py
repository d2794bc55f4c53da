"""What is finished, read from the run folders: networks, their logs, and the records of their answers."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..crossval.pairs import EvaluationPair
from ..crossval.point_setting import PointSetting
from ..crossval.prediction_store import new_manifest, read_prediction_manifest
from ..crossval.scores import Score, score_of, score_predictions
from ..errors import InputError
from ..evaluation.records import RECORDS_NAME, LesionRecord, read_records
from ..training.config import TrainingConfig, first_difference
from ..training.job import CONFIG_FILE, HEALTH_FILE, saved_config
from ..training.logs import LOG_FILE
from ..training.stages import PRETRAINING_FOLDER, SHARED
from .layout import Layout
from .ledger import State, Training
from .variants import Row, Stages


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
            row=row.name,
            fold=fold,
            state=own.state,
            epochs=own.epochs,
            of_epochs=stages.config.epochs,
            minutes=own.minutes,
            reason=own.reason,
        )
    folder = pretraining_folder(layout, row, fold)
    first = _stage(folder, final.name, stages.pretraining)
    if own.state == "finished" and not first.is_finished:
        raise InputError(
            f"{final.parent}: was finished, but its pretraining in {folder} is not; expected both, or "
            "another -o"
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
        in_pretraining=first.state == "collapsed",
        reason=own.reason or (f"in pretraining: {first.reason}" if first.reason else None),
    )


def pretraining_folder(layout: Layout, row: Row, fold: str) -> Path:
    """Where a fold's pretraining is: its own, also while there is none, or the one that serves all folds."""
    folder = layout.run(row.name) / PRETRAINING_FOLDER
    own, shared = folder / f"fold_{fold}", folder / f"fold_{SHARED}"
    return shared if shared.is_dir() and not own.is_dir() else own


def _stage(folder: Path, final: str, config: TrainingConfig) -> _Stage:
    _check_settings(folder, config)
    epochs, seconds = _logged(folder / LOG_FILE)
    is_finished = (folder / final).is_file()
    return _Stage(is_finished, epochs, seconds / 60, None if is_finished else _collapse(folder / HEALTH_FILE))


def _check_settings(folder: Path, config: TrainingConfig) -> None:
    saved = saved_config(folder)
    if saved is None:
        return  # nothing was begun, or the folder was moved without it
    name = first_difference(saved, config)
    if name is not None:
        raise InputError(
            f"{folder / CONFIG_FILE}: was trained with {name}={getattr(saved, name)}, not "
            f"{getattr(config, name)}; expected the row's settings, or another -o"
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


@dataclass(frozen=True, slots=True)
class Answers:
    """What a folder says of the answers to a question; ``failed`` has a line for each lesion without one."""

    state: State
    score: Score | None = None
    failed: tuple[str, ...] = ()


def answers_of(
    question: PointSetting,
    folder: Path,
    run: Path,
    folds: tuple[str, ...],
    pairs: Sequence[EvaluationPair] | None,
) -> Answers:
    """How far the answers of a network are, as it is now; they are scored where they are whole.

    Args:
        run: the model folder.
        folds: those that were asked, which are finished.
        pairs: all who are asked about, as they are now; None takes what was answered, if it was scored.

    Raises:
        InputError: they have to be measured again, and original files are not there any more.
        OutputError: a table cannot be written.
    """
    asked = read_prediction_manifest(folder)
    if asked is None or not asked.matches(new_manifest(question, run, folds)):
        return Answers("not run")
    kept = _kept_records(folder)
    if pairs is None:
        return Answers("finished", score_of(kept), asked.failures) if kept else Answers("begun")
    if not all(asked.is_predicted(pair, folder) for pair in pairs):
        return Answers("begun")
    is_whole = {record.scan for record in kept} == {pair.name for pair in pairs}
    found = score_of(kept) if is_whole else score_predictions(pairs, folder, lambda line: None)
    return Answers("finished", found, asked.failures)


def _kept_records(folder: Path) -> tuple[LesionRecord, ...]:
    """What was scored; () where it was not, or by another version."""
    try:
        return read_records(folder / RECORDS_NAME)
    except InputError:
        return ()
