"""Results to measure: folders that `track` and `segment` have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ..case.case import ScanFiles, Slot, TimePointName
from ..case.challenge import discover, output_path
from ..case.input_files import is_regular_file
from ..case.text_files import read_json
from ..errors import InputError
from ..inference.case_result import LesionStatus
from ..inference.fold_agreement import FoldSpread
from ..inference.run_report import baseline_file, run_file
from ..tracking.fates import LesionFate
from ..tracking.writer import RECORD_NAME
from .findings import PromptFacts
from .labelmap_sources import PatientSource, date_in
from .scan_measures import ScanToMeasure, TimePointFacts, TimePointSource


class _TrackedScan(BaseModel):
    ct: Path | None
    labelmap: Path


class _TrackedLesion(BaseModel):
    lesion_id: int
    fate: str
    reason: str = ""
    point_source: str | None = None
    confidence_mm: float | None = None
    is_flagged: bool = False
    merged_with: list[int] = []


class _TrackedTimePoint(BaseModel):
    name: str
    when: str = ""
    scans: dict[Slot, _TrackedScan]
    lesions: list[_TrackedLesion]


class _Tracking(BaseModel):
    patient: str
    is_whole: bool = True
    time_points: list[_TrackedTimePoint] = Field(min_length=1)
    warnings: list[str] = []


class _RunPoint(BaseModel):
    source: str
    confidence_mm: float | None = None
    is_flagged: bool = False


class _RunFold(BaseModel):
    fold: int | str


class _RunLesion(BaseModel):
    lesion_id: int
    status: str
    message: str | None = None
    followup: _RunPoint | None = None
    odd_fold: _RunFold | None = None
    folds: FoldSpread | None = None


class _Run(BaseModel):
    lesions: list[_RunLesion] | None
    warnings: list[str] = []


def tracked_patients(folder: Path) -> list[PatientSource]:
    """Find the patients in the output folder of `track`, or the one whose folder it is.

    Raises:
        InputError: there is no record of a tracked patient, or one cannot be used.
    """
    records = [folder / RECORD_NAME]
    if not is_regular_file(records[0]):
        records = sorted(folder.glob(f"*/{RECORD_NAME}")) if folder.is_dir() else []
    if not records:
        raise InputError(f"{folder}: holds no {RECORD_NAME}; expected a folder that `track` has written")
    return [_tracked_patient(path) for path in records]


def _tracked_patient(path: Path) -> PatientSource:
    document = _validated(path, _Tracking, "the record of a tracked patient")
    warnings = list(document.warnings)
    if not document.is_whole:
        warnings.append(f"{path}: the run has not reached all time points")
    points = tuple(_tracked_time_point(path.parent, point) for point in document.time_points)
    return PatientSource(document.patient, points, tuple(warnings))


def _tracked_time_point(folder: Path, point: _TrackedTimePoint) -> TimePointSource:
    facts = TimePointFacts(
        point.name,
        date_in(point.when),
        unjudged((lesion.lesion_id, lesion.fate, lesion.reason) for lesion in point.lesions),
        {
            lesion.lesion_id: PromptFacts(lesion.point_source, lesion.confidence_mm, lesion.is_flagged)
            for lesion in point.lesions
            if lesion.point_source is not None
        },
        {
            lesion.lesion_id: merged_flags(lesion.merged_with)
            for lesion in point.lesions
            if lesion.merged_with
        },
        frozenset(
            tuple(sorted({lesion.lesion_id, *lesion.merged_with}))
            for lesion in point.lesions
            if lesion.merged_with
        ),
    )
    scans = []
    for slot, scan in point.scans.items():
        if scan.ct is None:
            return TimePointSource(facts, (), f"{folder / RECORD_NAME}: names no CT of {slot}-{point.name}")
        # Paths are as the run was given them, relative to its working folder.
        ct = scan.ct if is_regular_file(scan.ct) else folder / scan.ct
        scans.append(ScanToMeasure(slot, ct, (folder / scan.labelmap,)))
    return TimePointSource(facts, tuple(scans))


def segmented_case(input_dir: Path, output_dir: Path, extras_dir: Path | None) -> PatientSource:
    """Find the labelmaps of a case that `segment` has segmented.

    Args:
        input_dir: the case.
        output_dir: folder of the labelmaps.
        extras_dir: folder of run.json, which says what lesions without voxels are, and of segmented
            baselines; None without one.

    Raises:
        InputError: the folders cannot be used.
    """
    files = discover(input_dir, needs_masks=False)
    warnings = list(files.warnings)
    lesions: list[_RunLesion] = []
    if extras_dir is not None:
        run = _validated(run_file(extras_dir), _Run, "the record of a run")
        lesions = run.lesions or []
        warnings = list(dict.fromkeys([*warnings, *run.warnings]))
    else:
        warnings.append(
            "without the folder of --extras, a lesion that could not be segmented looks as if it had vanished"
        )
    baseline = [_baseline_source(scan, extras_dir) for scan in files.baseline]
    known = tuple(scan for scan in baseline if scan is not None)
    failure = None if known else f"{input_dir}: has no lesion mask of the baseline; expected one"
    followup = tuple(
        ScanToMeasure(scan.slot, scan.ct, (output_path(output_dir, scan.slot),)) for scan in files.followup
    )
    return PatientSource(
        input_dir.resolve().name,
        (
            TimePointSource(TimePointFacts(TimePointName.BASELINE), known, failure),
            TimePointSource(_run_facts(lesions), followup),
        ),
        tuple(warnings),
    )


def _baseline_source(scan: ScanFiles, extras_dir: Path | None) -> ScanToMeasure | None:
    """A baseline with its mask, and with the lesions that the run has segmented beside it."""
    labelmaps = [scan.mask] if scan.mask is not None else []
    if extras_dir is not None:
        segmented = extras_dir / baseline_file(scan.slot, TimePointName.BASELINE)
        labelmaps += [segmented] if is_regular_file(segmented) else []
    return ScanToMeasure(scan.slot, scan.ct, tuple(labelmaps)) if labelmaps else None


def _run_facts(lesions: Iterable[_RunLesion]) -> TimePointFacts:
    lesions = list(lesions)
    return TimePointFacts(
        TimePointName.FOLLOWUP,
        unknown=unjudged((lesion.lesion_id, lesion.status, lesion.message or "") for lesion in lesions),
        prompts={
            lesion.lesion_id: PromptFacts(
                lesion.followup.source, lesion.followup.confidence_mm, lesion.followup.is_flagged
            )
            for lesion in lesions
            if lesion.followup is not None
        },
        flags={
            lesion.lesion_id: odd_fold_flags(lesion.odd_fold.fold)
            for lesion in lesions
            if lesion.odd_fold is not None
        }
        | {
            lesion.lesion_id: NOT_PREDICTED_FLAGS
            for lesion in lesions
            if lesion.status == LesionStatus.PROPAGATED
        },
        folds={lesion.lesion_id: lesion.folds for lesion in lesions if lesion.folds is not None},
    )


NOT_PREDICTED_FLAGS = ("check: not predicted in time, measured on its baseline mask at its point",)
"""Flags of a lesion that a run with a time budget has not predicted."""


def merged_flags(others: Sequence[int]) -> tuple[str, ...]:
    """Flags of a lesion that has merged with others: its voxels are only its share of the mass."""
    if not others:
        return ()
    return (f"check: merged with {', '.join(map(str, others))}, measured without them",)


def odd_fold_flags(fold: int | str) -> tuple[str, ...]:
    """Flags of a lesion on which a fold of the ensemble disagrees with all others."""
    return (f"check: fold {fold} disagrees with all others",)


def unjudged(lesions: Iterable[tuple[int, str, str]]) -> Mapping[int, str]:
    """Why nothing is known of lesions without voxels.

    Only a lesion that has vanished, or whose empty result has no other reason, is known to be absent:
    the voxels of a merged one may belong to another lesion.

    Args:
        lesions: id, fate or status, and reason; a lesion with an entry per scan is unknown if none of them
            says that it is absent.

    Returns:
        Lesion id -> fate and reason.
    """
    unknown: dict[int, str] = {}
    absent = set()
    for lesion_id, fate, reason in lesions:
        if fate == LesionFate.VANISHED or (fate == LesionStatus.EMPTY and not reason):
            absent.add(lesion_id)
        else:
            unknown[lesion_id] = f"{fate}: {reason}" if reason else str(fate)
    return {lesion_id: reason for lesion_id, reason in unknown.items() if lesion_id not in absent}


def _validated(path: Path, kind: type[Any], noun: str) -> Any:
    try:
        return kind.model_validate(read_json(path, noun))
    except ValidationError as error:
        fault: Any = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{path}: {where or 'the document'}: {fault['msg']}; expected {noun}") from error
