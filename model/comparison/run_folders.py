"""Ledger entries read from the run folders: finished networks, logs, and stored predictions."""

from __future__ import annotations

import contextlib
import csv
import math
from pathlib import Path

from ..case.text_files import read_json
from ..crossval.point_setting import PointSetting
from ..crossval.prediction_store import read_prediction_manifest
from ..crossval.scores import Score, score_of, score_predictions
from ..errors import InputError
from ..evaluation.records import RECORDS_NAME, LesionRecord, read_records
from ..training.checkpoint import FINAL
from ..training.config import TrainingConfig, first_difference
from ..training.job import CONFIG_FILE, HEALTH_FILE, saved_config
from ..training.logs import LOG_FILE
from ..training.stages import SHARED
from .inputs import ComparisonContext
from .ledger import Ledger, PredictionEntry, State, TrainingEntry
from .steps import PredictStep, Step, all_steps, without_collapsed
from .variants import ALL_ROWS, ROWS, Row


def refreshed(
    context: ComparisonContext, ledger: Ledger, step: Step | None = None, minutes: float = 0.0
) -> Ledger:
    """Read the trainings again, and the predictions of a step, or all predictions if it is None.

    Predictions that are complete but not scored yet are scored. ``minutes``, which the step took, are added
    to those in the ledger; minutes of calls and other predictions stay as they are.

    Raises:
        InputError: a fold was trained with other settings, or predictions cannot be scored.
        OutputError: a score cannot be written.
    """
    names = ((row, fold) for row in ROWS for fold in row.fold_names(context.fold_count))
    trainings = tuple(training_entry(context, row, fold) for row, fold in names)
    trained = ledger.model_copy(update={"trainings": trainings})
    steps = all_steps(ALL_ROWS, context.fold_count, has_test=True) if step is None else (step,)
    chosen = (without_collapsed(one, trained) for one in steps)
    new = {
        entry.key: entry
        for one in chosen
        if isinstance(one, PredictStep)
        for entry in _prediction_entries(context, ledger, one, minutes)
    }
    kept = (entry for entry in ledger.predictions if step is not None and entry.key not in new)
    return trained.model_copy(update={"predictions": (*kept, *new.values())})


def training_entry(context: ComparisonContext, row: Row, fold: str) -> TrainingEntry:
    """Read how far the training of a fold is, whichever command trained it.

    Raises:
        InputError: it was trained with other settings than the row's, or its pretraining is missing.
    """
    configs, folder = context.configs[row.name], context.folder.final(row, fold).parent
    own = _read_stage(row, fold, folder, configs.training)
    if configs.pretraining is None:
        return own
    first_folder = context.folder.pretraining(row, fold)
    first = _read_stage(row, fold, first_folder, configs.pretraining)
    if own.state == "finished" and first.state != "finished":
        raise InputError(
            f"{folder}: is finished, but its pretraining in {first_folder} is not; expected both, or "
            "another -o"
        )
    is_collapsed = first.state == "collapsed"
    state = "begun" if own.state == "not run" != first.state else own.state
    return own.model_copy(
        update={
            "state": "collapsed" if is_collapsed else state,
            "epochs": first.epochs + own.epochs,
            "of_epochs": first.of_epochs + own.of_epochs,
            "pretraining_minutes": first.minutes,
            "shares_pretraining": first_folder.name == f"fold_{SHARED}",
            "in_pretraining": is_collapsed,
            "reason": own.reason or (f"in pretraining: {first.reason}" if first.reason else None),
        }
    )


def _read_stage(row: Row, fold: str, folder: Path, config: TrainingConfig) -> TrainingEntry:
    """Read one stage of a training, as if the fold had no other."""
    saved = saved_config(folder)  # None if nothing was begun, or the folder was moved without it
    if saved is not None and (name := first_difference(saved, config)) is not None:
        raise InputError(
            f"{folder / CONFIG_FILE}: was trained with {name}={getattr(saved, name)}, not "
            f"{getattr(config, name)}; expected the row's settings, or another -o"
        )
    seconds = _epoch_seconds(folder / LOG_FILE)
    is_finished = (folder / FINAL).is_file()
    reason = None if is_finished else _collapse_reason(folder / HEALTH_FILE)
    state: State = "finished" if is_finished else "begun" if seconds else "not run"
    return TrainingEntry(
        row=row.name,
        fold=fold,
        state="collapsed" if reason is not None else state,
        epochs=len(seconds),
        of_epochs=config.epochs,
        minutes=sum(seconds.values()) / 60,
        reason=reason,
    )


def _epoch_seconds(path: Path) -> dict[int, float]:
    """Seconds of each epoch in a log; of a repeated epoch, the last line counts."""
    seconds: dict[int, float] = {}
    with (
        contextlib.suppress(OSError, UnicodeDecodeError, csv.Error),
        path.open(newline="", encoding="utf-8") as file,
    ):
        for row in csv.DictReader(file):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a line cut short by a stopped run
                spent = float(row["training_seconds"]) + float(row["validation_seconds"])
                if math.isfinite(spent):
                    seconds[int(row["epoch"])] = spent
    return seconds


def _collapse_reason(path: Path) -> str | None:
    """The reason why a stage collapsed; None if it did not."""
    try:
        document = read_json(path, "the state of a fold")
    except InputError:
        return None
    if not isinstance(document, dict) or document.get("state") != "collapsed":
        return None
    return str(document.get("reason") or "no reason was recorded")


def _prediction_entries(
    context: ComparisonContext, ledger: Ledger, step: PredictStep, minutes: float
) -> list[PredictionEntry]:
    """The entries of a step that took ``minutes`` more than the ledger knows."""
    entries, more = [], minutes / len(step.settings)
    for setting, before in zip(step.settings, step.entries(ledger), strict=True):
        known = (before.minutes or 0.0) + more if before.minutes is not None or more else None
        state, score, failed = _read_predictions(context, step, setting)
        update = {"state": state, "minutes": known, "score": score, "failed": failed}
        entries.append(before.model_copy(update=update))
    return entries


def _read_predictions(
    context: ComparisonContext, step: PredictStep, setting: PointSetting
) -> tuple[State, Score | None, tuple[str, ...]]:
    """State, score and failed lesions of stored predictions; complete ones are scored if they were not.

    Only predictions by the present weights, for the present points and files, count. Without a test set,
    predictions for test patients count as complete if they were scored.
    """
    folder, finals = step.output(context, setting), [context.folder.final(step.row, f) for f in step.folds]
    stored, pairs = read_prediction_manifest(folder), step.pairs(context)
    is_trained = step.row.floor is not None or all(final.is_file() for final in finals)
    if stored is None or not is_trained or not stored.matches(step.manifest(context, setting)):
        return "not run", None, ()
    records = _scored_records(folder)
    if not (records if pairs is None else all(stored.is_predicted(pair, folder) for pair in pairs)):
        return "begun", None, ()
    is_scored = pairs is None or {one.scan for one in records} == {pair.name for pair in pairs}
    if pairs is None or is_scored:
        return "finished", score_of(records), stored.failures
    return "finished", score_predictions(pairs, folder), stored.failures


def _scored_records(folder: Path) -> tuple[LesionRecord, ...]:
    """The records of scored predictions; () if there are none, or only those of another version."""
    try:
        return read_records(folder / RECORDS_NAME)
    except InputError:
        return ()
