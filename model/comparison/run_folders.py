"""Ledger entries read from the run folders: finished networks, logs, and stored predictions."""

from __future__ import annotations

from pathlib import Path

from ..crossval.point_setting import PointSetting
from ..crossval.prediction_store import read_prediction_manifest
from ..crossval.scores import Score, score_of, score_predictions
from ..errors import InputError
from ..evaluation.records import RECORDS_NAME, LesionRecord, read_records
from ..training.checkpoint import FINAL
from ..training.config import TrainingConfig, first_difference
from ..training.job import CONFIG_FILE, collapse_reason, saved_config
from ..training.logs import LOG_FILE, read_epochs
from ..training.stages import SHARED
from .inputs import ComparisonContext
from .ledger import Ledger, State, TrainingEntry
from .steps import PredictStep, Step, all_steps, without_collapsed
from .variants import ALL_ROWS, ROWS, Row


def refreshed(
    context: ComparisonContext, ledger: Ledger, step: Step | None = None, minutes: float = 0.0
) -> Ledger:
    """Read the trainings of a step's row and its predictions again, or those of all steps if it is None.

    Predictions that are complete but not scored yet are scored. ``minutes``, which the step took, are added
    to those in the ledger; minutes of calls and other predictions stay as they are.

    Raises:
        InputError: a fold was trained with other settings, or predictions cannot be scored.
        OutputError: a score cannot be written.
    """
    rows = ROWS if step is None else (step.row,) if step.row.floor is None else ()
    trainings = {} if step is None else {(entry.row, entry.fold): entry for entry in ledger.trainings}
    for row in rows:
        for fold in row.fold_names(context.fold_count):
            trainings[row.name, fold] = training_entry(context, row, fold)
    ledger = ledger.model_copy(update={"trainings": (*trainings.values(),)})
    steps = all_steps(ALL_ROWS, context.fold_count, has_test=True) if step is None else (step,)
    predictions = {} if step is None else {entry.key: entry for entry in ledger.predictions}
    for one in (without_collapsed(one, ledger) for one in steps):
        if isinstance(one, PredictStep):
            more = minutes / len(one.settings)
            for setting, before in zip(one.settings, one.entries(ledger), strict=True):
                state, score, failed = _read_predictions(context, one, setting)
                spent = (before.minutes or 0.0) + more if before.minutes is not None or more else None
                update = {"state": state, "minutes": spent, "score": score, "failed": failed}
                predictions[before.key] = before.model_copy(update=update)
    return ledger.model_copy(update={"predictions": (*predictions.values(),)})


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
    # Of a repeated epoch, the last line counts.
    epochs = {e.epoch: e.training_seconds + e.validation_seconds for e in read_epochs(folder / LOG_FILE)}
    is_finished = (folder / FINAL).is_file()
    reason = None if is_finished else collapse_reason(folder)
    state: State = "finished" if is_finished else "collapsed" if reason else "begun" if epochs else "not run"
    return TrainingEntry(
        row=row.name,
        fold=fold,
        state=state,
        epochs=len(epochs),
        of_epochs=config.epochs,
        minutes=sum(epochs.values()) / 60,
        reason=reason,
    )


def _read_predictions(
    context: ComparisonContext, step: PredictStep, setting: PointSetting
) -> tuple[State, Score | None, tuple[str, ...]]:
    """State, score and failed lesions of stored predictions; complete ones are scored if they were not.

    Only predictions by the present weights, for the present points and files, count. Without a test set,
    predictions for test patients count as complete if they were scored.
    """
    folder, pairs = step.output(context, setting), step.pairs(context)
    is_trained = step.row.floor is not None or all(
        context.folder.final(step.row, fold).is_file() for fold in step.folds
    )
    stored = read_prediction_manifest(folder)
    if stored is None or not is_trained or not stored.matches(step.manifest(context, setting)):
        return "not run", None, ()
    records = _scored_records(folder)
    if not (records if pairs is None else all(stored.is_predicted(pair, folder) for pair in pairs)):
        return "begun", None, ()
    if pairs is None or {one.scan for one in records} == {pair.name for pair in pairs}:
        return "finished", score_of(records), stored.failures
    return "finished", score_predictions(pairs, folder), stored.failures


def _scored_records(folder: Path) -> tuple[LesionRecord, ...]:
    """The records of scored predictions; () if they are missing or of another version."""
    try:
        return read_records(folder / RECORDS_NAME)
    except InputError:
        return ()
