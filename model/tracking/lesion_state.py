"""What goes on from time point to time point of a lesion: its points, its shapes, and its context.

The topologies differ in nothing else: whose point is carried over, and what stands for the baseline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..case.case import LesionPrompt, LesionResult, MaskPrompt, PointSource, PromptPoint, Scan, Slot
from ..case.geometry import Array, Box, Vector
from ..prompts.sampling import Candidates, Probability, choose_points, deepest_point
from ..propagation.shapes import box_anchors
from ..propagation.transfer import TransferredPoint, TransferRequest
from .fates import FateAssessment
from .series import FollowOptions, Origin, PromptKind, SeriesTimePoint, Topology

log = logging.getLogger(__name__)

UnpromptedProbability = Callable[[Scan, Sequence[Vector]], Sequence[float]]


@dataclass(frozen=True, eq=False)
class LesionState:
    """State of a lesion in a segmented scan, from which it is propagated to other time points.

    ``mask``, ``box`` and ``others`` are on the grid of ``scan`` like ``point``; only those that are to be
    propagated are set.

    Attributes:
        scan: the scan as it was read; registrations are distinguished by it.
        point: the lesion's prompt on ``scan``.
        context: the scan that the network gets as the baseline, with its mask.
        context_point: the lesion's point on ``context``.
        has_mask: whether the mask of ``context`` contains the lesion.
        others: further points of the lesion, voxel indices z, y, x.
        doubt_mm: estimated error of ``point``.
    """

    scan: Scan
    point: PromptPoint
    context: Scan
    context_point: PromptPoint
    has_mask: bool
    mask: MaskPrompt | None = None
    box: Box | None = None
    others: tuple[Vector, ...] = ()
    doubt_mm: float = 0.0

    def anchors(self) -> list[Vector]:
        """Points (voxel indices z, y, x) of all shapes, near which a registration is refined."""
        boxes = [shape for shape in (self.box, self.mask.box if self.mask is not None else None) if shape]
        around = {anchor for box in boxes for anchor in box_anchors(box, self.scan.geometry)}
        return [self.point.point_zyx, *self.others, *sorted(around)]

    def request(self, lesion_id: int, target: Scan) -> TransferRequest:
        """Request to propagate the point to another scan."""
        return TransferRequest(lesion_id, self.scan, self.point.point_zyx, target, self.doubt_mm)


@dataclass(frozen=True, eq=False)
class LesionHistory:
    """A lesion on its way: where it was first known, and the last time point that held it, scan by scan."""

    origin: tuple[LesionState, ...]
    latest: tuple[LesionState, ...]

    def point_for(self, scan: Scan, options: FollowOptions) -> LesionState:
        """Whose point is carried into a scan."""
        return for_scan(self.origin if options.topology is Topology.STAR else self.latest, scan)

    def shapes_for(self, scan: Scan, options: FollowOptions) -> LesionState:
        """Whose box, mask and further points are carried into a scan."""
        from_origin = options.topology is Topology.STAR and not options.uses_previous
        return for_scan(self.origin if from_origin else self.latest, scan)

    def context_for(self, scan: Scan, options: FollowOptions) -> LesionState:
        """Whose context is the baseline for a scan."""
        return for_scan(self.latest if options.uses_previous else self.origin, scan)


def for_scan(knowns: Sequence[LesionState], scan: Scan) -> LesionState:
    """Of the scans that know a lesion the one in the same slot, else the first."""
    return next((known for known in knowns if known.scan.slot == scan.slot), knowns[0])


@dataclass(frozen=True, eq=False)
class PromptedLesion:
    """A lesion in one scan of a time point.

    ``known`` is what its context comes from, None where it is seen for the first time. ``mask`` is the mask
    that was given for it there: nothing is to be segmented. ``others`` are further points to ask at. The
    chain goes on from here where it ``holds``.
    """

    prompt: LesionPrompt
    origin: Origin
    known: LesionState | None = None
    mask: MaskPrompt | None = None
    moved: TransferredPoint | None = None
    others: tuple[Vector, ...] = ()
    warnings: tuple[str, ...] = ()
    has_given_box: bool = False

    @property
    def key(self) -> tuple[int, Slot]:
        return self.prompt.lesion_id, self.prompt.followup.slot

    @property
    def holds(self) -> bool:
        return self.moved is None or self.moved.is_reliable

    @property
    def doubt_mm(self) -> float:
        """How far off its point may be; 0 for one that was given."""
        return 0.0 if self.moved is None or self.moved.confidence_mm is None else self.moved.confidence_mm


@dataclass(frozen=True, eq=False)
class SegmentedLesion:
    """What a lesion's asking gave: ``result`` is None where it failed, ``fate`` None at the source."""

    asked: PromptedLesion
    result: LesionResult | None
    fate: FateAssessment | None = None
    seconds: float = 0.0


