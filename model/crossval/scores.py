"""How good the answers are, in the words of [Kirchhoff2025]'s Table 1; all of it by `model.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..case.atomic_files import write_text
from ..case.lesion_json import write_json
from ..errors import InputError
from ..evaluation.averages import Average
from ..evaluation.definitions import DEFINITIONS
from ..evaluation.measure_scan import read_labelmap
from ..evaluation.metrics import Metric
from ..evaluation.records import RECORDS_NAME, LesionRecord, Scope, read_records, write_records
from ..evaluation.score_records import score_records
from ..evaluation.surface import NSD_KIND
from ..evaluation.tables import Evaluation, metric_tables, summary_document, summary_markdown
from ..training.job import Say
from .loaded_scans import ScanReader, check_files
from .measure_pair import measure_pair, reference_of
from .pairs import EvaluationPair
from .prediction_store import PredictionManifest, labelmap_path, read_prediction_manifest, records_path

DEFINITION = DEFINITIONS["longitudinal"]


@dataclass(frozen=True, slots=True)
class Score:
    """Means over lesions, then over scans, by the definition "longitudinal"; None where nothing counts.

    ``dice`` ... ``nsd`` are shares from 0 to 1. ``dice_low`` and ``dice_high`` are the ends of the 95 %
    interval over patients. ``lesions`` counts merged ones once, ``vanished`` those of them that the follow-up
    does not show, ``vanished_found`` those of which nothing was drawn. ``failed``: lesions without an answer;
    they have the worst score in all but FPvol, from which they are left out.
    """

    dice: float | None
    dice_low: float | None
    dice_high: float | None
    recall: float | None
    precision: float | None
    nsd: float | None
    fn_voxels: float | None
    fp_voxels: float | None
    fn_ml: float | None
    fp_ml: float | None
    lesions: int
    vanished: int
    vanished_found: int
    scans: int
    patients: int
    failed: int


def score_predictions(pairs: Sequence[EvaluationPair], output: Path, say: Say = print) -> Score:
    """Score the answers of `ask` in a folder, and write records (`lesions.csv`) and tables there.

    A pair without an answer counts as missing, with a warning.

    Raises:
        InputError: no pair, or an unanswered one whose original files are not there any more.
        OutputError: a table cannot be written.
    """
    records = read_pair_records(pairs, output, say)
    write_score_tables(records, output)
    return score_of(records)


def read_pair_records(
    pairs: Sequence[EvaluationPair], output: Path, say: Say = print
) -> tuple[LesionRecord, ...]:
    """The records of pairs that were asked about into a folder, those without an answer as missing."""
    if not pairs:
        raise InputError(f"{output}: is asked for the answers of no pair of scans; expected one or more")
    asked, reader = read_prediction_manifest(output), ScanReader()
    records: list[LesionRecord] = []
    for pair in pairs:
        records += _kept_records(pair, output, asked) or _measured(pair, output, asked, reader, say)
    return tuple(records)


def _kept_records(
    pair: EvaluationPair, output: Path, asked: PredictionManifest | None
) -> tuple[LesionRecord, ...]:
    """What was measured when it was asked; () where that is not known."""
    if asked is None or not asked.covers(pair):
        return ()
    try:
        return read_records(records_path(output, pair))
    except InputError:
        return ()  # of another version: the labelmap is measured again


def _measured(
    pair: EvaluationPair, output: Path, asked: PredictionManifest | None, reader: ScanReader, say: Say
) -> tuple[LesionRecord, ...]:
    check_files([pair])
    baseline, followup = reader.read(pair)
    reference, path = reference_of(pair, followup), labelmap_path(output, pair)
    if asked is None or not asked.covers(pair) or not path.is_file():
        say(f"warning: {path}: MISSING answer; its {len(pair.lesions)} lesions get the worst score")
        return measure_pair(pair, baseline, reference, None)
    prediction = read_labelmap(path)
    if not prediction.geometry.same_grid(reference.geometry):
        raise InputError(
            f"{path}: lies on another grid than {reference.path}: {prediction.geometry.describe()}; "
            f"expected {reference.geometry.describe()}"
        )
    failed = frozenset(asked.failed.get(pair.name, {}))
    records = measure_pair(pair, baseline, reference, prediction, failed)
    write_records(records_path(output, pair), records)
    return records


def write_score_tables(records: Sequence[LesionRecord], output: Path) -> None:
    """Records and tables as the command `evaluate` writes them; `evaluate --compare` takes the folder."""
    missing = len({(r.scan, r.lesion) for r in records if r.is_missing and r.scope is Scope.LESION})
    warnings = (f"{missing} lesions have NO ANSWER and get the worst score",) if missing else ()
    notes = ("lesions of the data set alone, merged ones joined by its links", NSD_KIND)
    scores = score_records(records, DEFINITION)
    evaluation = Evaluation(tuple(records), scores, None, notes, warnings)
    write_records(output / RECORDS_NAME, records)
    write_json(output / "summary.json", summary_document(evaluation), decimals=None)
    write_text(output / "summary.md", summary_markdown(evaluation))
    for name, table in metric_tables(records, DEFINITION).items():
        write_text(output / f"{name}.csv", table)


def score_of(records: Sequence[LesionRecord]) -> Score:
    """The score of records, wherever they come from.

    Raises:
        InputError: there are none.
    """
    lesions = [record for record in records if record.scope is Scope.LESION]
    if not lesions:
        raise InputError("no lesion was asked about; expected one or more to score")
    step = score_records(lesions, DEFINITION).last(Scope.LESION)
    means: dict[Metric, Average] = {entry.metric: entry.average for entry in step.metrics}
    vanished = [record for record in lesions if not record.reference_voxels]
    return Score(
        dice=means[Metric.DICE].mean,
        dice_low=means[Metric.DICE].low,
        dice_high=means[Metric.DICE].high,
        recall=means[Metric.RECALL].mean,
        precision=means[Metric.PRECISION].mean,
        nsd=means[Metric.NSD].mean,
        fn_voxels=means[Metric.FN_VOXELS].mean,
        fp_voxels=means[Metric.FP_VOXELS].mean,
        fn_ml=means[Metric.FN_ML].mean,
        fp_ml=means[Metric.FP_ML].mean,
        lesions=len(lesions),
        vanished=len(vanished),
        vanished_found=sum(not r.prediction_voxels and not r.is_missing for r in vanished),
        scans=len({(record.patient, record.scan) for record in lesions}),
        patients=len({record.patient for record in lesions}),
        failed=sum(record.is_missing for record in lesions),
    )
