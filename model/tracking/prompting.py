"""Build the prompts of a time point: the lesions to segment, in which of its scans, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..case.case import LesionPrompt, MaskPrompt, PointSource, PromptPoint, Scan, Slot
from ..case.labelmaps import LabelRegion, label_regions
from ..case.plausibility import PlausibilityNote, check_scan
from ..propagation.pair_registrations import PairRegistrations
from ..propagation.points import CLIP_LIMIT_MM
from ..propagation.transfer import (
    TransferredPoint,
    TransferRequest,
    transfer_points,
    transfer_shapes,
    transfer_to_deepest,
    way_back,
)
from .fates import FateAssessment, LesionFate
from .lesion_history import LesionHistory
from .lesion_state import PromptedLesion
from .point_chooser import PointChooser
from .prompt_placement import PlacedPoint, place_given, place_transferred, select_scans, unplaced_lesion
from .recentring import ChainPoint, hold_to_chain
from .series import PointOrigin, Series, SeriesTimePoint, Topology, TrackedLesion


@dataclass(frozen=True, eq=False)
class _FirstAppearance:
    """A scan that shows a lesion for the first time, with the mask given for it, if any."""

    scan: Scan
    placed: PlacedPoint
    mask: MaskPrompt | None


class PromptBuilder:
    """Builds the prompts for each time point of a series."""

    def __init__(self, series: Series, choose: PointChooser) -> None:
        self._series = series
        self._options = choose.options
        self._choose = choose
        self._labels: dict[tuple[str, Slot], dict[int, LabelRegion]] = {
            (point.name, scan.slot): label_regions(scan.mask)
            for point in series.time_points
            for scan in point.scans
        }

    def given_ids(self, point: SeriesTimePoint) -> list[int]:
        """Ids of lesions with a click, box or mask label at a time point, in ascending order."""
        ids = {click.lesion_id for scan in point.scans for click in scan.clicks}
        ids |= {lesion_id for boxes in point.boxes.values() for lesion_id in boxes}
        return sorted(ids | {lesion_id for scan in point.scans for lesion_id in self._labels_in(point, scan)})

    def doubts(self, point: SeriesTimePoint) -> Iterator[PlausibilityNote]:
        """Check the plausibility of the scans of a time point, with their masks and clicks."""
        for scan in point.scans:
            yield from check_scan(scan, self._labels_in(point, scan))

    def unused_masks(self, point: SeriesTimePoint, histories: Mapping[int, LesionHistory]) -> tuple[str, ...]:
        """Warn about masks of a time point that contain lesions already tracked, as those are not used."""
        labelled = {lesion_id for scan in point.scans for lesion_id in self._labels_in(point, scan)}
        unused = sorted(labelled & histories.keys())
        if not unused:
            return ()
        listed = ", ".join(map(str, unused))
        return (f"{point.name}: its mask is not used for lesions that are tracked already: {listed}",)

    def build(
        self, point: SeriesTimePoint, histories: Mapping[int, LesionHistory], pairs: PairRegistrations
    ) -> tuple[list[PromptedLesion], list[TrackedLesion]]:
        """Build the prompts of a time point.

        Args:
            histories: lesions tracked so far.
            pairs: registrations of this time point's scans with others.

        Returns:
            The lesions to segment, and those that cannot be placed in any scan.
        """
        new_ids = [i for i in self.given_ids(point) if i not in histories]
        appearances = {lesion_id: self._first_appearances(point, lesion_id) for lesion_id in new_ids}
        self._expect(point, histories, [one for found in appearances.values() for one in found], pairs)
        prompted: list[PromptedLesion] = []
        unplaced: list[TrackedLesion] = []
        for lesion_id, in_scans in appearances.items():
            prompted += [self._prompt_new(point, lesion_id, appearance, pairs) for appearance in in_scans]
            if not in_scans:
                fate = FateAssessment(
                    LesionFate.FAILED, "its click or box lies outside of its scan", pieces=0
                )
                unplaced.append(TrackedLesion(lesion_id, None, fate))
        tracked, not_in_view = self._prompt_tracked(point, histories, pairs)
        return prompted + tracked, unplaced + not_in_view

    def _labels_in(self, point: SeriesTimePoint, scan: Scan) -> dict[int, LabelRegion]:
        return self._labels[point.name, scan.slot]

    def _expect(
        self,
        point: SeriesTimePoint,
        histories: Mapping[int, LesionHistory],
        appearances: Sequence[_FirstAppearance],
        pairs: PairRegistrations,
    ) -> None:
        """Announce all points that will be propagated, so that registrations are refined near them."""
        for history in histories.values():
            for scan in point.scans:
                states = history.point_state(scan, self._options), history.shape_state(scan, self._options)
                for state in dict.fromkeys(states):
                    pairs.expect(state.scan, scan, state.anchors())
        for appearance in appearances:
            if self._has_other_baseline(point, appearance):
                for target in self._point_before(point).scans:
                    pairs.expect(appearance.scan, target, [appearance.placed.point.point_zyx])

    # --- new lesions ----------------------------------------------------------------------------------------

    def _first_appearances(self, point: SeriesTimePoint, lesion_id: int) -> list[_FirstAppearance]:
        """The scans in which a lesion is given by a click, box or mask."""
        appearances = []
        for scan in point.scans:
            mask, placed = self._given_mask(point, scan, lesion_id), place_given(point, scan, lesion_id)
            if placed is None and mask is not None:
                first, *further = self._choose(mask, scan, lesion_id)
                placed = PlacedPoint(
                    PromptPoint(first, PointSource.MASK), PointOrigin.MASK, further_points=tuple(further)
                )
            if placed is not None:
                appearances.append(_FirstAppearance(scan, placed, mask))
        return appearances

    def _prompt_new(
        self, point: SeriesTimePoint, lesion_id: int, appearance: _FirstAppearance, pairs: PairRegistrations
    ) -> PromptedLesion:
        """Prompt for a lesion in a scan that shows it first; its given mask is used if there is one."""
        scan, placed = appearance.scan, appearance.placed
        baseline, baseline_point, warnings = scan, placed.point, placed.warnings
        if self._has_other_baseline(point, appearance):
            baseline, baseline_point, notes = self._baseline_of_new(point, appearance, pairs)
            warnings += notes
        prompt = LesionPrompt(
            lesion_id=lesion_id,
            baseline=baseline,
            baseline_point=baseline_point,
            followup=scan,
            followup_point=placed.point,
            has_mask=appearance.mask is not None,
            is_new=not self._is_source(point),
            followup_box=placed.box,
        )
        return PromptedLesion(
            prompt,
            placed.origin,
            given_mask=appearance.mask,
            further_points=placed.further_points,
            warnings=warnings,
            has_given_box=placed.box is not None,
        )

    def _given_mask(self, point: SeriesTimePoint, scan: Scan, lesion_id: int) -> MaskPrompt | None:
        label = self._labels_in(point, scan).get(lesion_id)
        if label is None or scan.mask is None:
            return None
        return MaskPrompt(label.box, np.asarray(scan.mask[label.box.slices] == lesion_id))

    def _is_source(self, point: SeriesTimePoint) -> bool:
        return point is self._series.time_points[self._series.source]

    def _has_other_baseline(self, point: SeriesTimePoint, appearance: _FirstAppearance) -> bool:
        """True if another time point is the baseline: for lesions that are new and to be segmented."""
        return not self._is_source(point) and appearance.mask is None

    def _point_before(self, point: SeriesTimePoint) -> SeriesTimePoint:
        """The time point that serves as the baseline of lesions that are new at a time point."""
        points, source = self._series.time_points, self._series.source
        if self._options.topology is Topology.STAR:
            return points[source]
        index = points.index(point)
        return points[index - 1 if index > source else index + 1]

    def _baseline_of_new(
        self, point: SeriesTimePoint, appearance: _FirstAppearance, pairs: PairRegistrations
    ) -> tuple[Scan, PromptPoint, tuple[str, ...]]:
        """Baseline scan and point of a new lesion, as in a case of two time points, and warnings.

        If its point cannot be propagated there, the scan is its own baseline.
        """
        before = self._point_before(point)
        point_zyx = appearance.placed.point.point_zyx
        propagated = transfer_to_deepest(point_zyx, appearance.scan, before.scans, pairs)
        if propagated is None:
            warning = f"its place at {before.name} is not known; it is segmented without it"
            return appearance.scan, appearance.placed.point, (warning,)
        target, target_zyx, is_reliable = propagated
        outside_mm = -target.geometry.depth_mm(target_zyx)
        warnings: tuple[str, ...] = ()
        if outside_mm > CLIP_LIMIT_MM:
            warnings = (f"its place lies {outside_mm:.0f} mm outside of the scans of {before.name}",)
        if not is_reliable:
            warnings += (f"its place at {before.name} comes from a registration that is only a fall-back",)
        return target, PromptPoint(target.geometry.clip(target_zyx), PointSource.PROPAGATED), warnings

    # --- tracked lesions ------------------------------------------------------------------------------------

    def _prompt_tracked(
        self, point: SeriesTimePoint, histories: Mapping[int, LesionHistory], pairs: PairRegistrations
    ) -> tuple[list[PromptedLesion], list[TrackedLesion]]:
        """Prompts for lesions that are tracked already, and those that no scan shows."""
        prompted: list[PromptedLesion] = []
        unplaced: list[TrackedLesion] = []
        requests: list[TransferRequest] = []
        for lesion_id, history in sorted(histories.items()):
            placed = [(scan, place_given(point, scan, lesion_id)) for scan in point.scans]
            given = [(scan, place) for scan, place in placed if place is not None]
            prompted += [self._prompt(lesion_id, history, scan, place, pairs) for scan, place in given]
            if not given:
                requests += [
                    history.point_state(scan, self._options).request(lesion_id, scan) for scan in point.scans
                ]
        for lesion_id, transferred in transfer_points(requests, pairs).items():
            errors = tuple(dict.fromkeys(result.error for result in transferred if result.error))
            selected = select_scans(transferred)
            for result in selected:
                prompted.append(self._prompt_transferred(histories[lesion_id], result, errors, pairs))
            if not selected:
                unplaced.append(unplaced_lesion(lesion_id, transferred, errors))
        return prompted, unplaced

    def _prompt_transferred(
        self,
        history: LesionHistory,
        result: TransferredPoint,
        errors: tuple[str, ...],
        pairs: PairRegistrations,
    ) -> PromptedLesion:
        """Prompt at a propagated point; a re-centred one is checked against the chain."""
        lesion_id, scan = result.request.lesion_id, result.request.target
        chain = self._chain_of(history, scan)
        if chain is None:
            return self._prompt(lesion_id, history, scan, place_transferred(result, errors), pairs, result)
        held = hold_to_chain(result, chain, pairs)
        warnings = (*errors, held.warning) if held.warning else errors
        placed = place_transferred(held.transferred, warnings)
        prompted = self._prompt(lesion_id, history, scan, placed, pairs, held.transferred)
        prompted = replace(prompted, chain=held.chain)
        if not held.is_chain:
            return prompted
        context_point = chain.context_point
        return replace(prompted, prompt=replace(prompted.prompt, baseline_point=context_point))

    def _chain_of(self, history: LesionHistory, scan: Scan) -> ChainPoint | None:
        """The chain's point, with its point on the scan that is the baseline of a scan."""
        state, context = (
            history.point_state(scan, self._options),
            history.context_state(scan, self._options),
        )
        if state.chain is None or state.context is context.context:
            return state.chain
        return replace(state.chain, context_point=self._context_point(history, scan, is_given=True))

    def _context_point(self, history: LesionHistory, scan: Scan, is_given: bool) -> PromptPoint:
        """The baseline point: it moves along with re-centred points, but not with given ones."""
        context = history.context_state(scan, self._options)
        if is_given and context.chain is not None:
            return context.chain.context_point
        state = history.point_state(scan, self._options)
        return state.context_point if state.context is context.context else context.context_point

    def _prompt(
        self,
        lesion_id: int,
        history: LesionHistory,
        scan: Scan,
        placed: PlacedPoint,
        pairs: PairRegistrations,
        transferred: TransferredPoint | None = None,
    ) -> PromptedLesion:
        """Prompt for a tracked lesion in a scan."""
        context = history.context_state(scan, self._options)
        context_point = self._context_point(history, scan, is_given=transferred is None)
        state = history.shape_state(scan, self._options)
        shapes = transfer_shapes(state.scan, scan, pairs, state.box, state.mask, state.further_points)
        to_baseline = None
        if transferred is None:
            shapes = shapes.near(placed.point.point_zyx, scan.geometry.spacing_zyx)
        elif transferred.request.source is context.context:  # no other scan has the grid of the baseline
            to_baseline = way_back(context.context, scan, pairs)
        prompt = LesionPrompt(
            lesion_id=lesion_id,
            baseline=context.context,
            baseline_point=context_point,
            followup=scan,
            followup_point=placed.point,
            has_mask=context.has_mask,
            followup_box=placed.box or shapes.box,
            followup_mask=None if placed.box is not None else shapes.mask,  # a given box has precedence
            to_baseline=to_baseline,
        )
        return PromptedLesion(
            prompt,
            placed.origin,
            context,
            transferred=transferred,
            further_points=shapes.others,
            warnings=placed.warnings + shapes.warnings,
            has_given_box=placed.box is not None,
        )
