"""Follow the lesions of a series from time point to time point.

From the source the series is walked forward in time, then backward. At each time point every lesion gets its
point (given there, or carried over by one registration per pair of scans), all are segmented together, and
what they became goes on to the next. A lesion that is first known elsewhere than at the source is segmented
there and followed onward, away from the source. What fails at one time point is said of that one; the chain
goes on from the last that held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..case.case import Slot
from ..case.geometry import Array
from ..errors import InputError
from ..inference.merge import label_dtype, merge
from ..inference.robust import RobustSegmenter
from ..inference.segmenter import LesionSegmenter
from ..propagation.pair_registrations import PairRegistrations, RegistrationCache
from ..propagation.register import Backend
from .lesion_state import LesionHistory, PointChooser, SegmentedLesion, go_on, lesion_voxels
from .prompting import PromptBuilder
from .segmentation import answer_all, results_in, with_fates
from .series import (
    ConfidenceRule,
    FollowOptions,
    Origin,
    Series,
    SeriesResult,
    SeriesTimePoint,
    TrackedLesion,
    TrackedTimePoint,
)

log = logging.getLogger(__name__)


def follow(
    series: Series,
    segmenter: LesionSegmenter,
    backend: Backend,
    options: FollowOptions | None = None,
    done: Callable[[TrackedTimePoint], None] | None = None,
) -> SeriesResult:
    """Follow all lesions of a series over all of its time points.

    Args:
        done: called with each time point as soon as it is answered: the source, those after it, those before.

    Raises:
        InputError: points are to be chosen by a probability that this segmenter cannot give.
        MemoryExhaustedError, WeightsError: the segmenter cannot go on for any lesion.
    """
    answered = []
    for time_point in follow_each(series, segmenter, backend, options):
        answered.append(time_point)
        if done is not None:
            done(time_point)
    names = [point.name for point in series.time_points]
    answered.sort(key=lambda point: names.index(point.name))
    return SeriesResult(series, tuple(answered))


def follow_each(
    series: Series, segmenter: LesionSegmenter, backend: Backend, options: FollowOptions | None = None
) -> Iterator[TrackedTimePoint]:
    """As `follow`, one time point after the other, in the order in which they are answered.

    Only what later ones need of a time point is kept.
    """
    options = options or FollowOptions()
    wants_unprompted = options.choice is not None and options.choice.min_probability is not None
    if wants_unprompted and getattr(segmenter, "unprompted", None) is None:
        raise InputError("points cannot be chosen by probability with this segmenter; expected one of ours")
    return _Walker(series, segmenter, backend, options).walk()


class _Walker:
    """One walk over the series."""

    def __init__(
        self, series: Series, segmenter: LesionSegmenter, backend: Backend, options: FollowOptions
    ) -> None:
        self._series = series
        self._segmenter = segmenter
        self._backend = backend
        self._options = options
        self._times = {point.name: index for index, point in enumerate(series.time_points)}
        unprompted = segmenter.unprompted if isinstance(segmenter, RobustSegmenter) else None
        self._choose = PointChooser(options, unprompted)
        self._asking = PromptBuilder(series, self._choose)
        self._dtype = label_dtype([i for p in series.time_points for i in self._asking.ids_given_at(p)])
        self._trails: dict[int, LesionHistory] = {}

    def walk(self) -> Iterator[TrackedTimePoint]:
        source, points = self._series.source, self._series.time_points
        yield self._visit(points[source])
        from_source = self._trails
        for point in points[source + 1 :]:
            yield self._visit(point)
        self._trails = from_source
        for point in reversed(points[:source]):
            yield self._visit(point)

    def _visit(self, point: SeriesTimePoint) -> TrackedTimePoint:
        start = time.perf_counter()
        log.info("time point %s (%d of %d)", point.name, self._times[point.name] + 1, len(self._times))
        warnings = self._asking.unused_masks(point, self._trails)
        for warning in warnings:
            log.warning("%s", warning)
        pairs = self._pairs()
        asked, lost = self._asking.asked_at(point, self._trails, pairs)
        answers = with_fates(
            point, answer_all(asked, self._segmenter), self._is_source(point), self._options.fate
        )
        labelmaps = {
            scan.slot: merge(scan, results_in(answers, scan), self._options.overlap, self._dtype)
            for scan in point.scans
        }
        lesions = [*(_tracked(answer, labelmaps) for answer in answers), *lost]
        lesions.sort(key=lambda lesion: (lesion.lesion_id, str(lesion.slot)))
        for lesion in lesions:
            _log_lesion(lesion, point)
        self._trails = go_on(self._trails, point, answers, labelmaps, self._choose)
        seconds = time.perf_counter() - start
        return TrackedTimePoint(point, labelmaps, tuple(lesions), pairs.records, warnings, seconds)

    def _is_source(self, point: SeriesTimePoint) -> bool:
        return point is self._series.time_points[self._series.source]

    def _pairs(self) -> PairRegistrations:
        there_and_back = self._options.confidence is ConfidenceRule.THERE_AND_BACK
        options = self._options.confidence_options
        return PairRegistrations(RegistrationCache(self._backend), self._times, there_and_back, options)


def _tracked(answer: SegmentedLesion, labelmaps: Mapping[Slot, Array]) -> TrackedLesion:
    asked, scan, warnings = answer.asked, answer.asked.prompt.followup, answer.asked.warnings
    volume_ml = None
    if answer.result is not None:
        axial = scan.axes.array(labelmaps[scan.slot])
        count = int(np.count_nonzero(lesion_voxels(answer.result, axial)))
        volume_ml = count * scan.geometry.voxel_volume_ml
        if not count and answer.fate is None:
            warnings += ("no voxel was found at its prompt",)
    moved = asked.moved
    return TrackedLesion(
        lesion_id=asked.prompt.lesion_id,
        slot=scan.slot,
        fate=answer.fate,
        prompt=asked.prompt,
        origin=asked.origin,
        carried_from=moved.request.source.name if moved is not None else None,
        confidence_mm=moved.confidence_mm if moved is not None else None,
        is_flagged=moved is not None and (moved.is_flagged or not moved.is_reliable),
        in_view=asked.origin is not Origin.CLIPPED and (moved is None or moved.depth_mm >= 0),
        has_given_box=asked.has_given_box,
        result=answer.result,
        volume_ml=volume_ml,
        warnings=warnings,
        seconds=answer.seconds,
    )


def _log_lesion(lesion: TrackedLesion, point: SeriesTimePoint) -> None:
    where = f"lesion {lesion.lesion_id} in {lesion.slot}-{point.name}"
    if lesion.slot is None:
        where = f"lesion {lesion.lesion_id} at {point.name}"
    fate = f"{lesion.fate.fate}" if lesion.fate is not None else "source"
    for warning in lesion.warnings:
        log.warning("%s: %s", where, warning)
    if lesion.volume_ml is None:
        assert lesion.fate is not None
        log.warning("%s: %s: %s", where, fate, lesion.fate.reason)
        return
    confidence = f" (within {lesion.confidence_mm:.1f} mm)" if lesion.confidence_mm is not None else ""
    flag = ", flagged" if lesion.is_flagged else ""
    log.info("%s: %.2f ml, %s, point %s%s%s", where, lesion.volume_ml, fate, lesion.origin, confidence, flag)
