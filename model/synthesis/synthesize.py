"""Synthetic follow-ups of one scan or of a data set: checked first, in parallel, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..case.geometry import Array
from ..case.images import IMAGE_SUFFIXES, read_geometry, read_image
from ..case.voxel_checks import lesion_labels
from ..data.dataset import Cohort, RawPair, RawScan
from ..data.formats.manifest import NO_BASELINE, read_manifest
from ..data.workers import run_jobs
from ..errors import InputError, OutputError, one_line
from .compose_followup import Baseline, compose_followup
from .followup_files import (
    CT,
    RECORD,
    SourceScan,
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

_MISSING_HU = -1024.0


@dataclass(frozen=True, slots=True)
class SynthesisRequest:
    """What is asked for: ``ct`` and ``labels`` of one scan, or else a ``manifest``.

    ``patient`` is the name of the one scan's patient; None takes that of its file.
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


def synthesize(request: SynthesisRequest) -> Iterator[str]:
    """Make what is not there yet; yields a line for each follow-up, and one at the end.

    Raises:
        InputError: nothing is made where the manifest, a header, or what is in the output folder cannot be
            used, or is of another seed or of other settings. A scan whose voxels cannot be, or a follow-up
            that cannot be made, is told at the end, when all others are made and listed.
        OutputError: a file cannot be written.
    """
    sources = _sources(request)
    _check_folder(request.output)
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
    for job, (record, is_made) in run_jobs(_try, jobs, request.workers, "synthetic follow-ups"):
        if isinstance(record, str):
            faults.append(record)
            continue
        records[job.source.name, job.number] = record
        kept += not is_made
        yield _line(job, record, is_made)
    made = len(records)
    for source in sources:
        records |= _others(request.output, source, records)
    write_followup_tables(request.output, sources, records, earlier)
    yield (
        f"{request.output}: {made} follow-ups of {len(sources)} scans ({kept} were there already); "
        f"{MANIFEST} and {LESIONS} list them"
    )
    if faults:
        raise InputError(f"{faults[0]} ({len(faults)} of {len(jobs)} follow-ups were not made)")


def _others(
    output: Path, source: SourceScan, records: Mapping[tuple[str, int], Any]
) -> dict[tuple[str, int], Any]:
    """The records of a scan's further follow-ups that runs of this version made from the same files."""
    further = {
        number: record
        for number, record in complete_followups(output, source).items()
        if (source.name, number) not in records
    }
    if not further:
        return {}
    same = {"ct": file_checksum(source.ct), "labels": file_checksum(source.labels)}
    return {
        (source.name, number): record
        for number, record in further.items()
        if record.get("version") == VERSION
        and all(record["source"].get(name) == value for name, value in same.items())
    }


def _try(job: _Job) -> tuple[dict[str, Any] | str, bool]:
    """`_make`, or what is wrong with the scan: one of them does not end all others."""
    try:
        return _make(job)
    except InputError as error:
        return one_line(error), False


def _make(job: _Job) -> tuple[dict[str, Any], bool]:
    """One follow-up: its record, and whether it was made now."""
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
    facts = find_scan_lesions(
        baseline.labels, geometry.spacing_zyx, settings.events.merge_max_gap_mm, source.patient_ids
    )
    draw = draw_followup(facts, settings, job.seed, source.name, job.number)
    followup = compose_followup(baseline, facts, draw, settings)
    lesions = lesion_records(facts, draw, followup, geometry)
    (folder / RECORD).unlink(missing_ok=True)  # of an earlier version, or spoilt: not whole from here on
    files = write_followup(folder, followup, lesions, geometry)
    record = record_document(draw, settings, followup, lesions, sources, files)
    write_record(folder, record)
    return record, True


def read_baseline(ct: Path, labels: Path | None) -> Baseline:
    """A CT as int16 HU and its labelmap as uint16, as the files have their axes.

    Raises:
        InputError: a file that cannot be used, or a labelmap on another grid.
    """
    image = read_image(ct)
    if labels is None:
        return Baseline(_int16(image.array), np.zeros(image.array.shape, np.uint16), image.geometry)
    mask = read_image(labels)
    _check_grid(ct, labels)
    return Baseline(_int16(image.array), lesion_labels(labels, mask.array).astype(np.uint16), image.geometry)


