"""Runs and answers as they lie on disk, without a network behind them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.comparison.finished import pretraining_folder
from model.comparison.layout import Layout
from model.comparison.progress import ComparisonContext
from model.comparison.step_execution import Outcome, StepContext
from model.comparison.steps import (
    MAIN_QUESTIONS,
    NOISE_QUESTIONS,
    EvaluationPairs,
    PredictStep,
    Step,
    TestStep,
    TrainStep,
    answer_folders,
)
from model.comparison.variants import ROWS, TWO_CORES, Row, Stages, stages_of
from model.crossval.pairs import EvaluationPair
from model.crossval.prediction_store import (
    cache_entry,
    labelmap_path,
    new_manifest,
    records_path,
    write_prediction_manifest,
)
from model.data.dataset import RawLesion, RawScan
from model.evaluation.records import LesionRecord, Scope, write_records
from model.training.config import TrainingConfig, to_plain

SETTINGS = ("epochs=4", "pretrain.epochs=2")
MINUTES_OF_EPOCH = 1.5
QUESTIONS = {question.name: question for question in (*MAIN_QUESTIONS, *NOISE_QUESTIONS)}


def stages() -> dict[str, Stages]:
    return {row.name: stages_of(row, TWO_CORES, SETTINGS) for row in ROWS}


def site(folder: Path, folds: int = 3) -> ComparisonContext:
    """Fold N holds back patient pN; patient t is tested."""
    held_out = tuple((pair(folder, f"p{number}"),) for number in range(folds))
    return ComparisonContext(Layout(folder), stages(), EvaluationPairs(held_out, (pair(folder, "t"),)))


def pair(folder: Path, patient: str) -> EvaluationPair:
    """A pair of scans of one lesion, whose files hold a few bytes."""
    scans = []
    for order in (0, 1):
        image, labels = (folder / "raw" / f"{patient}_{order}_{kind}.mha" for kind in ("ct", "labels"))
        for path in (image, labels):
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.write_bytes(path.name.encode())
        scans.append(RawScan(f"{patient}_{order}", patient, order, image, labels))
    point = (1.0, 2.0, 3.0)
    lesion = RawLesion(1, scans[0].scan_id, scans[1].scan_id, (1,), point, point)
    return EvaluationPair(patient, f"{patient}-1", *scans, (lesion,))


def place(where: ComparisonContext) -> StepContext:
    root = where.layout.root
    return StepContext(where.layout, root, root, where.pairs, TWO_CORES, SETTINGS, "cpu")


def write_stage(folder: Path, config: TrainingConfig, epochs: int, state: str = "finished") -> None:
    """A stage of a fold; ``state`` is finished, begun or collapsed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "plans.json").touch()
    (folder / "config.json").write_text(json.dumps(to_plain(config)))
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "training_seconds", "validation_seconds"])
        writer.writerows([n, 60 * MINUTES_OF_EPOCH - 10, 10] for n in range(epochs))
    if state == "finished":
        (folder / "checkpoint_final.pth").write_bytes(b"weights")
    if state == "collapsed":
        (folder / "health.json").write_text(json.dumps({"state": "collapsed", "reason": "all background"}))


def write_fold(
    where: ComparisonContext, row: Row, fold: str, state: str = "finished", epochs: int | None = None
) -> None:
    """A fold with its pretraining, which is finished whatever the fold's state is."""
    of_row = where.stages[row.name]
    if of_row.pretraining is not None:
        folder = pretraining_folder(where.layout, row, fold)
        write_stage(folder, of_row.pretraining, of_row.pretraining.epochs)
    done = of_row.config.epochs if epochs is None else epochs
    write_stage(where.layout.final(row.name, fold).parent, of_row.config, done, state)


def record(patient: str, lesion: int = 1, common: int = 50, reference: int = 100) -> LesionRecord:
    """A lesion of which so many voxels were found, and nothing else was drawn: Dice 2c / (r + c)."""
    return LesionRecord(
        patient=patient,
        scan=f"{patient}-1",
        step=1,
        scope=Scope.LESION,
        lesion=str(lesion),
        baseline_ids=(lesion,),
        reference_ids=(lesion,) if reference else (),
        prediction_ids=(lesion,) if common else (),
        existed=True,
        is_missing=False,
        voxel_ml=0.01,
        diagonal_mm=500.0,
        baseline_ml=1.0,
        reference_voxels=reference,
        prediction_voxels=common,
        common_voxels=common,
        fn_voxels=0 if common else reference,
        fp_voxels=0,
        nsd_2mm=0.5 if common else None,
        hd95_mm=3.0 if common else None,
        assd_mm=1.0 if common else None,
        centre_mm=2.0 if common else None,
    )


def write_answers(
    where: ComparisonContext,
    step: PredictStep | TestStep,
    common: int = 50,
    failed: Mapping[int, str] | None = None,
) -> None:
    """Answers about all pairs of a step, which nobody has scored yet."""
    pairs = where.pairs.of(step)
    assert pairs is not None
    for question, folder in answer_folders(step, where.layout):
        asked = new_manifest(question, where.layout.run(step.row.name), step.needs)
        for one in pairs:
            write_records(records_path(folder, one), [record(one.patient_id, common=common)])
            labelmap_path(folder, one).touch()
            asked = asked.with_prediction(one, cache_entry(one), failed or {})
        write_prediction_manifest(folder, asked)


def asking(row: Row, question: str, fold: str) -> PredictStep:
    return PredictStep(row, fold, (QUESTIONS[question],))


@dataclass
class Clock:
    """Seconds, which pass when somebody works."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Worker:
    """Does each step in ten minutes, unless it collapses or the budget ends it."""

    where: ComparisonContext
    clock: Clock = field(default_factory=Clock)
    collapsing: frozenset[tuple[str, str]] = frozenset()
    stopping: bool = False
    failed: Mapping[int, str] = field(default_factory=dict)  # lesions without an answer, in all questions
    done: list[str] = field(default_factory=list)

    def __call__(self, step: Step, place: StepContext, until: float) -> Outcome:
        self.done.append(str(step))
        self.clock.now += 600
        if not isinstance(step, TrainStep):
            write_answers(self.where, step, failed=self.failed)
            return Outcome("finished", 10.0)
        if (step.row.name, step.fold) in self.collapsing:
            write_fold(self.where, step.row, step.fold, "collapsed", 3)
            return Outcome("collapsed", 10.0, "fold has collapsed: all background")
        if self.stopping and self.clock() >= until:
            write_fold(self.where, step.row, step.fold, "begun", 1)
            return Outcome("begun", 10.0)
        write_fold(self.where, step.row, step.fold)
        return Outcome("finished", 10.0)
