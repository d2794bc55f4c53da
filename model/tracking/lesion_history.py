"""History of a lesion over the time points visited so far, from which its next prompt is made.

The topologies differ only here: in the state whose point is propagated, and in the state whose context is the
baseline of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..case.case import LesionPrompt, LesionResult, MaskPrompt, PointSource, PromptPoint, Scan, Slot
from ..case.geometry import Array, Vector
from ..inference.counterpart import middle_counterpart
from .lesion_state import LesionState, PromptedLesion, SegmentedLesion
from .point_chooser import PointChooser
from .recentring import ChainPoint, radius_of
from .series import PointOrigin, PromptKind, SeriesTimePoint, Topology, TrackingOptions


@dataclass(frozen=True, eq=False)
class LesionHistory:
    """States of a lesion, one per scan, at the first and at the latest reliable time point.

    ``is_seen``: a mask of it was given or predicted at a time point so far.
    """

    first: tuple[LesionState, ...]
    latest: tuple[LesionState, ...]
    is_seen: bool = True

    def point_state(self, scan: Scan, options: TrackingOptions) -> LesionState:
        """The state whose point is propagated to a scan."""
        return _state_in_slot(self.first if options.topology is Topology.STAR else self.latest, scan)

    def shape_state(self, scan: Scan, options: TrackingOptions) -> LesionState:
        """The state whose box, mask and further points are propagated to a scan."""
        uses_first = options.topology is Topology.STAR and not options.uses_previous
        return _state_in_slot(self.first if uses_first else self.latest, scan)

    @property
    def mass(self) -> tuple[int, ...]:
        """Ids of the other lesions with which it was one mass where it was seen last."""
        return tuple(sorted({other for state in self.latest for other in state.mass}))

    def context_state(self, scan: Scan, options: TrackingOptions) -> LesionState:
        """The state whose context is the baseline for a scan."""
        return _state_in_slot(self.latest if options.uses_previous else self.first, scan)


def _state_in_slot(states: Sequence[LesionState], scan: Scan) -> LesionState:
    """The state in the same slot as a scan, otherwise the first."""
    return next((state for state in states if state.scan.slot == scan.slot), states[0])


def advance(
    histories: Mapping[int, LesionHistory],
    time_point: SeriesTimePoint,
    segmented: Sequence[SegmentedLesion],
    labelmaps: Mapping[Slot, Array],
    choose: PointChooser,
) -> dict[int, LesionHistory]:
    """Advance the histories to a time point, for lesions that were reliably segmented there.

    Args:
        histories: lesion id -> history before the time point.
        segmented: the lesions of the time point.
        labelmaps: merged labelmap of each scan, (z, y, x) in the axis order of its file.

    Returns:
        Lesion id -> history, with lesions that are new at the time point.
    """
    contexts = {scan.slot: _context(scan, segmented, labelmaps[scan.slot]) for scan in time_point.scans}
    advanced = dict(histories)
    for lesion_id in dict.fromkeys(lesion.lesion_id for lesion in segmented):
        in_scans = [lesion for lesion in segmented if lesion.lesion_id == lesion_id]
        is_first = in_scans[0].prompted.previous is None
        usable = [
            lesion
            for lesion in in_scans
            if is_first or (lesion.result is not None and lesion.prompted.is_reliable)
        ]
        states = tuple(
            _state(lesion, contexts[lesion.scan.slot], choose) for lesion in _largest_first(usable)
        )
        # A lesion that could not be predicted at first may have been there; it counts as seen.
        is_seen = any(
            is_first if lesion.result is None else bool(lesion.result.mask.any()) for lesion in in_scans
        )
        if is_first:
            advanced[lesion_id] = LesionHistory(states, states, is_seen)
            continue
        before = histories[lesion_id]
        latest = states or before.latest
        advanced[lesion_id] = replace(before, latest=latest, is_seen=before.is_seen or is_seen)
    return advanced


def labelled_voxels(result: LesionResult, labels: Array) -> Array:
    """Voxels of a lesion in a labelmap, over its result's box.

    Args:
        labels: lesion ids (z, y, x) on the scan's axial grid.

    Returns:
        Booleans (z, y, x) of the box's shape.
    """
    return np.asarray(labels[result.box.slices] == result.prompt.lesion_id)


def _state(lesion: SegmentedLesion, context: Scan, choose: PointChooser) -> LesionState:
    """The state that a segmented lesion passes on to the next time points."""
    prompted, prompt, options = lesion.prompted, lesion.prompted.prompt, choose.options
    mask = _labelled_mask(context, lesion.result, prompt.lesion_id)
    point, further_points, error_mm = _points(prompted, mask, choose)
    chain = _chain(lesion, mask) if options.topology.is_recentred else None
    if prompted.previous is None or (mask is not None and options.uses_previous):
        state = LesionState(prompt.followup, point, context, point, mask is not None, mask)
        if chain is not None:  # the context is the scan itself
            own = PromptPoint(chain.point_zyx, chain.context_point.source)
            chain = replace(chain, context_point=own)
    else:
        previous = prompted.previous
        state = LesionState(
            prompt.followup,
            point,
            previous.context,
            _context_point(prompt, point),
            previous.has_mask,
            _shifted_mask(prompt.followup_mask, prompt.followup_point.point_zyx, point.point_zyx),
        )
    is_renewed = prompted.previous is not None and (options.topology.is_recentred or options.uses_previous)
    box = prompt.followup_box
    if mask is not None and (is_renewed or box is None):
        box = mask.box
    state = replace(state, box=box, further_points=further_points, error_mm=error_mm)
    state = replace(state, mass=_mass(lesion), chain=chain)
    return _without_unused_shapes(state, options.prompt)


def _chain(lesion: SegmentedLesion, mask: MaskPrompt | None) -> ChainPoint:
    """The chain's point on the scan of a lesion; a chain begins at each given point.

    Args:
        mask: the segmented lesion.
    """
    prompted, prompt = lesion.prompted, lesion.prompted.prompt
    if prompted.chain is not None:
        return prompted.chain
    return ChainPoint(
        prompt.followup_point.point_zyx,
        prompted.error_mm,
        prompt.baseline_point,
        radius_of(mask, prompt.followup.geometry),
    )


def _context_point(prompt: LesionPrompt, point: PromptPoint) -> PromptPoint:
    """The point on the context that belongs to the point that a lesion passes on."""
    if point.point_zyx == prompt.followup_point.point_zyx:
        return prompt.baseline_point
    return PromptPoint(middle_counterpart(prompt, point.point_zyx), prompt.baseline_point.source)


def _mass(lesion: SegmentedLesion) -> tuple[int, ...]:
    """The other lesions of its mass; those of its last time point if it was not seen at this one."""
    is_seen = lesion.result is not None and lesion.result.mask.any()
    previous = lesion.prompted.previous
    return lesion.mass if is_seen or previous is None else previous.mass


def _points(
    prompted: PromptedLesion, mask: MaskPrompt | None, choose: PointChooser
) -> tuple[PromptPoint, tuple[Vector, ...], float]:
    """The point, further points and error (mm) that a lesion passes on.

    Args:
        mask: the segmented lesion.
    """
    prompt, options = prompted.prompt, choose.options
    recentres = options.topology.is_recentred
    point, further_points, error_mm = prompt.followup_point, prompted.further_points, prompted.error_mm
    is_chosen = prompted.origin is PointOrigin.MASK  # the points were chosen from this mask already
    if mask is None or is_chosen or not (prompted.previous is None or recentres):
        return point, further_points, error_mm
    candidates = choose(mask, prompt.followup, prompt.lesion_id)
    if recentres and prompted.given_mask is None:
        point = PromptPoint(candidates[0], PointSource.PROPAGATED)
    if options.choice is not None:
        further_points = tuple(other for other in candidates if other != point.point_zyx)
    return point, further_points, error_mm


def _shifted_mask(mask: MaskPrompt | None, before_zyx: Vector, after_zyx: Vector) -> MaskPrompt | None:
    """Shift an expected mask together with its point, if that was moved to the middle of the result."""
    if mask is None:
        return None
    dz, dy, dx = (round(b - a) for a, b in zip(before_zyx, after_zyx, strict=True))
    return MaskPrompt(mask.box.shifted((dz, dy, dx)), mask.voxels)


def _without_unused_shapes(state: LesionState, kind: PromptKind) -> LesionState:
    """Drop shapes that are not to be propagated."""
    mask = state.mask if kind is PromptKind.MASK else None
    return replace(state, mask=mask, box=None if kind is PromptKind.POINT else state.box)


def _context(scan: Scan, segmented: Iterable[SegmentedLesion], labelmap: Array) -> Scan:
    """The scan with its labelmap as mask; unchanged if all its lesions have given masks."""
    in_scan = [lesion for lesion in segmented if lesion.scan is scan]
    if all(lesion.prompted.given_mask is not None for lesion in in_scan):
        return scan
    return replace(scan, mask=scan.file_grid.axial_labels(labelmap))


def _labelled_mask(context: Scan, result: LesionResult | None, lesion_id: int) -> MaskPrompt | None:
    """The lesion in the mask of a context; None if it has no voxel there."""
    if result is None or context.mask is None:
        return None
    voxels = labelled_voxels(result, context.mask)
    return MaskPrompt(result.box, voxels) if voxels.any() else None


def _largest_first(segmented: Sequence[SegmentedLesion]) -> list[SegmentedLesion]:
    return sorted(
        segmented, key=lambda lesion: -int(lesion.result.mask.sum()) if lesion.result is not None else 0
    )
