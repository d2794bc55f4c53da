"""Give every lesion of a case its baseline and follow-up point: given by clicks, by the mask, or propagated.

The rules are those of the interface ("Odd input"); what had to be mended is said in a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..case.case import Case, LesionPrompt, PointSource, PromptPoint, Scan, UnansweredLesion
from ..case.geometry import Array, Box, Vector
from ..errors import one_line
from ..propagation.propagate import (
    CLIP_LIMIT_MM,
    Direction,
    RegistrationCache,
    choose_scans,
    propagate_points,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MaskLabel:
    """One lesion in a baseline mask: its voxels' bounding box, count and centre of gravity (z, y, x)."""

    box: Box
    voxels: int
    centre_zyx: Vector


@dataclass(frozen=True, eq=False)
class Located:
    """Who is asked of the network, who cannot be, and what was odd."""

    prompts: tuple[LesionPrompt, ...]
    unanswered: tuple[UnansweredLesion, ...]
    warnings: tuple[str, ...]
    failures: tuple[UnansweredLesion, ...] = ()


@dataclass(frozen=True, eq=False)
class _Baseline:
    """A baseline scan that knows a lesion, and its point there."""

    scan: Scan
    point: PromptPoint
    volume_ml: float


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

    def __post_init__(self) -> None:
        self.labels = {scan.name: mask_labels(scan.mask) for scan in self.case.baseline.scans}

    def locate(self) -> Located:
        """Answer for every id that is clicked anywhere or stands in a baseline mask."""
        prompts: list[LesionPrompt] = []
        unanswered: list[UnansweredLesion] = []
        failures: list[UnansweredLesion] = []
        for lesion_id in self.lesion_ids():
            try:
                found = list(self._prompts(lesion_id))
            except Exception as error:  # one lesion's failure never loses the others
                log.exception("lesion %d could not be located", lesion_id)
                failures.append(UnansweredLesion(lesion_id, one_line(error)))
                continue
            prompts += found
            if not found:
                reason = self._why_unanswered(lesion_id)
                self._warn(f"lesion {lesion_id}: {reason}; it has no voxels")
                unanswered.append(UnansweredLesion(lesion_id, reason))
        for record in self.registrations.records:
            self._warnings += [f"{record.followup} to {record.baseline}: {text}" for text in record.warnings]
        return Located(tuple(prompts), tuple(unanswered), tuple(self._warnings), tuple(failures))

    def _why_unanswered(self, lesion_id: int) -> str:
        if self._baselines(lesion_id):
            return "its place lies outside of every follow-up scan's field of view"
        return "its only click lies far outside of its scan, and no baseline mask holds it"

    def lesion_ids(self) -> list[int]:
        """In the order of first appearance: clicks of all scans, then mask labels without a click."""
        scans = (*self.case.baseline.scans, *self.case.followup.scans)
        ids = dict.fromkeys(click.lesion_id for scan in scans for click in scan.clicks)
        ids |= dict.fromkeys(lesion_id for labels in self.labels.values() for lesion_id in labels)
        return list(ids)

    def _prompts(self, lesion_id: int) -> Iterator[LesionPrompt]:
        baselines = self._baselines(lesion_id)
        given = [
            (scan, point)
            for scan in self.case.followup.scans
            if (point := self._clicked_point(scan, lesion_id)) is not None
        ]
        if not baselines:
            for scan, point in given:
                yield self._new_lesion(lesion_id, scan, point)
            return
        for scan, point in given or self._propagated(lesion_id, baselines):
            baseline = _for_scan(baselines, scan)
            yield LesionPrompt(
                lesion_id=lesion_id,
                baseline=baseline.scan,
                baseline_point=baseline.point,
                followup=scan,
                followup_point=point,
                has_mask=lesion_id in self.labels[baseline.scan.name],
            )

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

    def _propagated(self, lesion_id: int, baselines: list[_Baseline]) -> list[tuple[Scan, PromptPoint]]:
        """The lesion's place in each follow-up scan that shows it, found by registration."""
        scans, points = self.case.followup.scans, []
        for scan in scans:
            baseline = _for_scan(baselines, scan)
            points.append(self._moved(baseline.scan, baseline.point.point_zyx, scan, Direction.TO_FOLLOWUP))
        depths = [scan.geometry.depth_mm(point) for scan, point in zip(scans, points, strict=True)]
        chosen = choose_scans(depths)
        if chosen and len(scans) > 1:
            names = " and ".join(scans[index].name for index in chosen)
            log.info("lesion %d: propagated, answered in %s", lesion_id, names)
        return [
            (scans[index], PromptPoint(scans[index].geometry.clip(points[index]), PointSource.PROPAGATED))
            for index in chosen
        ]

    def _new_lesion(self, lesion_id: int, scan: Scan, point: PromptPoint) -> LesionPrompt:
        """A lesion that only the follow-up knows: its baseline point is the follow-up's, carried back."""
        candidates = []
        for baseline in self.case.baseline.scans:
            moved = self._moved(scan, point.point_zyx, baseline, Direction.TO_BASELINE)
            candidates.append((baseline.geometry.depth_mm(moved), baseline, moved))
        depth, baseline, moved = max(candidates, key=lambda candidate: candidate[0])
        self._warn(f"lesion {lesion_id}: new, known to {scan.name} only; segmented without a baseline mask")
        if depth < -CLIP_LIMIT_MM:
            self._warn(f"lesion {lesion_id}: its place lies {-depth:.0f} mm outside of the baseline scans")
        return LesionPrompt(
            lesion_id=lesion_id,
            baseline=baseline,
            baseline_point=PromptPoint(baseline.geometry.clip(moved), PointSource.PROPAGATED),
            followup=scan,
            followup_point=point,
            has_mask=False,
            is_new=True,
        )

    def _moved(self, source: Scan, point_zyx: Vector, target: Scan, direction: Direction) -> Vector:
        pair = (target, source) if direction == Direction.TO_FOLLOWUP else (source, target)
        registration = self.registrations.get(*pair)
        moved = propagate_points(
            [point_zyx], source.geometry, target.geometry, registration.transform, direction
        )
        z, y, x = (float(value) for value in moved[0])
        return (z, y, x)

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            log.warning("%s", text)
            self._warnings.append(text)


def _for_scan(baselines: list[_Baseline], followup: Scan) -> _Baseline:
    """Of the baseline scans that know a lesion the one in the follow-up's own slot, else the first."""
    return next((known for known in baselines if known.scan.slot == followup.slot), baselines[0])
