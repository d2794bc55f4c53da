"""Run folders and predictions as they lie on disk, without a network behind them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from model.case.raw_lesion import RawLesion
from model.comparison.inputs import ComparisonContext, DataSet, OutputFolder
from model.comparison.steps import MAIN_SETTINGS, NOISE_SETTINGS, PredictStep, Step, TrainStep
from model.comparison.variants import ROWS, Row, row_configs
from model.crossval.pairs import EvaluationPair
from model.crossval.prediction_store import (
    cache_entry,
    labelmap_path,
    records_path,
    write_prediction_manifest,
)
from model.data.dataset import RawScan
from model.evaluation.records import LesionRecord, Scope, write_records
from model.training.config import TrainingConfig, to_plain
from model.training.logs import EpochRecord

from .training_phantoms import plan

OVERRIDES = ("epochs=4", "pretrain.epochs=2")
MINUTES_PER_EPOCH = 1.5
SETTINGS = {setting.name: setting for setting in (*MAIN_SETTINGS, *NOISE_SETTINGS)}


def context_of(folder: Path, folds: int = 3) -> ComparisonContext:
    """Fold N holds out patient pN; the test set is patient t."""
    return ComparisonContext(
        folder=OutputFolder(folder),
        configs={row.name: row_configs(row, OVERRIDES) for row in ROWS},
        device="cpu",
        plan=plan(),
        data=DataSet(Path("real"), 5, 6, 30, "d1"),
        pretraining=DataSet(Path("syn"), 1, 1, 1, "p1"),
        test=DataSet(Path("x"), 1, 1, 2, "t1"),
        held_out=tuple((pair(folder, f"p{number}"),) for number in range(folds)),
        tested=(pair(folder, "t"),),
        shares_pretraining=False,
    )


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
    return EvaluationPair(patient, f"{patient}-1", scans[0], scans[1], (lesion,))


def write_stage(folder: Path, config: TrainingConfig, epochs: int, state: str = "finished") -> None:
    """A stage of a fold; ``state`` is finished, begun or collapsed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "plans.json").touch()
    (folder / "config.json").write_text(json.dumps(to_plain(config)))
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)], restval=0)
        writer.writeheader()
        seconds = {"training_seconds": 60 * MINUTES_PER_EPOCH - 10, "validation_seconds": 10}
        writer.writerows({"epoch": n, **seconds} for n in range(epochs))
    if state == "finished":
        (folder / "checkpoint_final.pth").write_bytes(b"weights")
    if state == "collapsed":
        (folder / "health.json").write_text(json.dumps({"state": "collapsed", "reason": "all background"}))


def write_fold(
    context: ComparisonContext, row: Row, fold: str, state: str = "finished", epochs: int | None = None
) -> None:
    """A fold with its pretraining, which is finished whatever the fold's state is."""
    of_row = context.configs[row.name]
    if of_row.pretraining is not None:
        folder = context.folder.pretraining(row, fold)
        write_stage(folder, of_row.pretraining, of_row.pretraining.epochs)
    done = of_row.training.epochs if epochs is None else epochs
    write_stage(context.folder.final(row, fold).parent, of_row.training, done, state)


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


def write_predictions(
    context: ComparisonContext, step: PredictStep, common: int = 50, failed: Mapping[int, str] | None = None
) -> None:
    """Predictions for all pairs of a step, not scored yet."""
    pairs = step.pairs(context)
    assert pairs is not None
    for setting in step.settings:
        folder = step.output(context, setting)
        manifest = step.manifest(context, setting)
        for one in pairs:
            write_records(records_path(folder, one), [record(one.patient_id, common=common)])
            labelmap_path(folder, one).touch()
            manifest = manifest.with_prediction(one, cache_entry(one), failed or {})
        write_prediction_manifest(folder, manifest)


def held_out_step(row: Row, setting: str, fold: str) -> PredictStep:
    return PredictStep(row, (fold,), "held-out", (SETTINGS[setting],))


@dataclass
class Clock:
    """Seconds, which pass while a step runs."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class StepRunner:
    """Runs each step in ten minutes, unless it collapses or the budget ends it."""

    context: ComparisonContext
    clock: Clock = field(default_factory=Clock)
    collapsing: frozenset[tuple[str, str]] = frozenset()
    stopping: bool = False
    failed: Mapping[int, str] = field(default_factory=dict)  # lesions without a prediction, in all settings
    done: list[str] = field(default_factory=list)

    def __call__(self, step: Step, context: ComparisonContext, until: float) -> float:
        self.done.append(str(step))
        self.clock.now += 600
        if not isinstance(step, TrainStep):
            write_predictions(self.context, step, failed=self.failed)
        elif (step.row.name, step.fold) in self.collapsing:
            write_fold(self.context, step.row, step.fold, "collapsed", 3)
        elif self.stopping and self.clock() >= until:
            write_fold(self.context, step.row, step.fold, "begun", 1)
        else:
            write_fold(self.context, step.row, step.fold)
        return 10.0
