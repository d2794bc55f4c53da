"""Labelmaps to measure: pairs of files, and series of time points with masks."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..case.case import Slot, TimePointName
from ..errors import InputError
from ..tracking.discovery import discover_series
from ..tracking.series_files import PatientFiles, TimePointFiles
from .scan_measures import ScanToMeasure, TimePointFacts, TimePointSource

NO_DATE = "-"


@dataclass(frozen=True, slots=True)
class PatientSource:
    """The time points of a patient, in order of time, and warnings about its files."""

    patient: str
    time_points: tuple[TimePointSource, ...]
    warnings: tuple[str, ...] = ()


def listed_pairs(
    patient: str, scans: Sequence[Path], labelmaps: Sequence[Path], dates: Sequence[str]
) -> PatientSource:
    """Make a patient of CTs and labelmaps, one pair per time point.

    Args:
        patient: name of the patient.
        scans: CTs, the baseline first.
        labelmaps: of lesion ids, one per CT in the same order.
        dates: of each CT, as 2024-03-31, 20240331 or - if it is not known; none at all if there are none. If
            all are known they give the order.

    Raises:
        InputError: the lists are of different lengths, or a date cannot be used.
    """
    if not scans or len(scans) != len(labelmaps):
        raise InputError(
            f"--labelmap: {len(labelmaps)} for {len(scans)} of --scan; expected one labelmap for each scan, "
            "and at least one"
        )
    if dates and len(dates) != len(scans):
        raise InputError(f"--dates: {len(dates)} for {len(scans)} scans; expected one for each scan")
    days = [_given_date(text) for text in dates] or [None] * len(scans)
    order, warnings = list(range(len(scans))), []
    if None not in days:
        order.sort(key=lambda number: days[number] or datetime.date.min)
    if order != sorted(order):
        warnings.append("--dates: are not in order of time; the time points are sorted by date")
    points = [
        TimePointSource(
            TimePointFacts(_name(place), days[number]),
            (ScanToMeasure(Slot.PRIMARY, scans[number], (labelmaps[number],)),),
        )
        for place, number in enumerate(order)
    ]
    return PatientSource(patient, tuple(points), tuple(warnings))


def _name(place: int) -> str:
    return f"{TimePointName.FOLLOWUP}-{place}" if place else str(TimePointName.BASELINE)


def _given_date(text: str) -> datetime.date | None:
    if text == NO_DATE:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"--dates: {text!r} is no date; expected 2024-03-31, 20240331, or {NO_DATE} if it is not known"
        ) from error


def series_with_masks(path: Path) -> list[PatientSource]:
    """Find the patients of a series, a manifest or folder as for `track`, whose masks are to be measured.

    Raises:
        InputError: it cannot be used.
    """
    return [_series_patient(files) for files in discover_series(path)]


def _series_patient(files: PatientFiles) -> PatientSource:
    return PatientSource(files.patient, tuple(_series_time_point(point) for point in files.time_points))


def _series_time_point(point: TimePointFiles) -> TimePointSource:
    facts = TimePointFacts(point.name, date_in(point.when))
    bare = [scan.ct for scan in point.scans if scan.mask is None]
    if bare:
        return TimePointSource(facts, (), f"{bare[0]}: has no mask; expected a labelmap of its lesions")
    scans = [ScanToMeasure(scan.slot, scan.ct, (scan.mask,)) for scan in point.scans if scan.mask is not None]
    return TimePointSource(facts, tuple(scans))


def date_in(when: str) -> datetime.date | None:
    """The date of a time point's position in words; None for "order 3"."""
    try:
        return datetime.date.fromisoformat(when)
    except ValueError:
        return None
