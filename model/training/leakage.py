"""Find patients of pretraining or test data that are also in the training data, under any name.

Synthetic follow-ups come with the scans that they were generated from. A scan is identified by the file that
it was prepared from, and by its voxels: as both data sets are prepared with one plan, the same scan has the
same voxels however its file was renamed, copied or compressed, and even if the file is gone.
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

_BLOCK = 64  # voxels along each axis of the central block that is hashed to find candidates


@dataclass(frozen=True, eq=False)
class PatientScan:
    """A scan of a patient of one data set.

    Attributes:
        patient_id: name of the patient in that data set.
        scan: its CT.
        image: file of the scan; None if it is stored with the prepared scan.
    """

    patient_id: str
    scan: CTSource
    image: Path | None = None


def stored_scans(folder: Path) -> Iterator[PatientScan]:
    """Iterate over all scans of a prepared data set, including patients without a pair."""
    for scan_folder in sorted((folder / SCANS_FOLDER).glob("*")):
        if read_scan_document(scan_folder) is not None:
            scan = PreparedScan(scan_folder)
            yield PatientScan(scan.patient_id, scan)


def scans_of(folder: Path, pairs: Iterable[ScanPair]) -> tuple[PatientScan, ...]:
    """Collect all scans of the patients that have a pair, including scans that are in no pair.

    Args:
        folder: the prepared data set.
        pairs: its scan pairs.
    """
    all_pairs = tuple(pairs)
    patients = {pair.patient_id for pair in all_pairs}
    scans = {
        scan.scan_id: PatientScan(pair.patient_id, scan)
        for pair in all_pairs
        for scan in (pair.baseline, pair.followup)
    }
    for stored in stored_scans(folder):
        if stored.patient_id in patients:
            scans.setdefault(stored.scan.scan_id, stored)
    return tuple(scans.values())


def shared_patients(data: Iterable[PatientScan], others: Iterable[PatientScan]) -> dict[str, frozenset[str]]:
    """Find the patients of other data that are also patients of a data set.

    Two patients are the same if they share a name, the file of a scan, or the voxels of a scan. A scan that
    was stored with other axis directions is recognised by its file only.

    Args:
        data: scans of the data set.
        others: scans of the other data.

    Returns:
        Name of each shared patient in the other data -> names in the data set.

    Raises:
        InputError: a prepared scan cannot be read.
    """
    own, other_scans = tuple(data), tuple(others)
    names = {one.patient_id for one in own}
    shapes = {one.scan.shape_zyx for one in other_scans}
    by_file: dict[Path, set[str]] = {}
    by_fingerprint: dict[tuple[Index, str], list[PatientScan]] = {}
    for one in own:
        if (file := _source_file(one)) is not None:
            by_file.setdefault(file, set()).add(one.patient_id)
        if one.scan.shape_zyx in shapes:
            by_fingerprint.setdefault(_fingerprint(one.scan), []).append(one)
    shared: dict[str, set[str]] = {}
    for other in other_scans:
        same = {other.patient_id} & names
        if (file := _source_file(other)) is not None:
            same |= by_file.get(file, set())
        if by_fingerprint:
            candidates = by_fingerprint.get(_fingerprint(other.scan), [])
            same |= {one.patient_id for one in candidates if _has_same_voxels(one.scan, other.scan)}
        shared.setdefault(other.patient_id, set()).update(same)
    return {patient: frozenset(own_names) for patient, own_names in sorted(shared.items()) if own_names}


def excluded_patients(
    shared: Mapping[str, frozenset[str]], validation: Iterable[str]
) -> dict[str, frozenset[str]]:
    """Select the shared patients that a fold is validated on, and that its pretraining must not see.

    Args:
        shared: as returned by `shared_patients`.
        validation: names of the fold's validation patients in the data set.

    Returns:
        Name in the pretraining data -> names among the validation patients.
    """
    held_out = frozenset(validation)
    return {patient: names & held_out for patient, names in shared.items() if names & held_out}


def overlap_line(shared: Mapping[str, frozenset[str]], excluded: Mapping[str, frozenset[str]]) -> str:
    """Describe in one line which patients are excluded from a fold's pretraining.

    Args:
        shared: as returned by `shared_patients`.
        excluded: as returned by `excluded_patients`.
    """
    if not shared:
        return "pretraining shares no patient with the data"
    if not excluded:
        return (
            f"pretraining excludes no patient: the fold is validated on none of the {len(shared)} that it "
            "shares with the data"
        )
    listed = (
        patient if patient in names else f"{patient} (a scan of {', '.join(sorted(names))})"
        for patient, names in excluded.items()
    )
    return f"pretraining excludes {', '.join(listed)}, on whom the fold is validated"


def _source_file(one: PatientScan) -> Path | None:
    """The file that a scan was prepared from; None if it is not recorded."""
    if one.image is not None:
        return one.image.resolve()
    image = one.scan.document.image if isinstance(one.scan, PreparedScan) else None
    return image.resolve() if image is not None else None


def _fingerprint(scan: CTSource) -> tuple[Index, str]:
    """Shape and hash of the central block, which few different scans have in common."""
    low = [max(0, (size - _BLOCK) // 2) for size in scan.shape_zyx]
    high = [size - start for size, start in zip(scan.shape_zyx, low, strict=True)]
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return scan.shape_zyx, digest([np.ascontiguousarray(scan.read_ct(box)).tobytes()])


def _has_same_voxels(one: CTSource, other: CTSource) -> bool:
    """True if two scans of one shape are equal; central blocks of air are often equal in different scans."""
    return all(np.array_equal(one.read_ct(slab), other.read_ct(slab)) for slab in _slabs(one.shape_zyx))


def _slabs(shape: Index) -> Iterator[Box]:
    for start in range(0, shape[0], _BLOCK):
        yield Box((start, 0, 0), (min(start + _BLOCK, shape[0]), shape[1], shape[2]))
