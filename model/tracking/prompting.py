"""Which lesions are asked for at a time point, in which of its scans, and with which prompts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..case.case import LesionPrompt, MaskPrompt, PointSource, PromptPoint, Scan, Slot
from ..case.geometry import Box, Vector
from ..case.labelmaps import LabelRegion, label_regions
from ..propagation.pair_registrations import PairRegistrations
from ..propagation.points import CLIP_LIMIT_MM, choose_scans
from ..propagation.transfer import (
    TransferredPoint,
    TransferRequest,
    transfer_points,
    transfer_shapes,
    transfer_to_deepest,
)
from .fates import FateAssessment, LesionFate
from .lesion_state import LesionHistory, PointChooser, PromptedLesion
from .series import Origin, Series, SeriesTimePoint, Topology, TrackedLesion

log = logging.getLogger(__name__)

# Points are kept as exactly as click files say them, so that prompts fed back give the same result (without
# boosting, as it leaves given points alone).
_DECIMALS = 4


@dataclass(frozen=True, eq=False)
class _Place:
    """A point for a lesion in a scan, with its further ones, and with the box where one was given."""

    point: PromptPoint
    origin: Origin
    box: Box | None = None
    warnings: tuple[str, ...] = ()
    others: tuple[Vector, ...] = ()


@dataclass(frozen=True, eq=False)
class _Sight:
    """A scan that shows a lesion for the first time, with its mask where that was given."""

    scan: Scan
    place: _Place
    mask: MaskPrompt | None


class PromptBuilder:
    """Finds who is to be asked for at the time points of one series."""

    def __init__(self, series: Series, choose: PointChooser) -> None:
        self._series = series
        self._options = choose.options
        self._choose = choose
        self._labels: dict[tuple[str, Slot], dict[int, LabelRegion]] = {
            (point.name, scan.slot): label_regions(scan.mask)
            for point in series.time_points
            for scan in point.scans
        }

    def ids_given_at(self, point: SeriesTimePoint) -> list[int]:
        """Lesions with a click, box or mask label at a time point, rising."""
        ids = {click.lesion_id for scan in point.scans for click in scan.clicks}
        ids |= {lesion_id for boxes in point.boxes.values() for lesion_id in boxes}
        return sorted(ids | {lesion_id for scan in point.scans for lesion_id in self._labels_in(point, scan)})

    def unused_masks(self, point: SeriesTimePoint, trails: Mapping[int, LesionHistory]) -> tuple[str, ...]:
        """A warning where a time point has its own mask of lesions that are followed there."""
        labelled = {lesion_id for scan in point.scans for lesion_id in self._labels_in(point, scan)}
        unused = sorted(labelled & trails.keys())
        if not unused:
            return ()
        listed = ", ".join(map(str, unused))
        return (f"{point.name}: its mask is not used for lesions that are followed: {listed}",)

    def asked_at(
        self, point: SeriesTimePoint, trails: Mapping[int, LesionHistory], pairs: PairRegistrations
    ) -> tuple[list[PromptedLesion], list[TrackedLesion]]:
        """All that is to be asked at a time point, and the lesions that cannot be asked for in any scan."""
        new = [i for i in self.ids_given_at(point) if i not in trails]
        sights = {lesion_id: self._sights(point, lesion_id) for lesion_id in new}
        self._expect(point, trails, [sight for found in sights.values() for sight in found], pairs)
        asked: list[PromptedLesion] = []
        lost: list[TrackedLesion] = []
        for lesion_id, found in sights.items():
            asked += [self._first_seen(point, lesion_id, sight, pairs) for sight in found]
            if not found:
                fate = FateAssessment(
                    LesionFate.FAILED, "its click or box lies outside of its scan", pieces=0
                )
                lost.append(TrackedLesion(lesion_id, None, fate))
        followed, out_of_reach = self._followed(point, trails, pairs)
        return asked + followed, lost + out_of_reach

    def _labels_in(self, point: SeriesTimePoint, scan: Scan) -> dict[int, LabelRegion]:
        return self._labels[point.name, scan.slot]

    def _expect(
        self,
        point: SeriesTimePoint,
        trails: Mapping[int, LesionHistory],
        sights: Sequence[_Sight],
        pairs: PairRegistrations,
    ) -> None:
        for trail in trails.values():
            for scan in point.scans:
                mine = trail.point_for(scan, self._options), trail.shapes_for(scan, self._options)
                for known in dict.fromkeys(mine):
                    pairs.expect(known.scan, scan, known.anchors())
        for sight in sights:
            if self._is_compared(point, sight):
                for target in self._before(point).scans:
                    pairs.expect(sight.scan, target, [sight.place.point.point_zyx])

    # --- lesions that are seen for the first time -----------------------------------------------------------

    def _sights(self, point: SeriesTimePoint, lesion_id: int) -> list[_Sight]:
        """Where a lesion is shown to us for the first time, by a click, a box or a mask."""
        sights = []
        for scan in point.scans:
            mask, place = self._mask(point, scan, lesion_id), _given(point, scan, lesion_id)
            if place is None and mask is not None:
                first, *others = self._choose(mask, scan, lesion_id)
                place = _Place(PromptPoint(first, PointSource.MASK), Origin.MASK, others=tuple(others))
            if place is not None:
                sights.append(_Sight(scan, place, mask))
        return sights

    def _first_seen(
        self, point: SeriesTimePoint, lesion_id: int, sight: _Sight, pairs: PairRegistrations
    ) -> PromptedLesion:
        """A lesion in a scan that shows it first: segmented there, unless its mask is given."""
        scan, place = sight.scan, sight.place
        baseline, baseline_point, warnings = scan, place.point, place.warnings
        if self._is_compared(point, sight):
            baseline, baseline_point, notes = self._compared(point, sight, pairs)
            warnings += notes
        prompt = LesionPrompt(
            lesion_id=lesion_id,
            baseline=baseline,
            baseline_point=baseline_point,
            followup=scan,
            followup_point=place.point,
            has_mask=sight.mask is not None,
            is_new=self._is_new_at(point),
            followup_box=place.box,
        )
        return PromptedLesion(
            prompt,
            place.origin,
            mask=sight.mask,
            others=place.others,
            warnings=warnings,
            has_given_box=place.box is not None,
        )

    def _mask(self, point: SeriesTimePoint, scan: Scan, lesion_id: int) -> MaskPrompt | None:
        label = self._labels_in(point, scan).get(lesion_id)
        if label is None or scan.mask is None:
            return None
        return MaskPrompt(label.box, np.asarray(scan.mask[label.box.slices] == lesion_id))

    def _is_new_at(self, point: SeriesTimePoint) -> bool:
        return point is not self._series.time_points[self._series.source]

    def _is_compared(self, point: SeriesTimePoint, sight: _Sight) -> bool:
        """Whether another time point is the baseline: of lesions that are new and to be segmented."""
        return self._is_new_at(point) and sight.mask is None

    def _before(self, point: SeriesTimePoint) -> SeriesTimePoint:
        """The time point that does not show a lesion yet that is new at this one."""
        points, source = self._series.time_points, self._series.source
        if self._options.topology is Topology.STAR:
            return points[source]
        index = points.index(point)
        return points[index - 1 if index > source else index + 1]

    def _compared(
        self, point: SeriesTimePoint, sight: _Sight, pairs: PairRegistrations
    ) -> tuple[Scan, PromptPoint, tuple[str, ...]]:
        """The scan and the point that a new lesion is compared with, as in a case of two time points.

        Where its place before cannot be found, it is the lesion itself.
        """
        before = self._before(point)
        found = transfer_to_deepest(sight.place.point.point_zyx, sight.scan, before.scans, pairs)
        if found is None:
            warning = f"its place at {before.name} is not known; it is segmented without it"
            return sight.scan, sight.place.point, (warning,)
        target, place_zyx, is_reliable = found
        outside_mm = -target.geometry.depth_mm(place_zyx)
        warnings: tuple[str, ...] = ()
        if outside_mm > CLIP_LIMIT_MM:
            warnings = (f"its place lies {outside_mm:.0f} mm outside of the scans of {before.name}",)
        if not is_reliable:
            warnings += (f"its place at {before.name} comes from a registration that is only a fall-back",)
        return target, PromptPoint(target.geometry.clip(place_zyx), PointSource.PROPAGATED), warnings

    # --- lesions that are followed --------------------------------------------------------------------------

    def _followed(
        self, point: SeriesTimePoint, trails: Mapping[int, LesionHistory], pairs: PairRegistrations
    ) -> tuple[list[PromptedLesion], list[TrackedLesion]]:
        """Lesions that are given here too, or carried over; and those that no scan shows."""
        asked: list[PromptedLesion] = []
        lost: list[TrackedLesion] = []
        requests: list[TransferRequest] = []
        for lesion_id, trail in sorted(trails.items()):
            places = [(scan, _given(point, scan, lesion_id)) for scan in point.scans]
            given = [(scan, place) for scan, place in places if place is not None]
            asked += [self._ask(lesion_id, trail, scan, place, pairs) for scan, place in given]
            if not given:
                requests += [
                    trail.point_for(scan, self._options).request(lesion_id, scan) for scan in point.scans
                ]
        for lesion_id, moved in transfer_points(requests, pairs).items():
            errors = tuple(dict.fromkeys(answer.error for answer in moved if answer.error))
            chosen = _chosen(moved)
            asked += [
                self._ask(
                    lesion_id, trails[lesion_id], answer.request.target, _place(answer, errors), pairs, answer
                )
                for answer in chosen
            ]
            if not chosen:
                lost.append(_lost(lesion_id, moved, errors))
        return asked, lost

    def _ask(
        self,
        lesion_id: int,
        trail: LesionHistory,
        scan: Scan,
        place: _Place,
        pairs: PairRegistrations,
        moved: TransferredPoint | None = None,
    ) -> PromptedLesion:
        known = trail.context_for(scan, self._options)
        previous = trail.shapes_for(scan, self._options)
        shapes = transfer_shapes(previous.scan, scan, pairs, previous.box, previous.mask, previous.others)
        if moved is None:
            shapes = shapes.near(place.point.point_zyx, scan.geometry.spacing_zyx)
        prompt = LesionPrompt(
            lesion_id=lesion_id,
            baseline=known.context,
            baseline_point=known.context_point,
            followup=scan,
            followup_point=place.point,
            has_mask=known.has_mask,
            followup_box=place.box or shapes.box,
            followup_mask=None if place.box is not None else shapes.mask,  # a given box is to be used
        )
        return PromptedLesion(
            prompt,
            place.origin,
            known,
            moved=moved,
            others=shapes.others,
            warnings=place.warnings + shapes.warnings,
            has_given_box=place.box is not None,
        )


def _given(point: SeriesTimePoint, scan: Scan, lesion_id: int) -> _Place | None:
    """The lesion's click, else the middle of its box, where they are of use."""
    click, box = scan.click_of(lesion_id), point.box_of(scan, lesion_id)
    if box is not None:
        box = box.intersection(Box.of_shape(scan.geometry.shape_zyx))
        box = None if box.is_empty else box
    if click is not None:
        outside_mm = -scan.geometry.depth_mm(click.point_zyx)
        if outside_mm <= 0:
            return _Place(PromptPoint(click.point_zyx, PointSource.GIVEN), Origin.GIVEN, box)
        text = f"its click lies {outside_mm:.1f} mm outside of {scan.name}"
        if outside_mm <= CLIP_LIMIT_MM:
            clipped = PromptPoint(scan.geometry.clip(click.point_zyx), PointSource.CLIPPED)
            return _Place(clipped, Origin.CLIPPED, box, (f"{text}; it is moved to the border",))
        log.warning("lesion %d: %s; it is not used", lesion_id, text)
    if box is None:
        return None
    z, y, x = ((a + b - 1) / 2 for a, b in zip(box.start_zyx, box.stop_zyx, strict=True))
    return _Place(PromptPoint((z, y, x), PointSource.GIVEN), Origin.BOX, box)


