"""Make synthetic follow-ups of one scan or of a data set: validated first, in parallel, resumable."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..case.atomic_files import remove_partial_files
from ..case.folder_lock import locked_folder
from ..data.workers import run_jobs
from ..errors import InputError, one_line
from .compose_followup import compose_followup
from .followup_files import (
    CT,
    RECORD,
    check_same_origin,
    complete_followups,
    file_checksum,
    finished_record,
    followup_folder,
    write_followup,
    write_record,
)
from .followup_record import VERSION, lesion_records, record_document
from .followup_tables import LESIONS, MANIFEST, read_earlier_rows, write_followup_tables
from .random_draws import draw_followup
from .scan_lesions import find_scan_lesions
from .settings import SynthesisSettings
from .source_scans import SourceScan, find_sources, read_baseline

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SynthesisRequest:
    """Follow-ups to make: of one scan (``ct`` and ``labels``) or of all scans of a ``manifest``.

    ``count`` is per scan. ``patient`` names the patient of the one scan; None takes the name of its file.
    """

    ct: Path | None
    labels: Path | None
    manifest: Path | None
    output: Path
    seed: int
    count: int
    workers: int
    settings: SynthesisSettings
    patient: str | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    source: SourceScan
    number: int
    output: Path
    seed: int
    settings: SynthesisSettings


def synthesize(request: SynthesisRequest) -> None:
    """Make the missing follow-ups; logs a line for each follow-up, and one at the end.

    Raises:
        InputError: before anything is made, if the manifest, a header or the output folder cannot be used, or
            the latter holds follow-ups with another seed or other settings. If a single scan cannot be used
            or a single follow-up cannot be made, at the end, when all others are made and listed.
        OutputError: a file cannot be written, or another run writes into the folder.
    """
    sources = find_sources(request.manifest, request.ct, request.labels, request.patient)
    with locked_folder(request.output):
        _synthesize(request, sources)


def _synthesize(request: SynthesisRequest, sources: Sequence[SourceScan]) -> None:
    earlier = read_earlier_rows(request.output)
    for source in sources:
        check_same_origin(request.output, source, request.seed, request.settings, VERSION)
    jobs = [
        _Job(source, number, request.output, request.seed, request.settings)
        for source in sources
        for number in range(1, request.count + 1)
    ]
    records: dict[tuple[str, int], Any] = {}
    kept = 0
    faults: list[str] = []
    for job, (record, is_new) in run_jobs(_try_followup, jobs, request.workers, "synthetic follow-ups"):
        if isinstance(record, str):
            faults.append(record)
            continue
        records[job.source.name, job.number] = record
        kept += not is_new
        log.info("%s", _line(job, record, is_new))
    made = len(records)
    for source in sources:
        records |= _further_records(request.output, source, records)
    write_followup_tables(request.output, sources, records, earlier)
    log.info(
        "%s: %d follow-ups of %d scans (%d existed already); listed in %s and %s",
        *(request.output, made, len(sources), kept, MANIFEST, LESIONS),
    )
    if faults:
        raise InputError(f"{faults[0]} ({len(faults)} of {len(jobs)} follow-ups were not made)")


def _further_records(
    output: Path, source: SourceScan, records: Mapping[tuple[str, int], Any]
) -> dict[tuple[str, int], Any]:
    """Read the records of a scan's further follow-ups, made by this version from the same files."""
    further = {
        number: record
        for number, record in complete_followups(output, source).items()
        if (source.name, number) not in records
    }
    if not further:
        return {}
    checksums = {"ct": file_checksum(source.ct), "labels": file_checksum(source.labels)}
    return {
        (source.name, number): record
        for number, record in further.items()
        if record.get("version") == VERSION
        and all(record["source"].get(name) == value for name, value in checksums.items())
    }


def _try_followup(job: _Job) -> tuple[dict[str, Any] | str, bool]:
    """Return the result of `_make_followup`, or its error as text: one bad scan does not stop the others."""
    try:
        return _make_followup(job)
    except InputError as error:
        return one_line(error), False


def _make_followup(job: _Job) -> tuple[dict[str, Any], bool]:
    """Make one follow-up unless it is complete; returns its record, and True if it was made now."""
    source, settings = job.source, job.settings
    folder = followup_folder(job.output, source, job.number)
    sources = {
        "ct": file_checksum(source.ct),
        "labels": file_checksum(source.labels),
        "number": job.number,
        "patient_ids": sorted(source.patient_ids),
    }
    if record := finished_record(folder, job.seed, settings, sources, VERSION):
        return record, False
    baseline = read_baseline(source.ct, source.labels)
    geometry = baseline.geometry
    scan = find_scan_lesions(
        baseline.labels, geometry.spacing_zyx, settings.events.merge_max_gap_mm, source.patient_ids
    )
    draw = draw_followup(scan, settings, job.seed, source.name, job.number)
    followup = compose_followup(baseline, scan, draw, settings)
    lesions = lesion_records(scan, draw, followup, geometry)
    remove_partial_files(folder)
    (folder / RECORD).unlink(missing_ok=True)  # of an earlier version, or damaged: incomplete from here on
    files = write_followup(folder, followup, lesions, geometry)
    record = record_document(draw, settings, followup, lesions, sources, files)
    write_record(folder, record)
    return record, True


def _line(job: _Job, record: dict[str, Any], is_new: bool) -> str:
    fates: dict[str, int] = {}
    for lesion in record["lesions"]:
        fates[lesion["fate"]] = fates.get(lesion["fate"], 0) + 1
    shown = ", ".join(f"{count} {fate}" for fate, count in fates.items()) or "no lesion"
    folder = followup_folder(job.output, job.source, job.number)
    return f"{folder / CT}: {shown}" + ("" if is_new else " (existed already)")
