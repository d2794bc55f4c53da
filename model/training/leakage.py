"""Whether data of a pretraining, or of a test, show patients of a data set, whatever they are called there.

Synthetic follow-ups come with the scans that they were made from. A scan is known by the file that it was
prepared from, and under any other file by its voxels: both data sets are prepared by one plan, so that the
same scan has the same ones, however its file was named, copied or packed, and when it is gone as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..case.geometry import Box, Index
from ..data.provenance import digest
from ..data.store import SCANS_FOLDER, PreparedScan, read_scan_document
from .data_source import CTSource, ScanPair

_BLOCK = 64  # voxels along an axis that are read of a scan to look for others like it


@dataclass(frozen=True, eq=False)
class PatientScan:
    """A scan and the name of its patient in one data set. ``image``: its file, if the scan does not say."""

    patient_id: str
    scan: CTSource
    image: Path | None = None


def stored_scans(folder: Path) -> Iterator[PatientScan]:
    """All scans of a prepared data set, also of patients without a pair."""
    for place in sorted((folder / SCANS_FOLDER).glob("*")):
        if read_scan_document(place) is not None:
            scan = PreparedScan(place)
            yield PatientScan(scan.patient_id, scan)


def scans_of(folder: Path, pairs: Iterable[ScanPair]) -> tuple[PatientScan, ...]:
    """All scans of the patients who have a pair, also those of them that are in none."""
    known = tuple(pairs)
    patients = {pair.patient_id for pair in known}
    found = {
        scan.scan_id: PatientScan(pair.patient_id, scan)
        for pair in known
        for scan in (pair.baseline, pair.followup)
    }
    for one in stored_scans(folder):
        if one.patient_id in patients:
            found.setdefault(one.scan.scan_id, one)
    return tuple(found.values())


def shared_patients(data: Iterable[PatientScan], others: Iterable[PatientScan]) -> dict[str, frozenset[str]]:
    """The patients of other data who are patients of the data set, with their names there.

    They have the name of one, a scan from the same file, or a scan with the same voxels. A scan that was
    turned to other axis signs is known by its file alone.

    Raises:
        InputError: a prepared scan cannot be read.
    """
    own, asked = tuple(data), tuple(others)
    names = {one.patient_id for one in own}
    shapes = {one.scan.shape_zyx for one in asked}
    files: dict[Path, set[str]] = {}
    prints: dict[tuple[Index, str], list[PatientScan]] = {}
    for one in own:
        if (file := _file(one)) is not None:
            files.setdefault(file, set()).add(one.patient_id)
        if one.scan.shape_zyx in shapes:
            prints.setdefault(_print(one.scan), []).append(one)
    shared: dict[str, set[str]] = {}
    for other in asked:
        same = {other.patient_id} & names
        if (file := _file(other)) is not None:
            same |= files.get(file, set())
        if prints:
            alike = prints.get(_print(other.scan), [])
            same |= {one.patient_id for one in alike if _has_voxels_of(one.scan, other.scan)}
        shared.setdefault(other.patient_id, set()).update(same)
    return {patient: frozenset(known) for patient, known in sorted(shared.items()) if known}


def excluded_patients(
    shared: Mapping[str, frozenset[str]], validation: Iterable[str]
) -> dict[str, frozenset[str]]:
    """The patients of pretraining data whom a fold is validated on, with their names in the data set."""
    held = frozenset(validation)
    return {patient: known & held for patient, known in shared.items() if known & held}


def overlap_line(shared: Mapping[str, frozenset[str]], left_out: Mapping[str, frozenset[str]]) -> str:
    """Who of the pretraining data is kept out of a fold's pretraining, in one line."""
    if not shared:
        return "pretraining shares no patient with the data"
    if not left_out:
        return (
            f"pretraining keeps nobody out, none of the {len(shared)} patients that the data have too is "
            "held back"
        )
    told = (
        patient if patient in known else f"{patient} (a scan of {', '.join(sorted(known))})"
        for patient, known in left_out.items()
    )
    return f"pretraining keeps out {', '.join(told)}, on whom the fold is validated"


def _file(one: PatientScan) -> Path | None:
    """The file that a scan was prepared from."""
    if one.image is not None:
        return one.image.resolve()
    image = one.scan.document.image if isinstance(one.scan, PreparedScan) else None
    return image.resolve() if image is not None else None


def _print(scan: CTSource) -> tuple[Index, str]:
    """What few scans have in common: the shape, and the voxels round the middle."""
    low = [max(0, (size - _BLOCK) // 2) for size in scan.shape_zyx]
    high = [size - start for size, start in zip(scan.shape_zyx, low, strict=True)]
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return scan.shape_zyx, digest([np.ascontiguousarray(scan.read_ct(box)).tobytes()])


def _has_voxels_of(one: CTSource, other: CTSource) -> bool:
    """Whether two scans of one shape are the same, slab by slab; blocks of air alone may be alike."""
    return all(np.array_equal(one.read_ct(slab), other.read_ct(slab)) for slab in _slabs(one.shape_zyx))


def _slabs(shape: Index) -> Iterator[Box]:
    for start in range(0, shape[0], _BLOCK):
        yield Box((start, 0, 0), (min(start + _BLOCK, shape[0]), shape[1], shape[2]))