def _chosen(moved: Sequence[TransferredPoint]) -> list[TransferredPoint]:
    """The scans of a time point that are asked for a lesion.

    A registration that is only a fall-back may put a lesion of the thorax into a scan of the abdomen: it
    counts only where no other scan shows the lesion.
    """
    trusted = [answer for answer in moved if answer.is_reliable]
    for candidates in (trusted, moved):
        chosen = choose_scans([answer.depth_mm for answer in candidates])
        if chosen:
            return [candidates[index] for index in chosen]
    return []


def _place(moved: TransferredPoint, warnings: tuple[str, ...]) -> _Place:
    assert moved.point is not None
    if moved.depth_mm < 0:
        where = f"{-moved.depth_mm:.1f} mm outside of {moved.request.target.name}"
        warnings = (*warnings, f"its place lies {where}; it is moved to the border")
    z, y, x = (round(v, _DECIMALS) for v in moved.request.target.geometry.clip(moved.point.point_zyx))
    return _Place(PromptPoint((z, y, x), PointSource.PROPAGATED), Origin.PROPAGATED, warnings=warnings)


def _lost(lesion_id: int, moved: Sequence[TransferredPoint], errors: tuple[str, ...]) -> TrackedLesion:
    """A lesion that no scan of the time point shows, or of which nobody knows."""
    seen = [answer for answer in moved if answer.point is not None]
    if not seen:
        return TrackedLesion(lesion_id, None, FateAssessment(LesionFate.FAILED, "; ".join(errors), pieces=0))
    nearest = max(seen, key=lambda answer: answer.depth_mm)
    reason = f"its place lies {-nearest.depth_mm:.0f} mm outside of the field of view"
    fate = LesionFate.OUT_OF_VIEW
    if errors:  # the scan that could not be registered may show it
        fate, reason = LesionFate.FAILED, "; ".join((f"in {nearest.request.target.name} {reason}", *errors))
    return TrackedLesion(
        lesion_id,
        None,
        FateAssessment(fate, reason, pieces=0),
        carried_from=nearest.request.source.name,
        confidence_mm=nearest.confidence_mm,
        is_flagged=True,
        warnings=errors,
    )
