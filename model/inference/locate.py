"""Location of the lesions of a case: points in baseline and follow-up from clicks, masks or registration.

Incomplete or contradictory input is resolved by the rules below, with a warning.

- A lesion is an id that is clicked in any scan or that the mask of a baseline scan contains.
- Baseline point: the click; otherwise the centre of gravity of the lesion's mask (or its nearest voxel).
- Follow-up point: the click; otherwise the baseline point, propagated by registration, in the scan or scans
  that show it (see `choose_scans`).
- New lesions, which are only known in the follow-up, get the follow-up point propagated to the baseline, and
  no mask.
- A click up to 5 mm outside of its scan is moved to the border; one further out is ignored. A baseline click
  up to 10 mm outside is moved as well if the follow-up is clicked and no baseline mask has the lesion: a
  registration, which takes minutes, would be no better (an error of 10 mm is not flagged).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..case.case import Case, LesionPrompt, PointSource, PromptPoint, Scan, UnsegmentedLesion
from ..case.labelmaps import LabelRegion, label_regions, point_on_lesion
from ..errors import one_line
from ..propagation.confidence import ConfidenceOptions, PropagatedPoint
from ..propagation.pair_registrations import PairError, PairRegistrations, RegistrationCache
from ..propagation.points import CLIP_LIMIT_MM, choose_scans
from ..propagation.transfer import TransferredPoint, TransferRequest, transfer_points, way_back

log = logging.getLogger(__name__)

_SETTLED_MM = ConfidenceOptions().flag_mm


@dataclass(frozen=True, eq=False)
class LocatedLesions:
    """Prompts of the lesions of a case, and the lesions that get none.

    Attributes:
        prompts: one per lesion and follow-up scan in which to segment it.
        out_of_view: lesions that no follow-up scan shows.
        warnings: sentences about incomplete or contradictory input.
        failures: lesions that could not be located.
        estimates: the propagated point, with its estimated error, of each prompt that has one.
    """

    prompts: tuple[LesionPrompt, ...]
    out_of_view: tuple[UnsegmentedLesion, ...]
    warnings: tuple[str, ...]
    failures: tuple[UnsegmentedLesion, ...] = ()
    estimates: Mapping[LesionPrompt, PropagatedPoint] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _BaselinePoint:
    """A lesion's point in a baseline scan, with its volume in the mask of that scan."""

    scan: Scan
    point: PromptPoint
    volume_ml: float


@dataclass(frozen=True, eq=False)
class _LesionInput:
    """Points of a lesion from clicks and masks, in the baseline scans and in the follow-up scans."""

    lesion_id: int
    baselines: list[_BaselinePoint]
    clicked: list[tuple[Scan, PromptPoint]]


