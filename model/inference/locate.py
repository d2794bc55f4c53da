"""Give every lesion of a case its baseline and follow-up point: given by clicks, by the mask, or propagated.

The rules are those of the interface ("Odd input"); what had to be mended is said in a warning.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..case.case import Case, LesionPrompt, PointSource, PromptPoint, Scan, UnsegmentedLesion
from ..case.geometry import Array, Box, Vector
from ..errors import one_line
from ..propagation.confidence import PropagatedPoint
from ..propagation.points import CLIP_LIMIT_MM, Direction, RegistrationCache, choose_scans
from .carry import Place, Way, carry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MaskLabel:
    """One lesion in a baseline mask: its voxels' bounding box, count and centre of gravity (z, y, x)."""

    box: Box
    voxels: int
    centre_zyx: Vector


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


class _Tally:
    """Voxels of one label, counted plane by plane."""

    def __init__(self) -> None:
        self.voxels = 0
        self.sums = np.zeros(3)
        self.low = np.full(3, np.iinfo(np.int64).max)
        self.high = np.zeros(3, np.int64)

    def add(self, z: int, y: npt.NDArray[np.intp], x: npt.NDArray[np.intp]) -> None:
        self.voxels += y.size
        self.sums += (z * y.size, y.sum(), x.sum())
        self.low = np.minimum(self.low, (z, y.min(), x.min()))
        self.high = np.maximum(self.high, (z, y.max(), x.max()))

    def label(self) -> MaskLabel:
        cz, cy, cx = (float(value) for value in self.sums / self.voxels)
        z0, y0, x0 = (int(value) for value in self.low)
        z1, y1, x1 = (int(value) + 1 for value in self.high)
        return MaskLabel(Box((z0, y0, x0), (z1, y1, x1)), self.voxels, (cz, cy, cx))


def mask_labels(mask: Array | None) -> dict[int, MaskLabel]:
    """All lesions of a labelmap (z, y, x), found in one pass that skips planes without any."""
    tallies: dict[int, _Tally] = {}
    for z, plane in enumerate(mask if mask is not None else ()):
        if not plane.any():
            continue
        y, x = np.nonzero(plane != 0)  # of booleans several times faster than of numbers
        ids = plane[y, x]
        for lesion_id in np.unique(ids):
            chosen = ids == lesion_id
            tallies.setdefault(int(lesion_id), _Tally()).add(z, y[chosen], x[chosen])
    return {lesion_id: tally.label() for lesion_id, tally in sorted(tallies.items())}


def mask_point(mask: Array, lesion_id: int, label: MaskLabel, scan: Scan) -> Vector:
    """The centre of gravity of a lesion, or where that lies outside of it the lesion voxel nearest to it."""
    centre = np.asarray(label.centre_zyx)
    z, y, x = np.floor(centre + 0.5).astype(int)
    if mask[z, y, x] == lesion_id:
        return label.centre_zyx
    voxels = np.argwhere(mask[label.box.slices] == lesion_id) + np.asarray(label.box.start_zyx)
    distances = np.linalg.norm((voxels - centre) * np.asarray(scan.geometry.spacing_zyx), axis=1)
    pz, py, px = (float(value) for value in voxels[np.argmin(distances)])
    return (pz, py, px)


@dataclass
class Locator:
    """Works through the lesions of one case; `registrations` are made when a lesion first needs one."""

    case: Case
    registrations: RegistrationCache
    labels: dict[str, dict[int, MaskLabel]] = field(init=False)
    _warnings: list[str] = field(init=False, default_factory=list)
    _places: dict[tuple[int, str, str], Place] = field(init=False, default_factory=dict)
    _estimates: dict[LesionPrompt, PropagatedPoint] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = {scan.name: mask_labels(scan.mask) for scan in self.case.baseline.scans}

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
        self._carry(known)
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

    def _carry(self, known: Sequence[_Known]) -> None:
        """Find the places that nobody gave: of new lesions in each baseline scan, else in each follow-up."""
        ways = [way for lesion in known for way in self._ways(lesion)]
        for way, place in zip(ways, carry(ways, self.registrations), strict=True):
            self._places[way.lesion_id, way.source.name, way.target.name] = place

    def _ways(self, lesion: _Known) -> Iterator[Way]:
        if lesion.baselines and not lesion.given:
            for scan in self.case.followup.scans:
                source = _for_scan(lesion.baselines, scan)
                point = source.point.point_zyx
                yield Way(lesion.lesion_id, source.scan, point, scan, Direction.TO_FOLLOWUP)
        elif lesion.given and not lesion.baselines:
            for scan, given in lesion.given:
                for baseline in self.case.baseline.scans:
                    yield Way(lesion.lesion_id, scan, given.point_zyx, baseline, Direction.TO_BASELINE)

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
        point = mask_point(scan.mask, lesion_id, self.labels[scan.name][lesion_id], scan)
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
            Exception: none shows it, and of one it is not known; the first such error.
        """
        scans = self.case.followup.scans
        pairs = [(_for_scan(lesion.baselines, scan).scan, scan) for scan in scans]
        places = self._ends(lesion, pairs)
        depths_mm = [_depth_mm(scan, place) for scan, place in zip(scans, places, strict=True)]
        trusted_mm = [
            depth if not isinstance(place, Exception) and self._is_trusted(*pair) else math.nan
            for depth, place, pair in zip(depths_mm, places, pairs, strict=True)
        ]
        chosen = choose_scans(trusted_mm) or choose_scans(depths_mm)
        errors = [place for place in places if isinstance(place, Exception)]
        if errors and not chosen:
            raise errors[0]
        if chosen and len(scans) > 1:
            names = " and ".join(scans[index].name for index in chosen)
            log.info("lesion %d: propagated, answered in %s", lesion.lesion_id, names)
        return {
            scans[index]: place for index in chosen if isinstance(place := places[index], PropagatedPoint)
        }

    def _is_trusted(self, baseline: Scan, followup: Scan) -> bool:
        """The word of a registration that has been made."""
        return self.registrations.get(followup, baseline).is_reliable

    def _ends(self, lesion: _Known, pairs: Sequence[tuple[Scan, Scan]]) -> list[Place]:
        """Where the lesion's ways from scan to scan end; a point that is lost on its way is an error too."""
        ends: list[Place] = []
        for source, target in pairs:
            place = self._places[lesion.lesion_id, source.name, target.name]
            if isinstance(place, PropagatedPoint) and not np.isfinite(place.point_zyx).all():
                place = ValueError("the registration loses its point")
            if isinstance(place, Exception):
                where = f"lesion {lesion.lesion_id}: its place in {target.name} could not be found"
                self._warn(f"{where} ({one_line(place)})")
            ends.append(place)
        return ends

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
        baselines = self.case.baseline.scans
        places = self._ends(lesion, [(scan, baseline) for baseline in baselines])
        if all(isinstance(place, Exception) for place in places):
            world_mm = scan.geometry.zyx_to_world(point.point_zyx)
            indices = [baseline.geometry.world_to_zyx(world_mm) for baseline in baselines]
            places = [PropagatedPoint(index, np.inf, in_view=True, is_flagged=True) for index in indices]
        found = [
            (_depth_mm(baseline, place), baseline, place)
            for baseline, place in zip(baselines, places, strict=True)
            if isinstance(place, PropagatedPoint)
        ]
        return max(found, key=lambda candidate: candidate[0])

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


def _depth_mm(scan: Scan, place: Place) -> float:
    """How deep a place lies in its scan; NaN where it is not known."""
    return np.nan if isinstance(place, Exception) else scan.geometry.depth_mm(place.point_zyx)


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
