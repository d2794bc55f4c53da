"""What a series is: one patient's scans in the order of time, what is known of its lesions, and what became
of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..case.boxes import boxes_on_scan, read_boxes
from ..case.case import LesionPrompt, LesionResult, Scan, Slot
from ..case.geometry import Array, Box
from ..case.scans import ClickUnits, read_scans
from ..errors import InputError
from ..inference.options import OverlapRule
from ..prompts.sampling import ChoiceOptions
from ..propagation.confidence import ConfidenceOptions
from ..propagation.pair_registrations import RegistrationRecord
from .fates import FateAssessment, FateOptions
from .series_files import PatientFiles


class Topology(StrEnum):
    """From which time point a lesion's prompt comes.

    STAR: from the source, to each other time point. CHAIN: from the neighbour on the source's side, to which
    it was carried before. RECENTRE: as CHAIN, from the middle of what was segmented there. RECENTRE_MASK: the
    same, and the mask that was segmented there is the context instead of the source's.
    """

    STAR = "star"
    CHAIN = "chain"
    RECENTRE = "recentre"
    RECENTRE_MASK = "recentre-mask"

    @property
    def is_recentred(self) -> bool:
        return self in (Topology.RECENTRE, Topology.RECENTRE_MASK)


class PromptKind(StrEnum):
    """The most telling prompt that is carried along: a point always, a box and a mask where known."""

    POINT = "point"
    BOX = "box"
    MASK = "mask"


class ConfidenceRule(StrEnum):
    """What the confidence of a propagated point is measured by.

    THERE_AND_BACK: also by the way back, through a registration of its own the other way round, which takes
    as long again. SPREAD: by how points near it are carried, and how alike the scans are.
    """

    THERE_AND_BACK = "there-and-back"
    SPREAD = "spread"


DEFAULT_CONFIDENCE = ConfidenceRule.THERE_AND_BACK


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How a series is followed.

    ``previous_mask``: the neighbour's scan with what was segmented there is the context (RECENTRE_MASK means
    it as well); without it the source's is. ``prompt``: what is carried along beside points, for segmenters
    that take it. ``choice``: how points are taken from masks; without it the deepest voxel. ``overlap``: who
    gets a voxel that two lesions claim. ``confidence`` and ``confidence_options``: how far off a propagated
    point may be, and from where on it is flagged.
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
        return self.previous_mask or self.topology is Topology.RECENTRE_MASK


@dataclass(frozen=True, eq=False)
class SeriesTimePoint:
    """One date: its scans (the primary first), and the boxes given on them, on their axial grids."""

    name: str
    scans: tuple[Scan, ...]
    boxes: Mapping[Slot, Mapping[int, Box]] = field(default_factory=dict)
    when: str = ""

    def box_of(self, scan: Scan, lesion_id: int) -> Box | None:
        return self.boxes.get(scan.slot, {}).get(lesion_id)

    @property
    def has_mask(self) -> bool:
        return any(scan.mask is not None and bool(scan.mask.any()) for scan in self.scans)

    @property
    def has_prompts(self) -> bool:
        return any(scan.clicks for scan in self.scans) or any(map(bool, self.boxes.values()))


@dataclass(frozen=True, eq=False)
class Series:
    """A patient's time points, the earliest first; ``source`` is the index of the one to start from."""

    patient: str
    time_points: tuple[SeriesTimePoint, ...]
    source: int = 0
    warnings: tuple[str, ...] = ()


def read_series(files: PatientFiles, source: str | None = None, units: ClickUnits = "voxel") -> Series:
    """Decode all scans of a patient.

    Args:
        source: the time point to start from; without it the earliest with a mask, else with a click or box.
        units: of click points and boxes: voxel indices of their scan, or world (LPS mm).

    Raises:
        InputError: a file that cannot be used, no such time point, or a patient without any prompt.
    """
    jobs = [(point.name, scan) for point in files.time_points for scan in point.scans]
    scans, warnings = read_scans(jobs, units)
    time_points = []
    for point in files.time_points:
        mine = tuple(scan for scan in scans if scan.time_point == point.name)
        boxes = {
            scan.slot: boxes_on_scan(read_boxes(point.boxes[scan.slot]), scan, units)
            for scan in mine
            if scan.slot in point.boxes
        }
        time_points.append(SeriesTimePoint(point.name, mine, boxes, point.when))
    return Series(
        files.patient, tuple(time_points), _source(files.patient, time_points, source), tuple(warnings)
    )


def _source(patient: str, time_points: list[SeriesTimePoint], name: str | None) -> int:
    if name is not None:
        names = [point.name for point in time_points]
        if name not in names:
            raise InputError(
                f"patient {patient!r} has no time point {name!r}; expected one of {', '.join(names)}"
            )
        return names.index(name)
    fit = [index for index, point in enumerate(time_points) if point.has_mask]
    fit += [index for index, point in enumerate(time_points) if point.has_prompts]
    if fit:
        return fit[0]
    raise InputError(
        f"patient {patient!r} has no lesion in any mask, click or box; expected one to be followed"
    )


class Origin(StrEnum):
    """Where the point that a lesion was segmented at comes from."""

    GIVEN = "given"
    CLIPPED = "clipped"  # given just outside of its scan, moved to the border
    BOX = "box"  # middle of a given box
    MASK = "mask"  # the voxel deepest inside of the given mask
    PROPAGATED = "propagated"


@dataclass(frozen=True, eq=False)
class TrackedLesion:
    """What became of a lesion in one scan of a time point, or (without a slot) in none of its scans.

    ``fate`` is None at the source. ``carried_from`` names the scan that a propagated point comes from;
    ``confidence_mm`` how far off it may be (`model.propagation.confidence`), None for a point that was given.
    ``in_view`` is False for a point that was moved to the border of its scan. ``volume_ml`` is what the
    labelmap holds of the lesion, ``has_given_box`` that the prompt's box was given.
    """

    lesion_id: int
    slot: Slot | None
    fate: FateAssessment | None
    prompt: LesionPrompt | None = None
    origin: Origin | None = None
    carried_from: str | None = None
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
    """A time point's answer: a labelmap per scan (z, y, x as its file stores the axes), and its lesions."""

    time_point: SeriesTimePoint
    labelmaps: Mapping[Slot, Array]
    lesions: tuple[TrackedLesion, ...]
    registrations: tuple[RegistrationRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return self.time_point.name

    def lesion(self, lesion_id: int, slot: Slot | None = Slot.PRIMARY) -> TrackedLesion:
        return next(lesion for lesion in self.lesions if (lesion.lesion_id, lesion.slot) == (lesion_id, slot))


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """All time points of a series, the earliest first."""

    series: Series
    time_points: tuple[TrackedTimePoint, ...]

    def at(self, name: str) -> TrackedTimePoint:
        return next(point for point in self.time_points if point.name == name)