@dataclass
class Locator:
    """Locates the lesions of one case; scans are only registered if a lesion needs it.

    Attributes:
        case: the case.
        registrations: registrations of its scans, possibly shared with other users.
        labels: name of each baseline scan -> lesion id -> its region in the mask.
    """

    case: Case
    registrations: RegistrationCache
    labels: dict[str, dict[int, LabelRegion]] = field(init=False)
    _warnings: list[str] = field(init=False, default_factory=list)
    _transferred: dict[int, list[TransferredPoint]] = field(init=False, default_factory=dict)
    _estimates: dict[LesionPrompt, PropagatedPoint] = field(init=False, default_factory=dict)
    _pairs: PairRegistrations = field(init=False)

    def __post_init__(self) -> None:
        self.labels = {scan.name: label_regions(scan.mask) for scan in self.case.baseline.scans}
        followups = {id(scan) for scan in self.case.followup.scans}
        self._pairs = PairRegistrations(
            self.registrations, lambda scan: int(id(scan) in followups), allow_incomparable=True
        )

    def locate(self) -> LocatedLesions:
        """Locate all lesions of the case.

        Clicks and masks of all lesions are read first, so that each pair of scans is registered, and the
        registration refined, once for all of its lesions.
        """
        prompts: list[LesionPrompt] = []
        out_of_view: list[UnsegmentedLesion] = []
        failures: list[UnsegmentedLesion] = []
        lesions: list[_LesionInput] = []
        for lesion_id in self.lesion_ids():
            try:
                lesions.append(self._input_of(lesion_id))
            except Exception as error:  # the failure of one lesion never loses the others
                failures.append(_failed(lesion_id, error))
        self._propagate(lesions)
        for lesion in lesions:
            try:
                lesion_prompts = list(self._prompts(lesion))
            except Exception as error:
                failures.append(_failed(lesion.lesion_id, error))
                continue
            prompts += lesion_prompts
            if not lesion_prompts:
                reason = _reason_out_of_view(lesion)
                self._warn(f"lesion {lesion.lesion_id}: {reason}; it has no voxels")
                out_of_view.append(UnsegmentedLesion(lesion.lesion_id, reason))
        for record in self.registrations.records:
            self._warnings += [f"{record.followup} to {record.baseline}: {text}" for text in record.warnings]
        return LocatedLesions(
            tuple(prompts), tuple(out_of_view), tuple(self._warnings), tuple(failures), self._estimates
        )

    def lesion_ids(self) -> list[int]:
        """Ids in the order of first appearance: clicks of all scans, then mask labels without a click."""
        scans = (*self.case.baseline.scans, *self.case.followup.scans)
        ids = dict.fromkeys(click.lesion_id for scan in scans for click in scan.clicks)
        ids |= dict.fromkeys(lesion_id for labels in self.labels.values() for lesion_id in labels)
        return list(ids)

    def _input_of(self, lesion_id: int) -> _LesionInput:
        clicked = [
            (scan, point)
            for scan in self.case.followup.scans
            if (point := self._clicked_point(scan, lesion_id)) is not None
        ]
        is_labelled = any(lesion_id in labels for labels in self.labels.values())
        limit_mm = _SETTLED_MM if clicked and not is_labelled else CLIP_LIMIT_MM
        return _LesionInput(lesion_id, self._baselines(lesion_id, limit_mm), clicked)

    def _propagate(self, lesions: Sequence[_LesionInput]) -> None:
        """Propagate points that are not given: to the follow-up, or to the baseline for new lesions.

        The pair is not registered in the opposite direction for the confidence, which would double the time
        of a case. A fall-back transform is used even if nothing could be compared, and points that cannot be
        propagated together are propagated one by one, so that as few lesions as possible are lost.
        """
        requests = [request for lesion in lesions for request in self._requests(lesion)]
        for request in requests:
            self._pairs.expect(request.source, request.target, [request.point_zyx])
        self._transferred = transfer_points(requests, self._pairs, retry_singly=True)

    def _requests(self, lesion: _LesionInput) -> Iterator[TransferRequest]:
        if lesion.baselines and not lesion.clicked:
            for scan in self.case.followup.scans:
                source = _for_scan(lesion.baselines, scan)
                yield TransferRequest(lesion.lesion_id, source.scan, source.point.point_zyx, scan)
        elif lesion.clicked and not lesion.baselines:
            for scan, click in lesion.clicked:
                for baseline in self.case.baseline.scans:
                    yield TransferRequest(lesion.lesion_id, scan, click.point_zyx, baseline)

    def _prompts(self, lesion: _LesionInput) -> Iterator[LesionPrompt]:
        if not lesion.baselines:
            for scan, point in lesion.clicked:
                yield self._new_lesion(lesion, scan, point)
            return
        estimates = {} if lesion.clicked else self._followup_estimates(lesion)
        points = lesion.clicked or [
            (scan, PromptPoint(scan.geometry.clip(estimate.point_zyx), PointSource.PROPAGATED))
            for scan, estimate in estimates.items()
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
                to_baseline=way_back(baseline.scan, scan, self._pairs) if scan in estimates else None,
            )
            self._record_estimate(prompt, estimates.get(scan))
            yield prompt

    def _baselines(self, lesion_id: int, limit_mm: float) -> list[_BaselinePoint]:
        """Points in the baseline scans with a click of the lesion, otherwise in those whose mask has it.

        Args:
            limit_mm: clicks up to this distance outside of their scan are moved to the border.
        """
        clicked = []
        for scan in self.case.baseline.scans:
            point = self._clicked_point(scan, lesion_id, limit_mm)
            if point is None:
                continue
            if scan.mask is not None and lesion_id not in self.labels[scan.name]:
                self._warn(f"lesion {lesion_id}: its click in {scan.name} has no label in the mask")
            clicked.append(_BaselinePoint(scan, point, self._volume_ml(scan, lesion_id)))
        if clicked:
            return clicked
        labelled = [
            _BaselinePoint(scan, self._mask_prompt(scan, lesion_id), self._volume_ml(scan, lesion_id))
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

    def _clicked_point(
        self, scan: Scan, lesion_id: int, limit_mm: float = CLIP_LIMIT_MM
    ) -> PromptPoint | None:
        """The lesion's click, moved into the scan if it lies just outside; None without a usable one."""
        click = scan.click_of(lesion_id)
        if click is None:
            return None
        outside_mm = -scan.geometry.depth_mm(click.point_zyx)
        if outside_mm <= 0:
            return PromptPoint(click.point_zyx, PointSource.GIVEN)
        text = f"lesion {lesion_id}: its click lies {outside_mm:.1f} mm outside of {scan.name}"
        if outside_mm <= limit_mm:
            self._warn(f"{text}; it is moved to the border")
            return PromptPoint(scan.geometry.clip(click.point_zyx), PointSource.CLIPPED)
        self._warn(f"{text}; it is not used")
        return None

    def _followup_estimates(self, lesion: _LesionInput) -> dict[Scan, PropagatedPoint]:
        """The propagated point in each follow-up scan that shows the lesion, the deepest first.

        A registration that is only a fall-back may put a lesion of the thorax into a scan of the abdomen: it
        is only used if no other scan shows the lesion.

        Raises:
            PairError: no scan shows it, and for at least one of them it could not be propagated.
        """
        candidates = self._transferred_from(lesion)
        reliable_mm = [result.depth_mm if result.is_reliable else math.nan for result in candidates]
        chosen = choose_scans(reliable_mm) or choose_scans([result.depth_mm for result in candidates])
        errors = [result.error for result in candidates if result.error]
        if errors and not chosen:
            raise PairError(errors[0])
        scans = [candidates[index].request.target for index in chosen]
        if chosen and len(candidates) > 1:
            names = " and ".join(scan.name for scan in scans)
            log.info("lesion %d: propagated, segmented in %s", lesion.lesion_id, names)
        points = [candidates[index].point for index in chosen]
        return {scan: point for scan, point in zip(scans, points, strict=True) if point is not None}

    def _transferred_from(self, lesion: _LesionInput, source: Scan | None = None) -> list[TransferredPoint]:
        """Results for a lesion, those from ``source`` if given; warns about those that failed."""
        results = self._transferred.get(lesion.lesion_id, [])
        if source is not None:
            results = [result for result in results if result.request.source is source]
        for result in results:
            if result.error:
                text = f"its point in {result.request.target.name} could not be found"
                self._warn(f"lesion {lesion.lesion_id}: {text} ({result.error})")
        return results

    def _new_lesion(self, lesion: _LesionInput, scan: Scan, point: PromptPoint) -> LesionPrompt:
        """Prompt of a lesion known in the follow-up only; its point is propagated to the baseline."""
        baseline, estimate = self._baseline_estimate(lesion, scan, point)
        depth_mm = baseline.geometry.depth_mm(estimate.point_zyx)
        name = f"lesion {lesion.lesion_id}"
        self._warn(f"{name}: new, known in {scan.name} only; segmented without a baseline mask")
        if depth_mm < -CLIP_LIMIT_MM:
            self._warn(f"{name}: its point lies {-depth_mm:.0f} mm outside of the baseline scans")
        prompt = LesionPrompt(
            lesion_id=lesion.lesion_id,
            baseline=baseline,
            baseline_point=PromptPoint(baseline.geometry.clip(estimate.point_zyx), PointSource.PROPAGATED),
            followup=scan,
            followup_point=point,
            has_mask=False,
            is_new=True,
        )
        self._estimates[prompt] = estimate
        return prompt

    def _baseline_estimate(
        self, lesion: _LesionInput, scan: Scan, point: PromptPoint
    ) -> tuple[Scan, PropagatedPoint]:
        """The point of a new lesion in the baseline scan in which it lies deepest.

        Without any registration it is propagated by the scans' headers, as the clicked follow-up point is
        enough to segment the lesion.
        """
        results = self._transferred_from(lesion, scan)
        candidates = [(result.request.target, result.point) for result in results if result.point is not None]
        if not candidates:
            world_mm = scan.geometry.zyx_to_world(point.point_zyx)
            for baseline in self.case.baseline.scans:
                index = baseline.geometry.world_to_zyx(world_mm)
                unknown = PropagatedPoint(index, np.inf, in_view=True, is_flagged=True)
                candidates.append((baseline, unknown))
        return max(candidates, key=lambda candidate: candidate[0].geometry.depth_mm(candidate[1].point_zyx))

    def _record_estimate(self, prompt: LesionPrompt, estimate: PropagatedPoint | None) -> None:
        if estimate is None:
            return
        self._estimates[prompt] = estimate
        if estimate.is_flagged:
            text = f"lesion {prompt.lesion_id}: check its point in {prompt.followup.name}"
            self._warn(f"{text}: {_doubt(estimate)}")

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            log.warning("%s", text)
            self._warnings.append(text)


def _for_scan(baselines: list[_BaselinePoint], followup: Scan) -> _BaselinePoint:
    """The baseline point in the same slot as the follow-up scan, otherwise the first."""
    return next((point for point in baselines if point.scan.slot == followup.slot), baselines[0])


def _doubt(point: PropagatedPoint) -> str:
    """The reason for a flag, for users."""
    if not point.in_view:
        return "it lies just outside of the field of view, and was moved to the border"
    if not np.isfinite(point.confidence_mm):
        return "the mapping tears there, and the error of the point is unknown"
    return f"the point may be {point.confidence_mm:.0f} mm off, by a registration that is doubtful there"


def _reason_out_of_view(lesion: _LesionInput) -> str:
    if lesion.baselines:
        return "its point lies outside of every follow-up scan's field of view"
    return "its only click lies far outside of its scan, and no baseline mask contains it"


def _failed(lesion_id: int, error: Exception) -> UnsegmentedLesion:
    log.error("lesion %d could not be located", lesion_id, exc_info=error)
    return UnsegmentedLesion(lesion_id, one_line(error))
