"""Compare the boosting methods at propagated and at displaced points of the demonstration cohort.

    python -m test.cohort.step1 PREPARED TEST_CSV -o OUT [--weights DIR] [--displacements 4,10,26]
        [--lesions 6] [--methods none,merged-probabilities] [--patients STS_003,STS_025]

Each fold predicts its held-out patients, and the ensemble the test patients, at the propagated points, and at
these moved by some mm in a direction drawn once per lesion; with the component rule, as `segment` does.
Registrations are not repeated, so that baseline points follow by offsets in mm. Writes ``step1.csv``, a line
for each patient group, displacement and method, with the paired difference of its Dice from that without
boosting; prints the same as a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.case.case import LesionPrompt, PointSource, PromptPoint
from model.crossval.loaded_scans import ScanReader
from model.crossval.measure_pair import measure_pair, reference_of
from model.crossval.pairs import EvaluationPair, data_set_pairs, evaluation_pairs
from model.crossval.point_setting import PointSetting
from model.crossval.predict_pair import pair_prompts
from model.crossval.scores import DEFINITION, score_of
from model.data.folds import read_folds
from model.evaluation.compare_runs import compare_runs
from model.evaluation.measure_scan import Labelmap
from model.evaluation.metrics import Metric
from model.evaluation.records import LesionRecord, Scope
from model.inference.boost_options import Boosting, BoostOptions
from model.inference.lesion_steps import predict_lesions
from model.inference.load import LoadedModel, load_model
from model.inference.merge import merge
from model.inference.options import DEFAULT_FOLDS, ModelOptions
from model.inference.robust import RobustOptions, RobustSegmenter
from model.inference.segmenter import Segmenter
from test.benchmark.click_segmenter import CachingSegmenter

log = logging.getLogger(__name__)

PROPAGATED = PointSetting("propagated")
_Key = tuple[str, float, Boosting]
_Records = dict[_Key, list[LesionRecord]]


def measure(
    group: str,
    pairs: Iterable[EvaluationPair],
    model: LoadedModel,
    displacements_mm: Sequence[float],
    methods: Sequence[Boosting],
    lesions: int,
    records: _Records,
) -> None:
    """Add the records of all displacements and methods for some pairs.

    Args:
        group: of patients.
        pairs: all predicted by the same model.
        model: that has not seen them.
        displacements_mm: of the propagated points.
        methods: of boosting.
        lesions: of each pair at most, evenly among its ids.
        records: by group, displacement and method; extended.
    """
    reader = ScanReader()
    for whole in pairs:
        pair = replace(whole, lesions=whole.lesions[:: max(1, -(-len(whole.lesions) // lesions))])
        baseline, followup = reader.read(pair)
        reference = reference_of(pair, followup)
        cached = CachingSegmenter(Segmenter(model.plan, model.ensemble, keep_support=True))
        prompts = pair_prompts(pair, baseline, followup, PROPAGATED, model.plan)
        for displacement_mm in displacements_mm:
            moved = [displaced(prompt, displacement_mm, pair.name) for prompt in prompts]
            for method in methods:
                segmenter = RobustSegmenter(cached, RobustOptions(BoostOptions(method)))
                predicted = predict_lesions(moved, segmenter)
                labels = merge(followup.scan, predicted.results, "probability", np.uint16)
                labelmap = Labelmap(Path(pair.name), labels, followup.scan.file_geometry)
                failed = frozenset(failure.prompt.lesion_id for failure in predicted.failures)
                records[group, displacement_mm, method] += measure_pair(
                    pair, baseline, reference, labelmap, failed
                )
        log.info("%s, %s: %d lesions, %d predictions", group, pair.name, len(prompts), cached.calls)


def displaced(prompt: LesionPrompt, displacement_mm: float, name: str) -> LesionPrompt:
    """Move a prompt's follow-up point in a direction that depends on the pair's name and the lesion only.

    Args:
        prompt: with any follow-up point; the new one counts as propagated.
        displacement_mm: distance in mm; the point stays inside the scan.
        name: of the pair.
    """
    geometry = prompt.followup.geometry
    direction = np.random.default_rng([zlib.crc32(name.encode()), prompt.lesion_id]).normal(size=3)
    offset_mm = displacement_mm * direction / np.linalg.norm(direction)
    place_mm = np.asarray(geometry.zyx_to_world(prompt.followup_point.point_zyx)) + offset_mm
    point = geometry.clip(geometry.world_to_zyx(place_mm.tolist()))
    return replace(prompt, followup_point=PromptPoint(point, PointSource.PROPAGATED))


def table(records: _Records) -> Iterator[dict[str, object]]:
    """Yield a line for each group, displacement and method."""
    for (group, displacement_mm, method), own in records.items():
        line: dict[str, object] = {
            "patients": group,
            "displaced_mm": displacement_mm,
            "boosting": str(method),
        }
        metrics = compare_runs(own, records[group, displacement_mm, Boosting.NONE], Path("none"), DEFINITION)
        dice = next(m for m in metrics.metrics if m.metric is Metric.DICE and m.scope is Scope.LESION)
        lesions = [record for record in own if record.scope is Scope.LESION]
        vanished = [record for record in lesions if not record.reference_voxels]
        line |= {
            "dice": _rounded(score_of(own).dice),
            "above_none": _rounded(dice.difference.mean),
            "above_none_low": _rounded(dice.difference.low),
            "above_none_high": _rounded(dice.difference.high),
            "lesions": len(lesions),
            "vanished": len(vanished),
            "vanished_empty": sum(not record.prediction_voxels for record in vanished),
        }
        yield line


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="test.cohort.step1", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="PREPARED")
    parser.add_argument("test", type=Path, metavar="TEST_CSV")
    parser.add_argument("--weights", type=Path, default=Path("resources/weights"), metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--displacements", default="4,10,26", help="mm, beside 0")
    parser.add_argument("--methods", default=",".join(Boosting), help="beside none")
    parser.add_argument("--lesions", type=int, default=6, help="of each pair at most (default: 6)")
    parser.add_argument("--patients", default="", help="only these, separated by commas")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("model").setLevel(logging.ERROR)
    displacements_mm = [0.0, *map(float, filter(None, arguments.displacements.split(",")))]
    methods = list(dict.fromkeys([Boosting.NONE, *map(Boosting, arguments.methods.split(","))]))
    options = displacements_mm, methods, arguments.lesions
    chosen = frozenset(filter(None, arguments.patients.split(",")))

    def is_chosen(pair: EvaluationPair) -> bool:
        return not chosen or pair.patient_id in chosen

    records: _Records = defaultdict(list)
    pairs = evaluation_pairs(arguments.data)
    for number, fold in enumerate(read_folds(arguments.data)):
        own = [pair for pair in pairs if pair.patient_id in fold.val and is_chosen(pair)]
        if not own:
            continue
        model = load_model(arguments.weights, ModelOptions(device=arguments.device, folds=(number,)))
        measure("held-out", own, model, *options, records)
    ensemble = load_model(arguments.weights, ModelOptions(device=arguments.device, folds=DEFAULT_FOLDS))
    measure("test", filter(is_chosen, data_set_pairs(arguments.test)), ensemble, *options, records)
    lines = list(table(records))
    arguments.output.mkdir(parents=True, exist_ok=True)
    with (arguments.output / "step1.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    rows = [
        list(lines[0]),
        ["---"] * len(lines[0]),
        *([str(cell) for cell in line.values()] for line in lines),
    ]
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
