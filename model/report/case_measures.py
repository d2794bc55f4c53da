"""Measurements of a case that has just been segmented."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..case.case import PointSource, Scan, TimePointName
from ..inference.case_result import CaseResult, LesionOutcome, LesionStatus
from .findings import FORMAT, Measurements, PromptFacts
from .measurement_files import write_measurements
from .patient_measures import follow_patient
from .result_folders import NOT_PREDICTED_FLAGS, odd_fold_flags, unjudged
from .scan_measures import MeasuredScan, TimePointFacts, TimePointMeasures, measured_scan


def write_case_measurements(
    folder: Path, result: CaseResult, patient: str, folds: Sequence[int | str] = ()
) -> list[Path]:
    """Measure both time points of a segmented case, and write the files of `measurement_files`.

    Args:
        folder: for the files.
        result: the segmented case.
        patient: name of the patient.
        folds: names of the ensemble's folds.

    Returns:
        Paths of the files.

    Raises:
        OutputError: they cannot be written.
    """
    baseline = tuple(_baseline(scan, result) for scan in result.case.baseline.scans)
    followup = tuple(
        measured_scan(scan, [scan.file_grid.axial_labels(result.labelmaps[scan.slot])])
        for scan in result.case.followup.scans
        if scan.slot in result.labelmaps
    )
    points = (
        TimePointMeasures(TimePointFacts(TimePointName.BASELINE), baseline),
        TimePointMeasures(_followup_facts(result.outcomes, folds), followup),
    )
    measured = follow_patient(patient, points, result.warnings)
    return write_measurements(folder, Measurements(FORMAT, __version__, (measured,)))


def _baseline(scan: Scan, result: CaseResult) -> MeasuredScan:
    labelmaps = [scan.mask] if scan.mask is not None else []
    if result.baseline is not None and scan.slot in result.baseline.labelmaps:
        labelmaps.append(scan.file_grid.axial_labels(result.baseline.labelmaps[scan.slot]))
    return measured_scan(scan, labelmaps)


def _followup_facts(outcomes: Sequence[LesionOutcome], folds: Sequence[int | str]) -> TimePointFacts:
    prompts, flags, agreement = {}, {}, {}
    for outcome in outcomes:
        if (spread := outcome.fold_spread) is not None:
            agreement[outcome.lesion_id] = spread
        if outcome.prompt is not None:
            prompts[outcome.lesion_id] = _prompt(outcome)
        if outcome.odd_fold is not None and outcome.odd_fold.position < len(folds):
            flags[outcome.lesion_id] = odd_fold_flags(folds[outcome.odd_fold.position])
        if outcome.status is LesionStatus.PROPAGATED:
            flags[outcome.lesion_id] = NOT_PREDICTED_FLAGS
    return TimePointFacts(
        TimePointName.FOLLOWUP,
        unknown=unjudged((one.lesion_id, one.status, one.message or "") for one in outcomes),
        prompts=prompts,
        flags=flags,
        folds=agreement,
    )


def _prompt(outcome: LesionOutcome) -> PromptFacts:
    assert outcome.prompt is not None
    source, estimate = outcome.prompt.followup_point.source, outcome.estimate
    if estimate is None or source is not PointSource.PROPAGATED:
        return PromptFacts(source)
    known = estimate.confidence_mm if math.isfinite(estimate.confidence_mm) else None
    return PromptFacts(source, known, estimate.is_flagged)
