"""Synthetic follow-ups of one scan or of a data set: checked first, in parallel, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...case.geometry import Array
from ...case.images import IMAGE_SUFFIXES, read_geometry, read_image
from ...case.scans import lesion_labels
from ...errors import InputError, OutputError
from ..cohort import Cohort, Pair, RawScan
from ..manifest import read_manifest
from ..parallel import each
from .compose import Baseline, compose
from .draw import draw_followup
from .facts import scan_facts
from .output import (
    CT,
    LESIONS,
    MANIFEST,
    RECORD,
    Source,
    fingerprint,
    finished_record,
    followup_folder,
    write_followup,
    write_record,
    write_tables,
)
from .record import VERSION, document, lesion_records
from .settings import SynthesisSettings

_MISSING_HU = -1024.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: ``ct`` and ``labels`` of one scan, or else a ``manifest``."""

    ct: Path | None
    labels: Path | None
    manifest: Path | None
    output: Path
    seed: int
    count: int
    workers: int
    settings: SynthesisSettings


@dataclass(frozen=True, slots=True)
class _Job:
    source: Source
    number: int
    output: Path
    seed: int
    settings: SynthesisSettings


def synthesize(request: Request) -> Iterator[str]:
    """Make what is not there yet; yields a line for each follow-up, and one at the end.

    Raises:
        InputError: a scan that cannot be used; nothing is made then.
        OutputError: a file cannot be written.
    """
    sources = _sources(request)
    _check_folder(request.output)
    jobs = [
        _Job(source, number, request.output, request.seed, request.settings)
        for source in sources
        for number in range(1, request.count + 1)
    ]
    records: dict[tuple[str, int], Any] = {}
    kept = 0
    for job, (record, is_made) in each(_make, jobs, request.workers, "synthetic follow-ups"):
        records[job.source.name, job.number] = record
        kept += not is_made
        yield _line(job, record, is_made)
    write_tables(request.output, sources, records)
    yield (
        f"{request.output}: {len(jobs)} follow-ups of {len(sources)} scans ({kept} were there already); "
        f"{MANIFEST} and {LESIONS} list them"
    )


def _make(job: _Job) -> tuple[dict[str, Any], bool]:
    """One follow-up: its record, and whether it was made now."""
    source, settings = job.source, job.settings
    folder = followup_folder(job.output, source, job.number)
    sources = {"ct": fingerprint(source.ct), "labels": fingerprint(source.labels), "number": job.number,
               "highest_id": source.highest_id}  # fmt: skip
    if record := finished_record(folder, job.seed, settings, sources, VERSION):
        return record, False
    baseline = read_baseline(source.ct, source.labels)
    geometry = baseline.geometry
    facts = scan_facts(
        baseline.labels, geometry.spacing_zyx, settings.events.merge_max_gap_mm, source.highest_id
    )
    draw = draw_followup(facts, settings, job.seed, source.name, job.number)
    followup = compose(baseline, facts, draw, settings)
    lesions = lesion_records(facts, draw, followup, geometry)
    (folder / RECORD).unlink(missing_ok=True)  # of other settings: not whole from here on
    files = write_followup(folder, followup, geometry)
    record = document(draw, settings, followup, lesions, sources, files)
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


def _sources(request: Request) -> tuple[Source, ...]:
    """The scans, whose headers are looked at so that nothing fails hours later."""
    if request.manifest is not None:
        sources = _of_cohort(request.manifest, read_manifest(request.manifest))
    else:
        assert request.ct is not None
        sources = (Source(_stem(request.ct), "baseline", request.ct, request.labels),)
    for source in sources:
        if source.labels is None:
            read_geometry(source.ct)
        else:
            _check_grid(source.ct, source.labels)
    return sources


def _of_cohort(manifest: Path, cohort: Cohort) -> tuple[Source, ...]:
    if cohort.problems:
        first = cohort.problems[0]
        raise InputError(f"{first.file}: {first.text} ({len(cohort.problems)} such rows); expected none")
    pairs = {pair.followup: pair for pair in cohort.pairs}
    highest: dict[str, int] = {}
    patients = [scan.patient_id for scan in cohort.scans]
    for scan in cohort.scans:
        # New lesions must not get the id of another scan's lesion.
        if patients.count(scan.patient_id) > 1 and scan.labels is not None:
            labels = lesion_labels(scan.labels, read_image(scan.labels).array)
            highest[scan.patient_id] = max(highest.get(scan.patient_id, 0), int(labels.max()))
    return tuple(
        _source(scan, highest.get(scan.patient_id, 0), pairs.get(scan.scan_id))
        for scan in sorted(cohort.scans, key=lambda scan: (patients.index(scan.patient_id), scan.order))
    )


def _source(scan: RawScan, highest_id: int, pair: Pair | None) -> Source:
    """A scan of a manifest; ``pair`` is the one that it is the follow-up of."""
    links = "; ".join(f"{key}>{'+'.join(map(str, ids))}" for key, ids in pair.renamed) if pair else ""
    before = f"{scan.patient_id}_"
    return Source(
        scan.patient_id,
        scan.scan_id.removeprefix(before),
        scan.image,
        scan.labels,
        highest_id,
        links,
        scan.points,
        pair.baseline.removeprefix(before) if pair else "",
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
