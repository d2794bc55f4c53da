"""Score predictions with the metrics of [Kirchhoff2025], Table 1, as computed by `model.evaluation`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..case.atomic_files import write_text
from ..case.lesion_json import write_json
from ..errors import InputError
from ..evaluation.averages import Average
from ..evaluation.change_scores import VanishedCounts
from ..evaluation.definitions import DEFINITIONS
from ..evaluation.measure_scan import read_labelmap
from ..evaluation.metrics import Metric
from ..evaluation.records import RECORDS_NAME, LesionRecord, Scope, read_records, write_records
from ..evaluation.score_records import score_records
from ..evaluation.summary import Evaluation, summary_document, summary_markdown
from ..evaluation.surface import NSD_KIND
from ..evaluation.tables import metric_tables
from .loaded_scans import ScanReader, check_files
from .measure_pair import measure_pair, reference_of
from .pairs import EvaluationPair
from .prediction_store import PredictionManifest, labelmap_path, read_prediction_manifest, records_path

log = logging.getLogger(__name__)

DEFINITION = DEFINITIONS["longitudinal"]


@dataclass(frozen=True, slots=True)
class Score:
    """Means over lesions, then over scans, by the definition "longitudinal"; None if no lesion counts.

    Attributes:
        dice: from 0 to 1, as ``recall``, ``precision`` and ``nsd`` (at 2 mm).
        dice_low: lower end of the 95 % interval of the Dice over patients.
        dice_high: upper end of that interval.
        recall: recall.
        precision: precision.
        nsd: normalised surface Dice.
        fn_voxels: false-negative volume in voxels.
        fp_voxels: false-positive volume in voxels.
        fn_ml: false-negative volume in ml.
        fp_ml: false-positive volume in ml.
        lesions: number of lesions; merged ones count once.
        vanished: those of them that are absent from the follow-up.
        vanished_found: vanished lesions with an empty prediction.
        scans: number of scans.
        patients: number of patients.
        failed: lesions without a prediction; they get the worst score in all metrics but FPvol, from which
            they are left out.
        present: lesions that are in the follow-up.
        present_drawn: those of them with a prediction.
        log_slope: slope of drawn on true change in volume, see `ChangeSlope`.
        log_slope_low: lower end of its 95 % interval over patients.
        log_slope_high: upper end of that interval.
        false_ml: mean volume (ml) predicted for a vanished lesion.
        false_ml_median: the median of these volumes.
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
    present: int = 0
    present_drawn: int = 0
    log_slope: float | None = None
    log_slope_low: float | None = None
    log_slope_high: float | None = None
    false_ml: float | None = None
    false_ml_median: float | None = None


def score_predictions(pairs: Sequence[EvaluationPair], output: Path) -> Score:
    """Score the predictions in a folder, and write records (`lesions.csv`) and tables there.

    A pair without a prediction counts as missing, with a warning.

    Args:
        pairs: the pairs to score.
        output: folder written by `predict_pairs`.

    Raises:
        InputError: there is no pair, or one without a prediction whose original files are missing.
        OutputError: a table cannot be written.
    """
    records = read_pair_records(pairs, output)
    write_score_tables(records, output)
    return score_of(records)


def read_pair_records(pairs: Sequence[EvaluationPair], output: Path) -> tuple[LesionRecord, ...]:
    """Read the records of predicted pairs; lesions of pairs without a prediction count as missing.

    Args:
        pairs: one or more.
        output: folder written by `predict_pairs`.

    Raises:
        InputError: there is no pair, or one without a prediction whose original files are missing.
    """
    if not pairs:
        raise InputError(f"{output}: no pair of scans to read predictions of; expected one or more")
    manifest, reader = read_prediction_manifest(output), ScanReader()
    records: list[LesionRecord] = []
    for pair in pairs:
        records += _saved_records(pair, output, manifest) or _measured(pair, output, manifest, reader)
    return tuple(records)


def _saved_records(
    pair: EvaluationPair, output: Path, manifest: PredictionManifest | None
) -> tuple[LesionRecord, ...]:
    """The records written with the prediction; () if it is outdated or they are missing."""
    if manifest is None or not manifest.covers(pair):
        return ()
    try:
        return read_records(records_path(output, pair))
    except InputError:
        return ()  # of another version: the labelmap is measured again


def _measured(
    pair: EvaluationPair, output: Path, manifest: PredictionManifest | None, reader: ScanReader
) -> tuple[LesionRecord, ...]:
    check_files([pair])
    baseline, followup = reader.read(pair)
    reference, path = reference_of(pair, followup), labelmap_path(output, pair)
    if manifest is None or not manifest.covers(pair) or not path.is_file():
        count = len(pair.lesions)
        log.warning("warning: %s: MISSING prediction; its %d lesions get the worst score", path, count)
        return measure_pair(pair, baseline, reference, None)
    prediction = read_labelmap(path)
    if not prediction.geometry.same_grid(reference.geometry):
        raise InputError(
            f"{path}: is on another grid than {reference.path}: {prediction.geometry.describe()}; "
            f"expected {reference.geometry.describe()}"
        )
    failed = frozenset(manifest.failed.get(pair.name, {}))
    records = measure_pair(pair, baseline, reference, prediction, failed)
    write_records(records_path(output, pair), records)
    return records


def write_score_tables(records: Sequence[LesionRecord], output: Path) -> None:
    """Write records and tables as the command `evaluate` does; `evaluate --compare` takes the folder.

    Raises:
        OutputError: a file cannot be written.
    """
    missing = len({(r.scan, r.lesion) for r in records if r.is_missing and r.scope is Scope.LESION})
    warnings = (f"{missing} lesions have NO PREDICTION and get the worst score",) if missing else ()
    notes = ("lesions of the data set alone, merged ones joined by its links", NSD_KIND)
    scores = score_records(records, DEFINITION)
    evaluation = Evaluation(tuple(records), scores, None, notes, warnings)
    write_records(output / RECORDS_NAME, records)
    write_json(output / "summary.json", summary_document(evaluation), decimals=None)
    write_text(output / "summary.md", summary_markdown(evaluation))
    for name, table in metric_tables(records, DEFINITION).items():
        write_text(output / f"{name}.csv", table)


def score_of(records: Sequence[LesionRecord]) -> Score:
    """Compute the score of records.

    Raises:
        InputError: they contain no lesion.
    """
    lesions = [record for record in records if record.scope is Scope.LESION]
    if not lesions:
        raise InputError("no lesion was prompted; expected one or more to score")
    step = score_records(lesions, DEFINITION).last(Scope.LESION)
    means: dict[Metric, Average] = {entry.metric: entry.average for entry in step.metrics}
    counts, change = step.vanished or VanishedCounts(0, 0, 0, 0), step.change
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
        vanished=counts.found + counts.missed,
        vanished_found=counts.found,
        scans=len({(record.patient, record.scan) for record in lesions}),
        patients=len({record.patient for record in lesions}),
        failed=sum(record.is_missing for record in lesions),
        present=counts.kept + counts.lost,
        present_drawn=counts.kept,
        log_slope=None if change is None else change.slope,
        log_slope_low=None if change is None else change.low,
        log_slope_high=None if change is None else change.high,
        false_ml=counts.false_ml_mean,
        false_ml_median=counts.false_ml_median,
    )
