"""Score the shipped weights on the demonstration cohort, beside the baseline mask pasted at the point.

Each fold predicts its held-out patients, and the ensemble and its folds the test patients, by the path of
`segment`: propagated points with boosting and the component rule, given ones without. Predictions are kept
in the output folder, and the same command continues.
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model.crossval.floor_records import floor_records
from model.crossval.pairs import EvaluationPair, data_set_pairs, evaluation_pairs
from model.crossval.point_setting import PointSetting
from model.crossval.predict import predict_pairs
from model.crossval.scores import DEFINITION, read_pair_records, score_of
from model.data.folds import read_folds
from model.evaluation.compare_runs import compare_runs
from model.evaluation.metrics import Metric
from model.evaluation.records import LesionRecord, Scope
from model.floor.floors import Floor
from model.network.plan import Plan, read_plan

FOLDS = (0, 1, 2, 3, 4)
GIVEN, PROPAGATED = PointSetting("given"), PointSetting("propagated")
NOISE = tuple(PointSetting("propagated", voxels) for voxels in (2, 4, 6, 8))
FLOOR = "baseline mask pasted at the point"


@dataclass(frozen=True)
class Measured:
    """The records of one network, or of the pasted masks, at one point setting."""

    patients: str
    network: str
    setting: str
    records: Sequence[LesionRecord]


def pasted_records(
    pairs: Sequence[EvaluationPair], settings: Sequence[PointSetting], plan: Plan
) -> dict[PointSetting, list[LesionRecord]]:
    """Measure the pasted masks of pairs at some point settings; ``plan`` gives the voxels of their noise."""
    measured = floor_records(pairs, settings, plan, [Floor.PASTED])
    return {setting: records for (_, setting), records in measured.items()}


def held_out(
    pairs: Sequence[EvaluationPair], patients: Mapping[int, Sequence[str]], weights: Path, output: Path
) -> Iterator[Measured]:
    """Predict and measure the held-out patients of each fold, and all of them together."""
    settings = (PROPAGATED, GIVEN, *NOISE)
    together: dict[PointSetting, list[LesionRecord]] = {setting: [] for setting in settings}
    for fold, names in patients.items():
        own = [pair for pair in pairs if pair.patient_id in names]
        outputs = [(setting, output / f"fold_{fold}" / setting.name) for setting in settings]
        predict_pairs(own, weights, [fold], outputs, "cpu")
        for setting, folder in outputs:
            records = list(read_pair_records(own, folder))
            together[setting] += records
            yield Measured("held-out", f"fold {fold}", setting.name, records)
    for setting, all_records in together.items():
        yield Measured("held-out", "folds 0-4", setting.name, all_records)
    for setting, pasted in pasted_records(pairs, settings, read_plan(weights / "plans.json")).items():
        yield Measured("held-out", FLOOR, setting.name, pasted)


def tested(pairs: Sequence[EvaluationPair], weights: Path, output: Path) -> Iterator[Measured]:
    """Predict and measure the test patients by each fold and by the ensemble."""
    settings = (PROPAGATED, GIVEN)
    for folds in (*((fold,) for fold in FOLDS), FOLDS):
        name = f"fold {folds[0]}" if len(folds) == 1 else "ensemble of 5"
        outputs = [(setting, output / name.replace(" ", "_") / setting.name) for setting in settings]
        predict_pairs(pairs, weights, folds, outputs, "cpu")
        for setting, folder in outputs:
            yield Measured("test", name, setting.name, read_pair_records(pairs, folder))
    for setting, pasted in pasted_records(pairs, settings, read_plan(weights / "plans.json")).items():
        yield Measured("test", FLOOR, setting.name, pasted)


def write_table(measured: Sequence[Measured], path: Path) -> None:
    """Write a line for each measurement, with the difference of its Dice from that of the pasted masks."""
    floors = {(one.patients, one.setting): one.records for one in measured if one.network == FLOOR}
    lines = []
    for one in measured:
        line: dict[str, object] = {
            "patients_are": one.patients,
            "network": one.network,
            "points": one.setting,
        }
        line |= asdict(score_of(one.records))
        if one.network != FLOOR:
            line |= _difference(one.records, floors[one.patients, one.setting])
        lines.append(line)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _difference(records: Sequence[LesionRecord], floor: Sequence[LesionRecord]) -> dict[str, object]:
    metrics = compare_runs(records, floor, Path(FLOOR), DEFINITION).metrics
    dice = next(m for m in metrics if m.metric is Metric.DICE and m.scope is Scope.LESION)
    average = dice.difference
    return {
        "above_pasted": average.mean,
        "above_pasted_low": average.low,
        "above_pasted_high": average.high,
        "better": dice.better,
        "worse": dice.worse,
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="test.cohort.measure", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="PREPARED", help="output of `train prepare`, with folds")
    parser.add_argument("test", type=Path, metavar="TEST_CSV", help="test.csv of the cohort")
    parser.add_argument("--weights", type=Path, default=Path("resources/weights"), metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    patients = {number: fold.val for number, fold in enumerate(read_folds(arguments.data))}
    output, weights = arguments.output, arguments.weights
    measured = [
        *held_out(evaluation_pairs(arguments.data), patients, weights, output / "held_out"),
        *tested(data_set_pairs(arguments.test), weights, output / "test"),
    ]
    write_table(measured, output / "weights.csv")


if __name__ == "__main__":
    main()