def _int16(array: Array) -> Array:
    """HU, rounded; NaN and infinities become air."""
    if array.dtype == np.int16:
        return array
    result = np.empty(array.shape, np.int16)
    limits = np.iinfo(np.int16)
    for z, plane in enumerate(array):
        values = plane.astype(np.float64)
        values[~np.isfinite(values)] = _MISSING_HU
        result[z] = np.rint(np.clip(values, limits.min, limits.max))
    return result


def _sources(request: SynthesisRequest) -> tuple[SourceScan, ...]:
    """The scans, whose headers are looked at so that nothing fails hours later."""
    if request.manifest is not None:
        sources = _of_cohort(request.manifest, read_manifest(request.manifest))
    else:
        assert request.ct is not None
        patient = request.patient or _stem(request.ct)
        sources = (SourceScan(patient, "baseline", request.ct, request.labels),)
    for source in sources:
        if source.labels is None:
            read_geometry(source.ct)
        else:
            _check_grid(source.ct, source.labels)
    return sources


def _of_cohort(manifest: Path, cohort: Cohort) -> tuple[SourceScan, ...]:
    if cohort.problems:
        first = cohort.problems[0]
        raise InputError(f"{first.file}: {first.text} ({len(cohort.problems)} such rows); expected none")
    pairs = {pair.followup: pair for pair in cohort.pairs}
    taken: dict[str, set[int]] = {}
    patients = [scan.patient_id for scan in cohort.scans]
    for scan in cohort.scans:
        # New lesions must not get the id of another scan's lesion.
        if patients.count(scan.patient_id) > 1 and scan.labels is not None:
            taken.setdefault(scan.patient_id, set()).update(_ids(scan.labels))
    return tuple(
        _source(scan, frozenset(taken.get(scan.patient_id, ())), pairs.get(scan.scan_id))
        for scan in sorted(cohort.scans, key=lambda scan: (patients.index(scan.patient_id), scan.order))
    )


def _ids(path: Path) -> set[int]:
    """The lesion ids of a labelmap; none where it cannot be used, which is told when its turn comes."""
    try:
        labels = lesion_labels(path, read_image(path).array)
    except InputError:
        return set()
    return {int(value) for plane in labels if plane.any() for value in np.unique(plane)} - {0}


def _source(scan: RawScan, patient_ids: frozenset[int], pair: RawPair | None) -> SourceScan:
    """A scan of a manifest; ``pair`` is the one that it is the follow-up of."""
    links = "; ".join(f"{key}>{'+'.join(map(str, ids))}" for key, ids in pair.renamed) if pair else ""
    before = f"{scan.patient_id}_"
    return SourceScan(
        scan.patient_id,
        scan.scan_id.removeprefix(before),
        scan.image,
        scan.labels,
        patient_ids,
        links,
        scan.points,
        pair.baseline.removeprefix(before) if pair else NO_BASELINE,
    )


def _stem(path: Path) -> str:
    name = path.name
    suffix = next((s for s in sorted(IMAGE_SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), "")
    return name.removesuffix(name[len(name) - len(suffix) :]) if suffix else path.stem


def _check_grid(ct: Path, labels: Path) -> None:
    grid, of_labels = read_geometry(ct), read_geometry(labels)
    if not of_labels.same_grid(grid):
        raise InputError(
            f"{labels}: lies on another grid than its CT {ct.name}: {of_labels.describe()}; "
            f"expected {grid.describe()}"
        )


def _check_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made ({error.strerror}); expected a folder") from error


def _line(job: _Job, record: dict[str, Any], is_made: bool) -> str:
    fates: dict[str, int] = {}
    for lesion in record["lesions"]:
        fates[lesion["fate"]] = fates.get(lesion["fate"], 0) + 1
    shown = ", ".join(f"{count} {fate}" for fate, count in fates.items()) or "no lesion"
    folder = followup_folder(job.output, job.source, job.number)
    return f"{folder / CT}: {shown}" + ("" if is_made else " (was there)")
