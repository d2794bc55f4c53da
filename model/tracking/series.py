"""A patient's series of time points: its scans and prompts, tracking options, and tracked lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ..case.boxes import boxes_to_scan_grid, read_boxes
from ..case.case import LesionPrompt, LesionResult, Scan, Slot
from ..case.geometry import Array, Box
from ..case.plausibility import PlausibilityNote
from ..case.scans import ClickUnits, read_scans
from ..errors import InputError
from ..inference.options import OverlapRule
from ..prompts.sampling import ChoiceOptions
from ..propagation.confidence import ConfidenceOptions
from ..propagation.pair_registrations import RegistrationRecord
from .fates import FateAssessment, FateOptions
from .series_files import PatientFiles


class Topology(StrEnum):
    """The time point from which a lesion's prompt is propagated."""

    STAR = "star"  # from the source to each other time point
    CHAIN = "chain"  # from the neighbour on the source's side
    RECENTRE = "recentre"  # like CHAIN, from the middle of the neighbour's result
    RECENTRE_MASK = "recentre-mask"  # and the neighbour with its result is the context, not the source

    @property
    def is_recentred(self) -> bool:
        """True if points are moved to the middle of each result."""
        return self in (Topology.RECENTRE, Topology.RECENTRE_MASK)


class PromptKind(StrEnum):
    """The most specific prompt that is propagated: always a point, and a box and a mask if available."""

    POINT = "point"
    BOX = "box"
    MASK = "mask"


class ConfidenceRule(StrEnum):
    """Method to estimate the confidence of a propagated point.

    SPREAD uses the propagation of points nearby and the similarity of the scans. THERE_AND_BACK also uses
    inverse consistency, which needs a second registration in the opposite direction and takes as long again.
    """

    THERE_AND_BACK = "there-and-back"
    SPREAD = "spread"


DEFAULT_CONFIDENCE = ConfidenceRule.THERE_AND_BACK


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """Options of tracking a series. Field names are keys of ``settings`` in ``tracking.json``.

    Attributes:
        previous_mask: the context is the neighbouring scan with its result, as in RECENTRE_MASK; otherwise it
            is the source with its mask.
        prompt: what is propagated beside points, for segmenters that take it.
        choice: how points are chosen from masks; None for the deepest voxel.
        seed: of sampled points.
        overlap: which lesion gets a voxel of several.
        confidence: how the error of a propagated point is estimated.
        confidence_options: parameters of that estimate, and the error from which points are flagged.
    """

    topology: Topology = Topology.STAR
    previous_mask: bool = False
    prompt: PromptKind = PromptKind.MASK
    choice: ChoiceOptions | None = None
    seed: int = 0
    overlap: OverlapRule = "probability"
    fate: FateOptions = field(default_factory=FateOptions)
    confidence: ConfidenceRule = DEFAULT_CONFIDENCE
    confidence_options: ConfidenceOptions = field(default_factory=ConfidenceOptions)

    @property
    def uses_previous(self) -> bool:
        """True if the context is the neighbouring scan with its result."""
        return self.previous_mask or self.topology is Topology.RECENTRE_MASK


@dataclass(frozen=True, eq=False)
class SeriesTimePoint:
    """One time point.

    Attributes:
        scans: primary scan first.
        boxes: slot -> lesion id -> given box, in voxels of the scan's axial grid.
        when: position in time in words, e.g. a date.
    """

    name: str
    scans: tuple[Scan, ...]
    boxes: Mapping[Slot, Mapping[int, Box]] = field(default_factory=dict)
    when: str = ""

    def box_of(self, scan: Scan, lesion_id: int) -> Box | None:
        """The box given for a lesion on a scan.

        Args:
            scan: a scan of this time point.

        Returns:
            In voxels of the scan's axial grid, half-open; None if no box was given.
        """
        return self.boxes.get(scan.slot, {}).get(lesion_id)

    @property
    def has_mask(self) -> bool:
        """True if a mask of its scans contains a lesion."""
        return any(scan.mask is not None and bool(scan.mask.any()) for scan in self.scans)

    @property
    def has_prompts(self) -> bool:
        """True if it has clicks or boxes."""
        return any(scan.clicks for scan in self.scans) or any(map(bool, self.boxes.values()))


@dataclass(frozen=True, eq=False)
class Series:
    """A patient's time points, earliest first; ``source`` is the index of the one to start from."""

    patient: str
    time_points: tuple[SeriesTimePoint, ...]
    source: int = 0
    warnings: tuple[str, ...] = ()


