"""Scans to make follow-ups of: found from a manifest or one CT, checked, and read."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..case.atomic_files import shortened_name
from ..case.geometry import Array
from ..case.images import read_geometry, read_image
from ..case.shear import refuse_sheared
from ..case.stored_image import IMAGE_SUFFIXES
from ..case.voxel_checks import lesion_labels
from ..data.dataset import Cohort, RawPair, RawScan
from ..data.formats.manifest import NO_BASELINE, read_manifest
from ..errors import InputError
from .compose_followup import Baseline

_MISSING_HU = -1024.0


@dataclass(frozen=True, slots=True)
class SourceScan:
    """A scan to make follow-ups of; ``labels`` is None if it has no lesions.

    ``links``, ``points`` and ``baseline`` (a time point) are taken from its own manifest, "" or None if
    absent. ``patient_ids`` are the lesion ids of all scans of the patient, empty if this is the only one.
    """

    patient: str
    timepoint: str
    ct: Path
    labels: Path | None
    patient_ids: frozenset[int] = frozenset()
    links: str = ""
    points: Path | None = None
    baseline: str = ""

    @property
    def name(self) -> str:
        """Name of the scan, part of the seed; it has no path, so that data sets may be moved."""
        return f"{self.patient}_{self.timepoint}"

    @property
    def folder(self) -> str:
        """Name of the scan's folder; a checksum is added if characters of the name had to be replaced."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip(".-") or "scan"
        checksum = zlib.crc32(self.name.encode("utf-8", "surrogatepass"))
        return shortened_name(plain if plain == self.name else f"{plain}-{checksum:08x}")


def read_baseline(ct: Path, labels: Path | None) -> Baseline:
    """Read a CT as int16 HU and its labelmap as uint16, with the axes of the files.

    Args:
        ct: the CT.
        labels: its labelmap, or None for a scan without lesions.

    Raises:
        InputError: a file that cannot be used, or a labelmap on another grid.
    """
    image = read_image(ct)
    refuse_sheared(ct, image.geometry)
    if labels is None:
        return Baseline(_int16(image.array), np.zeros(image.array.shape, np.uint16), image.geometry)
    mask = read_image(labels)
    _check_grid(ct, labels)
    return Baseline(_int16(image.array), lesion_labels(labels, mask.array).astype(np.uint16), image.geometry)


def _int16(array: Array) -> Array:
    """Round HU to int16; NaN and infinities become air."""
    if array.dtype == np.int16:
        return array
    result = np.empty(array.shape, np.int16)
    limits = np.iinfo(np.int16)
    for z, plane in enumerate(array):
        values = plane.astype(np.float64)
        values[~np.isfinite(values)] = _MISSING_HU
        result[z] = np.rint(np.clip(values, limits.min, limits.max))
    return result


def find_sources(
    manifest: Path | None, ct: Path | None, labels: Path | None, patient: str | None
) -> tuple[SourceScan, ...]:
    """List the scans of a manifest, or the one given, after a check of their headers.

    Raises:
        InputError: a manifest or header that cannot be used, or a labelmap on another grid than its CT.
    """
    if manifest is not None:
        sources = _of_cohort(manifest, read_manifest(manifest))
    else:
        assert ct is not None
        patient = patient or _stem(ct)
        sources = (SourceScan(patient, "baseline", ct, labels),)
    for source in sources:
        refuse_sheared(source.ct, read_geometry(source.ct))
        if source.labels is not None:
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
        # New lesions must not get the id of a lesion in another scan of the patient.
        if patients.count(scan.patient_id) > 1 and scan.labels is not None:
            taken.setdefault(scan.patient_id, set()).update(_ids(scan.labels))
    return tuple(
        _source(scan, frozenset(taken.get(scan.patient_id, ())), pairs.get(scan.scan_id))
        for scan in sorted(cohort.scans, key=lambda scan: (patients.index(scan.patient_id), scan.order))
    )


def _ids(path: Path) -> set[int]:
    """List the lesion ids of a labelmap; empty if it cannot be used, which is reported when it is read."""
    try:
        labels = lesion_labels(path, read_image(path).array)
    except InputError:
        return set()
    return {int(value) for plane in labels if plane.any() for value in np.unique(plane)} - {0}


def _source(scan: RawScan, patient_ids: frozenset[int], pair: RawPair | None) -> SourceScan:
    """Convert a scan of a manifest; ``pair`` is the pair whose follow-up it is, if any."""
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