def go_on(
    trails: Mapping[int, LesionHistory],
    point: SeriesTimePoint,
    answers: Sequence[SegmentedLesion],
    labelmaps: Mapping[Slot, Array],
    choose: PointChooser,
) -> dict[int, LesionHistory]:
    """The trails, laid on to a time point for the lesions that it holds.

    Args:
        labelmaps: what was segmented in each scan, with the axes of its file.
    """
    contexts = {scan.slot: _context(scan, answers, labelmaps[scan.slot]) for scan in point.scans}
    further = dict(trails)
    for lesion_id in dict.fromkeys(answer.asked.prompt.lesion_id for answer in answers):
        mine = [answer for answer in answers if answer.asked.prompt.lesion_id == lesion_id]
        is_first = mine[0].asked.known is None
        held = [answer for answer in mine if is_first or (answer.result is not None and answer.asked.holds)]
        knowns = tuple(
            _known(answer, contexts[answer.asked.key[1]], choose) for answer in _largest_first(held)
        )
        if is_first:
            further[lesion_id] = LesionHistory(knowns, knowns)
        elif knowns:
            further[lesion_id] = replace(trails[lesion_id], latest=knowns)
    return further


@dataclass(frozen=True, eq=False)
class PointChooser:
    """Takes the points that stand for a lesion out of its mask.

    ``unprompted`` says the probability of lesion at points of a scan without any prompt; it is asked where
    ``options.choice`` has a least one.
    """

    options: FollowOptions
    unprompted: UnpromptedProbability | None = None

    def __call__(self, mask: MaskPrompt, scan: Scan, lesion_id: int) -> tuple[Vector, ...]:
        """Voxels of the mask, the first before all others."""
        probability = partial(self.unprompted, scan) if self.unprompted is not None else None
        chosen = self.candidates(mask, scan.geometry.spacing_zyx, lesion_id, scan.ct, probability)
        if chosen.is_fallback:
            log.warning("lesion %d in %s: no sampled point meets the filter, all stay", lesion_id, scan.name)
        return chosen.points

    def candidates(
        self,
        mask: MaskPrompt,
        spacing_zyx: Vector,
        lesion_id: int,
        ct: Array | None = None,
        probability: Probability | None = None,
    ) -> Candidates:
        """Voxels of the mask, best first.

        Args:
            mask: the lesion, on the scan's axial grid.
            spacing_zyx: of that grid, in mm.
            ct: HU (z, y, x) of the scan; only a filter by HU needs it.
            probability: of lesion at points of the scan; only a filter by probability needs it.
        """
        choice = self.options.choice
        if choice is None:
            return Candidates((deepest_point(mask.voxels, mask.box, spacing_zyx),))
        rng = np.random.default_rng([self.options.seed, lesion_id])
        return choose_points(mask, spacing_zyx, choice, rng, ct, probability)


def lesion_voxels(result: LesionResult, labels: Array) -> Array:
    """Where a lesion stands in an axial labelmap, over its result's box."""
    return np.asarray(labels[result.box.slices] == result.prompt.lesion_id)