def read_series(files: PatientFiles, source: str | None = None, units: ClickUnits = "voxel") -> Series:
    """Read all scans, clicks and boxes of a patient.

    Args:
        source: name of the time point to start from; None for the earliest one with a mask, otherwise the
            earliest with a click or box.
        units: of clicks and boxes: voxel indices of their scan's file (x, y, z), or world (LPS mm).

    Raises:
        InputError: a file cannot be used, there is no such time point, or the patient has no prompt.
    """
    scan_files = [(point.name, scan) for point in files.time_points for scan in point.scans]
    scans, warnings = read_scans(scan_files, units)
    time_points = []
    for point in files.time_points:
        own_scans = tuple(scan for scan in scans if scan.time_point == point.name)
        boxes = {
            scan.slot: boxes_to_scan_grid(read_boxes(point.boxes[scan.slot]), scan, units)
            for scan in own_scans
            if scan.slot in point.boxes
        }
        time_points.append(SeriesTimePoint(point.name, own_scans, boxes, point.when))
    return Series(
        files.patient, tuple(time_points), _source_index(files.patient, time_points, source), tuple(warnings)
    )


def make_series(patient: str, scans: Sequence[Scan], source: str | None = None) -> Series:
    """Make a series of scans in memory.

    Args:
        patient: name of the patient.
        scans: one per time point, the earliest first, with names of time points that differ.
        source: name of the time point to start from; None as in `read_series`.

    Raises:
        InputError: there is no such time point, or no scan has a lesion.
    """
    time_points = [SeriesTimePoint(scan.time_point, (scan,)) for scan in scans]
    return Series(patient, tuple(time_points), _source_index(patient, time_points, source))


def _source_index(patient: str, time_points: list[SeriesTimePoint], name: str | None) -> int:
    if name is not None:
        names = [point.name for point in time_points]
        if name not in names:
            raise InputError(
                f"patient {patient!r} has no time point {name!r}; expected one of {', '.join(names)}"
            )
        return names.index(name)
    candidates = [index for index, point in enumerate(time_points) if point.has_mask]
    candidates += [index for index, point in enumerate(time_points) if point.has_prompts]
    if candidates:
        return candidates[0]
    raise InputError(
        f"patient {patient!r} has no lesion in any mask, click or box; expected at least one to track"
    )


class PointOrigin(StrEnum):
    """Origin of the point at which a lesion was segmented; ``point_source`` in ``tracking.json``."""

    GIVEN = "given"
    CLIPPED = "clipped"  # given just outside of its scan, moved to the border
    BOX = "box"  # centre of a given box
    MASK = "mask"  # voxel of a given mask, see `PointChooser`
    PROPAGATED = "propagated"


@dataclass(frozen=True, eq=False)
class TrackedLesion:
    """A lesion in one scan of a time point.

    Attributes:
        slot: None if no scan of the time point shows the lesion.
        fate: None at the source.
        origin: origin of the prompt's follow-up point.
        propagated_from: name of the scan from which the point was propagated.
        confidence_mm: estimated error of the point (`model.propagation.confidence`); None for a given point.
        in_view: False if the point was moved to the border of its scan.
        has_given_box: the prompt's box was given at this time point.
        volume_ml: volume of the lesion in the labelmap; None if it could not be segmented.
    """

    lesion_id: int
    slot: Slot | None
    fate: FateAssessment | None
    prompt: LesionPrompt | None = None
    origin: PointOrigin | None = None
    propagated_from: str | None = None
    confidence_mm: float | None = None
    is_flagged: bool = False
    in_view: bool = True
    has_given_box: bool = False
    result: LesionResult | None = None
    volume_ml: float | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class TrackedTimePoint:
    """Tracked lesions of a time point.

    Attributes:
        labelmaps: slot -> labelmap of lesion ids, (z, y, x) on the grid of the scan's file.
        registrations: made for this time point.
        notes: doubts about its scans and their registrations; their sentences are among the warnings.
    """

    time_point: SeriesTimePoint
    labelmaps: Mapping[Slot, Array]
    lesions: tuple[TrackedLesion, ...]
    registrations: tuple[RegistrationRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[PlausibilityNote, ...] = ()

    @property
    def name(self) -> str:
        return self.time_point.name

    def lesion(self, lesion_id: int, slot: Slot | None = Slot.PRIMARY) -> TrackedLesion:
        """Find a lesion by id and slot; raises StopIteration if it is unknown."""
        return next(lesion for lesion in self.lesions if (lesion.lesion_id, lesion.slot) == (lesion_id, slot))


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """Tracked time points of a series, earliest first."""

    series: Series
    time_points: tuple[TrackedTimePoint, ...]

    def at(self, name: str) -> TrackedTimePoint:
        """Find a time point by name; raises StopIteration if it is unknown."""
        return next(point for point in self.time_points if point.name == name)
