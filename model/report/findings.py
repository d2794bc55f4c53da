"""Measurements of patients over time: one finding per lesion and time point.

`measurements.json` is these classes as JSON (`docs/measurements.schema.json`); tables are views of it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import StrEnum

from ..case.geometry import Index, Vector
from ..inference.fold_agreement import FoldSpread
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
        confidence_mm: estimated error in mm of a propagated point; None without one.
        is_flagged: the propagated point is doubtful.
    """

    source: str
    confidence_mm: float | None = None
    is_flagged: bool = False


class LesionRole(StrEnum):
    """What a lesion is for the response."""

    TARGET = "target"
    NON_TARGET = "non-target"
    NEW = "new"  # the baseline does not show it
    UNKNOWN = "unknown"  # it was unknown at the baseline


class ResponseVerdict(StrEnum):
    """Response at a time point; those with an i are of iRECIST."""

    CR = "CR"
    PR = "PR"
    SD = "SD"
    PD = "PD"
    NE = "NE"
    NON_CR_NON_PD = "non-CR/non-PD"  # of non-targets, or without targets: neither gone nor progressing
    ICR = "iCR"
    IPR = "iPR"
    ISD = "iSD"
    IUPD = "iUPD"
    ICPD = "iCPD"
    I_NON_CR_NON_PD = "non-iCR/non-iUPD"


@dataclass(frozen=True, slots=True)
class Change:
    """Change of a lesion since an earlier time point.

    Attributes:
        since: name of the earlier time point.
        days: between both; None if a date is not known.
        volume_ml: later volume minus the earlier one.
        volume_percent: of the earlier volume; None from 0.
        long_mm: change of the longest axial diameter.
        long_percent: of the earlier diameter; None from 0.
        ml_per_day: None without days.
        doubling_days: in which the volume doubles by this growth, negative if it halves; None without days,
            from or to 0, or without change.
        repeatability_percent: change of the volume within which repeated scans of a lesion of this size lie
            in 95 % of cases; None if none is published, or if the border of a scan cuts the lesion.
        is_within_repeatability: the change is no larger; None if either is not known.
    """

    since: str
    days: int | None
    volume_ml: float
    volume_percent: float | None
    long_mm: float
    long_percent: float | None
    ml_per_day: float | None
    doubling_days: float | None
    repeatability_percent: float | None
    is_within_repeatability: bool | None


@dataclass(frozen=True, slots=True)
class MergedMass:
    """Lesions that have merged, measured as one: ids, and both axial diameters in mm."""

    ids: tuple[int, ...]
    long_mm: float
    short_mm: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesion at one time point.

    Attributes:
        scan: slot of the scan on which it was measured; None without measures.
        reason: why the state is unknown; None otherwise.
        flags: what to check, each a sentence.
        folds: None if they are not known.
        mass: of a lesion that has merged with others, all of them as one.
        from_baseline: change since the first time point; None there, or if either is unknown.
        from_nadir: change since the earlier time point with the smallest volume.
    """

    time_point: str
    state: FindingState
    scan: str | None = None
    reason: str | None = None
    measures: LesionMeasures | None = None
    prompt: PromptFacts | None = None
    flags: tuple[str, ...] = ()
    folds: FoldSpread | None = None
    mass: MergedMass | None = None
    from_baseline: Change | None = None
    from_nadir: Change | None = None

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
    """A lesion at all time points, the earliest first.

    Attributes:
        organ: as given; None if it is not.
        is_node: given as a lymph node.
        kind: as given, any words.
    """

    lesion_id: int
    findings: tuple[Finding, ...]
    role: LesionRole = LesionRole.NON_TARGET
    organ: str | None = None
    is_node: bool = False
    kind: str | None = None


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
class Response:
    """Response at one time point by one table of criteria.

    Attributes:
        sum: of the target lesions' sizes; None if one is unknown.
        baseline_percent: change of the sum against the baseline; None if either is not known.
        nadir: smallest sum of the earlier time points.
        nadir_percent: change of the sum against the nadir.
        target: verdict on the target lesions; None at the baseline and without targets.
        other: verdict on the non-target lesions; None at the baseline and without any.
        new_lesions: ids of the lesions that are there and were absent at the baseline.
        new_sum: of their sizes.
        overall: None at the baseline.
        reason: of the verdict, in a sentence.
    """

    time_point: str
    sum: float | None
    baseline_percent: float | None = None
    nadir: float | None = None
    nadir_percent: float | None = None
    target: ResponseVerdict | None = None
    other: ResponseVerdict | None = None
    new_lesions: tuple[int, ...] = ()
    new_sum: float = 0.0
    overall: ResponseVerdict | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResponseCourse:
    """Responses of a patient at all time points by one table of criteria.

    Attributes:
        criteria: name of the table.
        unit: of sums, mm or ml.
        targets: ids of the target lesions.
        others: ids of the non-target lesions.
        notes: how the targets were chosen.
    """

    criteria: str
    unit: str
    targets: tuple[int, ...]
    others: tuple[int, ...]
    notes: tuple[str, ...]
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True)
class MeasuredPatient:
    """All measurements of one patient; time points are in order, lesions by id."""

    patient: str
    time_points: tuple[MeasuredTimePoint, ...]
    lesions: tuple[FollowedLesion, ...]
    burden: tuple[Burden, ...]
    courses: tuple[ResponseCourse, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurements:
    """The contents of `measurements.json`."""

    format: str
    version: str
    patients: tuple[MeasuredPatient, ...]
