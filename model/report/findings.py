"""Measurements of patients over time: one finding per lesion and time point.

`measurements.json` is these classes as JSON (`docs/measurements.schema.json`); tables are views of it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import StrEnum

from ..case.geometry import Index, Vector
from ..measure.lesion_measures import LesionMeasures

FORMAT = "longilesion-measurements-1"


class FindingState(StrEnum):
    """What is known of a lesion at a time point."""

    MEASURED = "measured"
    ABSENT = "absent"  # no voxel of it: a volume of 0
    UNKNOWN = "unknown"  # not to be judged: failed, out of view, or the time point could not be measured


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """The point at which a lesion was segmented.

    Attributes:
        source: given, clipped, mask, box or propagated.
        confidence_mm: estimated error in mm of a propagated point; None if there is none.
        is_flagged: the propagated point is doubtful.
    """

    source: str
    confidence_mm: float | None = None
    is_flagged: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesion at one time point.

    Attributes:
        scan: slot of the scan on which it was measured; None without measures.
        reason: why the state is unknown; None otherwise.
        flags: what to check, each a sentence.
    """

    time_point: str
    state: FindingState
    scan: str | None = None
    reason: str | None = None
    measures: LesionMeasures | None = None
    prompt: PromptFacts | None = None
    flags: tuple[str, ...] = ()

    @property
    def volume_ml(self) -> float | None:
        """Volume in ml, 0 for an absent lesion, None for an unknown one."""
        if self.state is FindingState.UNKNOWN:
            return None
        return self.measures.volume_ml if self.measures is not None else 0.0

    @property
    def long_mm(self) -> float | None:
        """Longest axial diameter in mm, 0 for an absent lesion, None for an unknown one."""
        if self.state is FindingState.UNKNOWN:
            return None
        return self.measures.axial.long.length_mm if self.measures is not None else 0.0


@dataclass(frozen=True, slots=True)
class FollowedLesion:
    """A lesion at all time points, the earliest first."""

    lesion_id: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """A scan with its labelmap.

    Attributes:
        ct: name of its file; None if it was not read from one.
        size_xyz: voxels of the file.
        spacing_xyz: mm between voxels of the file.
        slice_mm: distance of axial slices in mm.
    """

    slot: str
    ct: str | None
    size_xyz: Index
    spacing_xyz: Vector
    slice_mm: float


@dataclass(frozen=True, slots=True)
class MeasuredTimePoint:
    """A time point of a patient.

    Attributes:
        date: None if it is not known.
        days: since the first time point; None if a date is not known.
        failure: why it could not be measured; None otherwise.
    """

    name: str
    date: datetime.date | None
    days: int | None
    scans: tuple[ScanFacts, ...]
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Burden:
    """All lesions of a time point together.

    Attributes:
        measured: number of lesions with voxels.
        absent: number of lesions that other time points show.
        unknown: ids of the lesions that could not be judged, which the sums lack.
        volume_ml: sum of the volumes.
        long_mm: sum of the longest axial diameters in mm.
    """

    time_point: str
    measured: int
    absent: int
    unknown: tuple[int, ...]
    volume_ml: float
    long_mm: float


@dataclass(frozen=True, slots=True)
class MeasuredPatient:
    """All measurements of one patient; time points are in order, lesions by id."""

    patient: str
    time_points: tuple[MeasuredTimePoint, ...]
    lesions: tuple[FollowedLesion, ...]
    burden: tuple[Burden, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurements:
    """The contents of `measurements.json`."""

    format: str
    version: str
    patients: tuple[MeasuredPatient, ...]
