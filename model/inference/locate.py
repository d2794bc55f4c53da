"""Give every lesion of a case its baseline and follow-up point: given by clicks, by the mask, or propagated.

The rules are those of the interface ("Odd input"); what had to be mended is said in a warning.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..case.case import Case, LesionPrompt, PointSource, PromptPoint, Scan, TimePointName, UnsegmentedLesion
from ..case.labelmaps import LabelRegion, label_regions, point_on_lesion
from ..errors import one_line
from ..propagation.confidence import PropagatedPoint
from ..propagation.pair_registrations import PairError, PairRegistrations, RegistrationCache
from ..propagation.points import CLIP_LIMIT_MM, choose_scans
from ..propagation.transfer import TransferredPoint, TransferRequest, transfer_points

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LocatedLesions:
    """Who is asked of the network, who cannot be, and what was odd.

    ``estimates`` tells of each prompt with a propagated point where that lies and how far it may be off.
    """

    prompts: tuple[LesionPrompt, ...]
    unanswered: tuple[UnsegmentedLesion, ...]
    warnings: tuple[str, ...]
    failures: tuple[UnsegmentedLesion, ...] = ()
    estimates: Mapping[LesionPrompt, PropagatedPoint] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Baseline:
    """A baseline scan that knows a lesion, and its point there."""

    scan: Scan
    point: PromptPoint
    volume_ml: float


@dataclass(frozen=True, eq=False)
class _Known:
    """What clicks and masks tell of a lesion: where it is in the baseline, and in the follow-up."""

    lesion_id: int
    baselines: list[_Baseline]
    given: list[tuple[Scan, PromptPoint]]


@dataclass
class Locator:
    """Works through the lesions of one case; `registrations` are made when a lesion first needs one."""

    case: Case
    registrations: RegistrationCache
    labels: dict[str, dict[int, LabelRegion]] = field(init=False)
    _warnings: list[str] = field(init=False, default_factory=list)
    _transferred: dict[int, list[TransferredPoint]] = field(init=False, default_factory=dict)
    _estimates: dict[LesionPrompt, PropagatedPoint] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = {scan.name: label_regions(scan.mask) for scan in self.case.baseline.scans}

    def locate(self) -> LocatedLesions:
        """Answer for every id that is clicked anywhere or stands in a baseline mask.

        What the scans tell of all lesions comes first, so that each pair of scans is registered, and looked
        at closer, for all of its lesions at once.
        """
        prompts: list[LesionPrompt] = []
        unanswered: list[UnsegmentedLesion] = []
        failures: list[UnsegmentedLesion] = []
        known: list[_Known] = []
        for lesion_id in self.lesion_ids():
            try:
                known.append(self._known(lesion_id))
            except Exception as error:  # one lesion's failure never loses the others
                failures.append(_failed(lesion_id, error))
        self._propagate(known)
        for lesion in known:
            try:
                found = list(self._prompts(lesion))
            except Exception as error:
                failures.append(_failed(lesion.lesion_id, error))
                continue
            prompts += found
            if not found:
                reason = _why_unanswered(lesion)
                self._warn(f"lesion {lesion.lesion_id}: {reason}; it has no voxels")
                unanswered.append(UnsegmentedLesion(lesion.lesion_id, reason))
        for record in self.registrations.records:
            self._warnings += [f"{record.followup} to {record.baseline}: {text}" for text in record.warnings]
        return LocatedLesions(
            tuple(prompts), tuple(unanswered), tuple(self._warnings), tuple(failures), self._estimates
        )

    def lesion_ids(self) -> list[int]:
        """In the order of first appearance: clicks of all scans, then mask labels without a click."""
        scans = (*self.case.baseline.scans, *self.case.followup.scans)
        ids = dict.fromkeys(click.lesion_id for scan in scans for click in scan.clicks)
        ids |= dict.fromkeys(lesion_id for labels in self.labels.values() for lesion_id in labels)
        return list(ids)

    def _known(self, lesion_id: int) -> _Known:
        given = [
            (scan, point)
            for scan in self.case.followup.scans
            if (point := self._clicked_point(scan, lesion_id)) is not None
        ]
        return _Known(lesion_id, self._baselines(lesion_id), given)

    def _propagate(self, known: Sequence[_Known]) -> None:
        """Propagate the points that are not given: to the follow-up, or of new lesions to the baseline.

        The pair is not registered the other way round for its confidence, which would double a case's time.
        A fall-back transform is used even if nothing could be compared, and a point that fails fails alone:
        a lesion that is likely to be segmented is better than none.
        """
        times: dict[str, int] = {TimePointName.BASELINE: 0, TimePointName.FOLLOWUP: 1}
        pairs = PairRegistrations(self.registrations, times, allow_incomparable=True)
        requests = [request for lesion in known for request in self._requests(lesion)]
        for request in requests:
            pairs.expect(request.source, request.target, [request.point_zyx])
        self._transferred = transfer_points(requests, pairs, retry_singly=True)

    def _requests(self, lesion: _Known) -> Iterator[TransferRequest]:
        if lesion.baselines and not lesion.given:
            for scan in self.case.followup.scans:
                source = _for_scan(lesion.baselines, scan)
                yield TransferRequest(lesion.lesion_id, source.scan, source.point.point_zyx, scan)
        elif lesion.given and not lesion.baselines:
            for scan, given in lesion.given:
                for baseline in self.case.baseline.scans:
                    yield TransferRequest(lesion.lesion_id, scan, given.point_zyx, baseline)

    def _prompts(self, lesion: _Known) -> Iterator[LesionPrompt]:
        if not lesion.baselines:
            for scan, point in lesion.given:
                yield self._new_lesion(lesion, scan, point)
            return
        estimates = {} if lesion.given else self._propagated(lesion)
        points = lesion.given or [
            (scan, PromptPoint(scan.geometry.clip(place.point_zyx), PointSource.PROPAGATED))
            for scan, place in estimates.items()
        ]
        for scan, point in points:
            baseline = _for_scan(lesion.baselines, scan)
            prompt = LesionPrompt(
                lesion_id=lesion.lesion_id,
                baseline=baseline.scan,
                baseline_point=baseline.point,
                followup=scan,
                followup_point=point,
                has_mask=lesion.lesion_id in self.labels[baseline.scan.name],
            )
            self._note_estimate(prompt, estimates.get(scan))
            yield prompt

    def _baselines(self, lesion_id: int) -> list[_Baseline]:
        """The baseline scans in which the lesion is clicked; if there is none, those whose mask holds it."""
        clicked = []
        for scan in self.case.baseline.scans:
            point = self._clicked_point(scan, lesion_id)
            if point is None:
                continue
            if lesion_id not in self.labels[scan.name]:
                self._warn(f"lesion {lesion_id}: its click in {scan.name} has no label in the mask")
            clicked.append(_Baseline(scan, point, self._volume_ml(scan, lesion_id)))
        if clicked:
            return clicked
        labelled = [
            _Baseline(scan, self._mask_prompt(scan, lesion_id), self._volume_ml(scan, lesion_id))
            for scan in self.case.baseline.scans
            if lesion_id in self.labels[scan.name]
        ]
        return sorted(labelled, key=lambda baseline: -baseline.volume_ml)

    def _mask_prompt(self, scan: Scan, lesion_id: int) -> PromptPoint:
        assert scan.mask is not None
        self._warn(f"lesion {lesion_id}: no click in {scan.name}; its point is taken from the mask")
        point = point_on_lesion(
            scan.mask, lesion_id, self.labels[scan.name][lesion_id], scan.geometry.spacing_zyx
        )
        return PromptPoint(point, PointSource.MASK)

    def _volume_ml(self, scan: Scan, lesion_id: int) -> float:
        label = self.labels[scan.name].get(lesion_id)
        return label.voxels * scan.geometry.voxel_volume_ml if label else 0.0

    def _clicked_point(self, scan: Scan, lesion_id: int) -> PromptPoint | None:
        """The lesion's click, moved into the scan when it lies just outside; None without a usable one."""
        click = scan.click_of(lesion_id)
        if click is None:
            return None
        outside_mm = -scan.geometry.depth_mm(click.point_zyx)
        if outside_mm <= 0:
            return PromptPoint(click.point_zyx, PointSource.GIVEN)
        where = f"lesion {lesion_id}: its click lies {outside_mm:.1f} mm outside of {scan.name}"
        if outside_mm <= CLIP_LIMIT_MM:
            self._warn(f"{where}; it is moved to the border")
            return PromptPoint(scan.geometry.clip(click.point_zyx), PointSource.CLIPPED)
        self._warn(f"{where}; it is not used")
        return None

    def _propagated(self, lesion: _Known) -> dict[Scan, PropagatedPoint]:
        """The lesion's place in each follow-up scan that shows it, the deepest first.

        A registration that is only a fall-back may put a lesion of the thorax into a scan of the abdomen: it
        counts only where no other scan shows the lesion.

        Raises:
            PairError: no scan shows it, and for at least one of them it could not be propagated.
        """
        candidates = self._transferred_from(lesion)
        trusted_mm = [place.depth_mm if place.is_reliable else math.nan for place in candidates]
        chosen = choose_scans(trusted_mm) or choose_scans([place.depth_mm for place in candidates])
        errors = [place.error for place in candidates if place.error]
        if errors and not chosen:
            raise PairError(errors[0])
        scans = [candidates[index].request.target for index in chosen]
        if chosen and len(candidates) > 1:
            names = " and ".join(scan.name for scan in scans)
            log.info("lesion %d: propagated, segmented in %s", lesion.lesion_id, names)
        points = [candidates[index].point for index in chosen]
        return {scan: point for scan, point in zip(scans, points, strict=True) if point is not None}

    def _transferred_from(self, lesion: _Known, source: Scan | None = None) -> list[TransferredPoint]:
        """Results for a lesion, those from ``source`` if given; warns about those that failed."""
        results = self._transferred.get(lesion.lesion_id, [])
        if source is not None:
            results = [result for result in results if result.request.source is source]
        for result in results:
            if result.error:
                where = f"its point in {result.request.target.name} could not be found"
                self._warn(f"lesion {lesion.lesion_id}: {where} ({result.error})")
        return results

    def _new_lesion(self, lesion: _Known, scan: Scan, point: PromptPoint) -> LesionPrompt:
        """A lesion that only the follow-up knows: its baseline point is the follow-up's, carried back."""
        depth, baseline, place = self._place_before(lesion, scan, point)
        name = f"lesion {lesion.lesion_id}"
        self._warn(f"{name}: new, known to {scan.name} only; segmented without a baseline mask")
        if depth < -CLIP_LIMIT_MM:
            self._warn(f"{name}: its place lies {-depth:.0f} mm outside of the baseline scans")
        prompt = LesionPrompt(
            lesion_id=lesion.lesion_id,
            baseline=baseline,
            baseline_point=PromptPoint(baseline.geometry.clip(place.point_zyx), PointSource.PROPAGATED),
            followup=scan,
            followup_point=point,
            has_mask=False,
            is_new=True,
        )
        self._estimates[prompt] = place
        return prompt

    def _place_before(
        self, lesion: _Known, scan: Scan, point: PromptPoint
    ) -> tuple[float, Scan, PropagatedPoint]:
        """The place of a new lesion in the baseline scan that shows it deepest, and how deep (mm).

        It is clicked where it is segmented: without a registration its place before is as the headers say.
        """
        results = self._transferred_from(lesion, scan)
        candidates = [(result.request.target, result.point) for result in results if result.point is not None]
        if not candidates:
            world_mm = scan.geometry.zyx_to_world(point.point_zyx)
            for baseline in self.case.baseline.scans:
                index = baseline.geometry.world_to_zyx(world_mm)
                unknown = PropagatedPoint(index, np.inf, in_view=True, is_flagged=True)
                candidates.append((baseline, unknown))
        by_depth = [(scan.geometry.depth_mm(place.point_zyx), scan, place) for scan, place in candidates]
        return max(by_depth, key=lambda candidate: candidate[0])

    def _note_estimate(self, prompt: LesionPrompt, place: PropagatedPoint | None) -> None:
        if place is None:
            return
        self._estimates[prompt] = place
        if place.is_flagged:
            where = f"lesion {prompt.lesion_id}: look at its place in {prompt.followup.name}"
            self._warn(f"{where}: {_doubt(place)}")

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            log.warning("%s", text)
            self._warnings.append(text)


def _for_scan(baselines: list[_Baseline], followup: Scan) -> _Baseline:
    """Of the baseline scans that know a lesion the one in the follow-up's own slot, else the first."""
    return next((known for known in baselines if known.scan.slot == followup.slot), baselines[0])


def _doubt(place: PropagatedPoint) -> str:
    """Why a point is flagged, for people."""
    if not place.in_view:
        return "it lies just outside of the field of view, and was moved to the border"
    if not np.isfinite(place.confidence_mm):
        return "the mapping tears there, and nothing tells how far off the point may be"
    return f"the point may be {place.confidence_mm:.0f} mm off, by a registration that is doubtful there"


def _why_unanswered(lesion: _Known) -> str:
    if lesion.baselines:
        return "its place lies outside of every follow-up scan's field of view"
    return "its only click lies far outside of its scan, and no baseline mask holds it"


def _failed(lesion_id: int, error: Exception) -> UnsegmentedLesion:
    log.error("lesion %d could not be located", lesion_id, exc_info=error)
    return UnsegmentedLesion(lesion_id, one_line(error))