def _known(answer: SegmentedLesion, context: Scan, choose: PointChooser) -> LesionState:
    """What a lesion's answer in one scan hands on."""
    asked, prompt, options = answer.asked, answer.asked.prompt, choose.options
    found = _mask_in(context, answer.result, prompt.lesion_id)
    point, others, doubt_mm = _points(asked, found, choose)
    if asked.known is None:
        own = LesionState(prompt.followup, point, context, point, found is not None, found)
    elif found is not None and options.uses_previous:
        own = LesionState(prompt.followup, point, context, point, True, found)
    else:
        before = asked.known
        moved = _shifted(prompt.followup_mask, prompt.followup_point.point_zyx, point.point_zyx)
        own = LesionState(
            prompt.followup, point, before.context, before.context_point, before.has_mask, moved
        )
    is_renewed = asked.known is not None and (options.topology.is_recentred or options.uses_previous)
    box = prompt.followup_box
    if found is not None and (is_renewed or box is None):
        box = found.box
    return _pruned(replace(own, box=box, others=others, doubt_mm=doubt_mm), options.prompt)


def _points(
    asked: PromptedLesion, found: MaskPrompt | None, choose: PointChooser
) -> tuple[PromptPoint, tuple[Vector, ...], float]:
    """The point that goes on with its further ones, and how far off it may be."""
    prompt, options = asked.prompt, choose.options
    recentres = options.topology.is_recentred
    point, others, doubt_mm = prompt.followup_point, asked.others, asked.doubt_mm
    is_chosen = asked.origin is Origin.MASK  # its points were taken from this mask already
    if found is None or is_chosen or not (asked.known is None or recentres):
        return point, others, doubt_mm
    candidates = choose(found, prompt.followup, prompt.lesion_id)
    if recentres and asked.mask is None:
        point = PromptPoint(candidates[0], PointSource.PROPAGATED)
        if asked.moved is None or not asked.moved.is_flagged:  # else it may be another lesion that was found
            doubt_mm = 0.0
    if options.choice is not None:
        others = tuple(other for other in candidates if other != point.point_zyx)
    return point, others, doubt_mm


def _shifted(mask: MaskPrompt | None, before_zyx: Vector, after_zyx: Vector) -> MaskPrompt | None:
    """An expected mask that stays round its point, where that was put into the middle of the result."""
    if mask is None:
        return None
    dz, dy, dx = (round(b - a) for a, b in zip(before_zyx, after_zyx, strict=True))
    return MaskPrompt(mask.box.shifted((dz, dy, dx)), mask.voxels)


def _pruned(known: LesionState, kind: PromptKind) -> LesionState:
    """Without the shapes that the segmenter does not take, so that they are not carried."""
    mask = known.mask if kind is PromptKind.MASK else None
    return replace(known, mask=mask, box=None if kind is PromptKind.POINT else known.box)


def _context(scan: Scan, answers: Iterable[SegmentedLesion], labelmap: Array) -> Scan:
    """The scan with what was segmented there as its mask; as it is where all of that was given."""
    mine = [answer for answer in answers if answer.asked.prompt.followup is scan]
    if all(answer.asked.mask is not None for answer in mine):
        return scan
    return replace(scan, mask=scan.axes.array(labelmap))


def _mask_in(context: Scan, result: LesionResult | None, lesion_id: int) -> MaskPrompt | None:
    """What the labelmap of a context holds of a lesion, None for nothing."""
    if result is None or context.mask is None:
        return None
    voxels = lesion_voxels(result, context.mask)
    return MaskPrompt(result.box, voxels) if voxels.any() else None


def _largest_first(answers: Sequence[SegmentedLesion]) -> list[SegmentedLesion]:
    return sorted(
        answers, key=lambda answer: -int(answer.result.mask.sum()) if answer.result is not None else 0
    )
