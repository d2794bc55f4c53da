"""The steps of a comparison, trainings and predictions: their order, their state, and how they are run."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..crossval.pairs import EvaluationPair
from ..crossval.point_setting import PointSetting
from ..crossval.predict import draw_pairs, predict_pairs
from ..crossval.prediction_store import PredictionManifest, floor_manifest, new_manifest
from ..training.health import CollapsedFoldError
from ..training.job import BudgetSpentError
from ..training.prepared_data import PreparedData, open_prepared
from ..training.stages import EnsembleJob
from ..training.train_ensemble import train_ensemble
from .inputs import ComparisonContext, Patients
from .ledger import Ledger, PredictionEntry
from .variants import HEADLINE, Row

PROPAGATED = PointSetting("propagated")
MAIN_SETTINGS = (PROPAGATED, PointSetting("given"))
ALL_PATIENTS = ("all",)  # in place of a fold: a floor draws all test patients alike
# Largest shift of the point along each axis, in voxels of the network's grid.
NOISE_SETTINGS = tuple(PointSetting("propagated", noise) for noise in (0, 2, 4, 6, 8))


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Train one fold of a row, after its pretraining."""

    row: Row
    fold: str

    def __str__(self) -> str:
        return f"{self.row.name}: training of fold {self.fold}"


@dataclass(frozen=True, slots=True)
class PredictStep:
    """Predict with a fold, or an ensemble of several, at some point settings, or draw a floor."""

    row: Row
    folds: tuple[str, ...]
    patients: Patients
    settings: tuple[PointSetting, ...]

    def __str__(self) -> str:
        count, settings = len(self.folds), ", ".join(setting.name for setting in self.settings)
        folds = f"fold {self.folds[0]}" if count == 1 else f"the ensemble of {count} folds"
        patients = "its held-out patients" if self.patients == "held-out" else "the test patients"
        return f"{self.row.name}: predictions of {folds} for {patients} ({settings})"

    def pairs(self, context: ComparisonContext) -> tuple[EvaluationPair, ...] | None:
        """The pairs of scans to predict; None for test patients if there is no test set."""
        return context.tested if self.patients == "test" else context.held_out[int(self.folds[0])]

    def output(self, context: ComparisonContext, setting: PointSetting) -> Path:
        """The folder of the predictions at one of the point settings."""
        return context.folder.predictions(self.row, self.patients, setting.name, self.folds)

    def manifest(self, context: ComparisonContext, setting: PointSetting) -> PredictionManifest:
        """The manifest that up-to-date predictions at a point setting have; WeightsError without weights."""
        if self.row.floor is not None:
            return floor_manifest(setting, self.row.floor)
        return new_manifest(setting, context.folder.model(self.row), self.folds)

    def entries(self, ledger: Ledger) -> list[PredictionEntry]:
        """The ledger's entries, one for each point setting."""
        return [ledger.prediction(self.row, self.patients, one.name, self.folds) for one in self.settings]


Step = TrainStep | PredictStep


def all_steps(rows: Sequence[Row], fold_count: int, has_test: bool) -> tuple[Step, ...]:
    """All steps, the most important first: the main lines row after row, then test set and noise."""
    steps: list[Step] = []
    for row in rows:
        folds = row.fold_names(fold_count)
        steps += [TrainStep(row, fold) for fold in folds if row.floor is None]
        steps += [PredictStep(row, (fold,), "held-out", MAIN_SETTINGS) for fold in folds]
    for row in rows:
        folds = row.fold_names(fold_count)
        if row.floor is not None and has_test:
            steps.append(PredictStep(row, ALL_PATIENTS, "test", MAIN_SETTINGS))
        if row is HEADLINE and has_test:
            groups = [*((fold,) for fold in folds), *((folds,) if len(folds) > 1 else ())]
            steps += [PredictStep(row, group, "test", MAIN_SETTINGS) for group in groups]
        if row.has_noise:
            steps += [PredictStep(row, (fold,), "held-out", NOISE_SETTINGS[1:]) for fold in folds]
    return tuple(steps)


def without_collapsed(step: Step, ledger: Ledger) -> Step | None:
    """The step without folds that collapsed; None if too few remain."""
    if isinstance(step, TrainStep):
        return step
    sound = tuple(fold for fold in step.folds if ledger.training(step.row, fold).state != "collapsed")
    is_other = len(sound) == 1 < len(step.folds)  # an ensemble of one fold is that fold
    return replace(step, folds=sound) if sound and not is_other else None


def steps_left(steps: Sequence[Step], ledger: Ledger) -> list[Step]:
    """The steps that are not done, without collapsed folds."""
    possible = (without_collapsed(step, ledger) for step in steps)
    return [step for step in possible if step is not None and not _is_done(step, ledger)]


def _is_done(step: Step, ledger: Ledger) -> bool:
    """True if nothing is left to do, and no lesion is without a prediction."""
    if isinstance(step, TrainStep):
        return ledger.training(step.row, step.fold).state in ("finished", "collapsed")
    return all(entry.state == "finished" and not entry.failed for entry in step.entries(ledger))


RunStep = Callable[[Step, ComparisonContext, float], float]


def run_step(step: Step, context: ComparisonContext, until: float) -> float:
    """Run a step, or its unfinished part; the folders show how far it got, and whether it collapsed.

    Args:
        step: what to train or predict.
        context: what all steps share.
        until: a time of `time.monotonic` after which no further epoch and no further pair of scans begins.

    Returns:
        The minutes it took.

    Raises:
        LongilesionError: the step cannot be carried out.
    """
    start = time.monotonic()
    with contextlib.suppress(CollapsedFoldError, BudgetSpentError), _only_errors():
        if isinstance(step, TrainStep):
            _train(step, context, until)
        else:
            _predict(step, context, until)
    return (time.monotonic() - start) / 60


def _train(step: TrainStep, context: ComparisonContext, until: float) -> None:
    configs, pretraining = context.configs[step.row.name], None
    if configs.pretraining is not None and context.pretraining is not None:
        pretraining = _opened(context.pretraining.path, configs.pretraining.uses_lesion_voxels)
    job = EnsembleJob(
        data=_opened(context.data.path, configs.training.uses_lesion_voxels),
        output=context.folder.model(step.row),
        config=configs.training,
        folds=(step.fold,),
        pretraining=pretraining,
        pretraining_config=configs.pretraining,
        device=context.device,
        until=until,
    )
    train_ensemble(job)


def _predict(step: PredictStep, context: ComparisonContext, until: float) -> None:
    pairs, model = step.pairs(context), context.folder.model(step.row)
    assert pairs is not None, "there are steps for test patients only if there is a test set"
    outputs = [(setting, step.output(context, setting)) for setting in step.settings]
    if step.row.floor is not None:
        draw_pairs(pairs, step.row.floor, outputs, context.plan, until)
        return
    predict_pairs(pairs, model, step.folds, outputs, context.device, until)


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Keep the package from logging details of a step, which has one line when it ends."""
    log = logging.getLogger(__name__.partition(".")[0])
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@lru_cache(maxsize=4)  # a process runs several steps on the same data
def _opened(folder: Path, with_tables: bool) -> PreparedData:
    return open_prepared(folder, with_tables)
