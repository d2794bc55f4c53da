"""From scans and labelmaps, in memory or in files, to the measurements of one time point."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..case.case import Scan, ScanFiles, Slot
from ..case.geometry import Array
from ..case.labelmaps import bounding_box
from ..case.scans import read_scans
from ..errors import ExitCode, LongilesionError, one_line
from ..inference.fold_agreement import FoldSpread
from ..measure.diameters import axial_diameters
from ..measure.lesion_measures import LesionMeasures, measure_lesions
from .findings import MergedMass, PromptFacts, ScanFacts


@dataclass(frozen=True, slots=True)
class MeasuredScan:
    """A scan, the measurements of its lesions by id, and those of merged lesions together."""

    facts: ScanFacts
    lesions: Mapping[int, LesionMeasures]
    masses: tuple[MergedMass, ...] = ()


@dataclass(frozen=True, slots=True)
class TimePointFacts:
    """What is known of a time point beside its voxels.

    Attributes:
        name: of the time point.
        date: None if it is not known.
        unknown: lesion id -> why nothing is known of the lesion if it has no voxel.
        prompts: lesion id -> the point at which it was segmented.
        flags: lesion id -> what to check.
        merged: ids of lesions that have merged with each other.
        folds: lesion id -> agreement of the folds.
    """

    name: str
    date: datetime.date | None = None
    unknown: Mapping[int, str] = field(default_factory=dict)
    prompts: Mapping[int, PromptFacts] = field(default_factory=dict)
    flags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    merged: frozenset[tuple[int, ...]] = frozenset()
    folds: Mapping[int, FoldSpread] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimePointMeasures:
    """The measured scans of a time point; ``failure`` says why there are none."""

    facts: TimePointFacts
    scans: tuple[MeasuredScan, ...]
    failure: str | None = None
    exit_code: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanToMeasure:
    """The files of a scan: its CT, and labelmaps on the same grid, which share no lesion id."""

    slot: Slot
    ct: Path
    labelmaps: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class TimePointSource:
    """A time point whose scans are read from files; ``failure`` says why it has none."""

    facts: TimePointFacts
    scans: tuple[ScanToMeasure, ...]
    failure: str | None = None


def measured_scan(
    scan: Scan, labelmaps: Iterable[Array], merged: Iterable[tuple[int, ...]] = ()
) -> MeasuredScan:
    """Measure the lesions of a scan in memory.

    Args:
        scan: the CT.
        labelmaps: lesion ids (z, y, x) on the scan's axial grid; labelmaps share no id.
        merged: ids of lesions that have merged with each other.
    """
    grid = scan.file_geometry
    facts = ScanFacts(
        slot=str(scan.slot),
        ct=scan.path.name if scan.path is not None else None,
        size_xyz=grid.size_xyz,
        spacing_xyz=grid.spacing_xyz,
        slice_mm=scan.geometry.spacing_zyx[0],
    )
    lesions: dict[int, LesionMeasures] = {}
    masses: list[MergedMass] = []
    for labelmap in labelmaps:
        lesions |= measure_lesions(scan, labelmap)
        masses += _masses(scan, labelmap, merged)
    return MeasuredScan(facts, lesions, tuple(masses))


def _masses(scan: Scan, labelmap: Array, merged: Iterable[tuple[int, ...]]) -> Iterator[MergedMass]:
    """Both diameters of merged lesions as one, where a labelmap holds more than one of them."""
    for ids in merged:
        mask = np.isin(labelmap, ids)
        box = bounding_box(mask)
        if box is None or len(np.unique(labelmap[box.slices][mask[box.slices]])) < 2:
            continue
        axial = axial_diameters(mask[box.slices], scan.geometry.spacing_zyx)
        assert axial is not None  # the box holds voxels
        yield MergedMass(ids, axial.long.length_mm, axial.short.length_mm)


def measure_time_point(source: TimePointSource) -> TimePointMeasures:
    """Read and measure the scans of a time point; a file that cannot be used is its failure."""
    if source.failure is not None:
        return TimePointMeasures(source.facts, (), source.failure, ExitCode.INPUT)
    measured, warnings = [], []
    try:
        for one in source.scans:
            jobs = [(source.facts.name, ScanFiles(one.slot, one.ct, path)) for path in one.labelmaps]
            scans, notes = read_scans(jobs, for_network=False)
            masks = (scan.mask for scan in scans if scan.mask is not None)
            measured.append(measured_scan(scans[0], masks, source.facts.merged))
            warnings += notes
    except LongilesionError as error:
        return TimePointMeasures(source.facts, (), one_line(error), error.exit_code)
    return TimePointMeasures(source.facts, tuple(measured), warnings=tuple(dict.fromkeys(warnings)))


def all_ids(time_points: Sequence[TimePointMeasures]) -> list[int]:
    """Ids of all lesions that any time point shows or names, ascending."""
    ids = {lesion_id for point in time_points for scan in point.scans for lesion_id in scan.lesions}
    return sorted(ids | {lesion_id for point in time_points for lesion_id in point.facts.unknown})
