"""Track the lesions of a series from time point to time point.

From the source, time points are visited forward in time, then backward. At each time point every lesion gets
a point (given there, or propagated by one registration per pair of scans), all lesions are segmented
together, and the results are passed on to the next time point. A lesion that first appears at another time
point is segmented there and tracked from there on, away from the source. A failure is reported for its time
point; tracking continues from the last reliable one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..case.case import Slot
from ..case.geometry import Array
from ..case.plausibility import log_notes
from ..errors import InputError
from ..inference.fold_agreement import odd_fold
from ..inference.merge import label_dtype, merge
from ..inference.robust import RobustSegmenter
from ..inference.segmenter import LesionSegmenter
from ..propagation.pair_plausibility import pair_notes
from ..propagation.pair_registrations import PairRegistrations, RegistrationCache
from ..propagation.register import Backend
from .lesion_history import LesionHistory, advance, labelled_voxels
from .lesion_state import SegmentedLesion
from .point_chooser import PointChooser
from .prompting import PromptBuilder
from .segmentation import assign_fates, results_on_scan, segment_lesions
from .series import (
    ConfidenceRule,
    PointOrigin,
    Series,
    SeriesResult,
    SeriesTimePoint,
    TrackedLesion,
    TrackedTimePoint,
    TrackingOptions,
)

log = logging.getLogger(__name__)


def track_series(
    series: Series,
    segmenter: LesionSegmenter,
    backend: Backend,
    options: TrackingOptions | None = None,
    on_time_point: Callable[[TrackedTimePoint], None] | None = None,
) -> SeriesResult:
    """Track all lesions of a series over all of its time points.

    Args:
        on_time_point: called with each time point as soon as it is done: the source, later time points, then
            earlier ones.

    Raises:
        InputError: points are to be chosen by a probability that this segmenter cannot predict.
        MemoryExhaustedError, WeightsError: no lesion can be segmented any more.
    """
    tracked = []
    for time_point in track_time_points(series, segmenter, backend, options):
        tracked.append(time_point)
        if on_time_point is not None:
            on_time_point(time_point)
    names = [point.name for point in series.time_points]
    tracked.sort(key=lambda point: names.index(point.name))
    return SeriesResult(series, tuple(tracked))


def track_time_points(
    series: Series, segmenter: LesionSegmenter, backend: Backend, options: TrackingOptions | None = None
) -> Iterator[TrackedTimePoint]:
    """Like `track_series`, but yield the time points in the order in which they are visited.

    Results are not kept, except for what later time points need.
    """
    options = options or TrackingOptions()
    needs_unprompted = options.choice is not None and options.choice.min_probability is not None
    if needs_unprompted and getattr(segmenter, "unprompted", None) is None:
        raise InputError("points cannot be chosen by probability with this segmenter; expected a model")
    return _Tracker(series, segmenter, backend, options).visit_all()


class _Tracker:
    """State of tracking one series."""

    def __init__(
        self, series: Series, segmenter: LesionSegmenter, backend: Backend, options: TrackingOptions
    ) -> None:
        self._series = series
        self._segmenter = segmenter
        self._backend = backend
        self._options = options
        self._times = {point.name: index for index, point in enumerate(series.time_points)}
        unprompted = segmenter.unprompted if isinstance(segmenter, RobustSegmenter) else None
        self._choose = PointChooser(options, unprompted)
        self._prompt_builder = PromptBuilder(series, self._choose)
        self._dtype = label_dtype([i for p in series.time_points for i in self._prompt_builder.given_ids(p)])
        self._histories: dict[int, LesionHistory] = {}

    def visit_all(self) -> Iterator[TrackedTimePoint]:
        source, points = self._series.source, self._series.time_points
        yield self._visit(points[source])
        from_source = self._histories
        for point in points[source + 1 :]:
            yield self._visit(point)
        self._histories = from_source
        for point in reversed(points[:source]):
            yield self._visit(point)

    def _visit(self, point: SeriesTimePoint) -> TrackedTimePoint:
        start = time.perf_counter()
        log.info("time point %s (%d of %d)", point.name, self._times[point.name] + 1, len(self._times))
        warnings = self._prompt_builder.unused_masks(point, self._histories)
        for warning in warnings:
            log.warning("%s", warning)
        notes = log_notes(self._prompt_builder.doubts(point))
        pairs = self._pairs()
        prompted, unplaced = self._prompt_builder.build(point, self._histories, pairs)
        notes += log_notes(pair_notes(pairs.records))
        is_source = point is self._series.time_points[self._series.source]
        segmented = segment_lesions(prompted, self._segmenter)
        masses = {lesion_id: history.mass for lesion_id, history in self._histories.items()}
        unseen = {lesion_id for lesion_id, history in self._histories.items() if not history.is_seen}
        segmented = assign_fates(point, segmented, is_source, self._options.fate, masses, unseen)
        labelmaps = {
            scan.slot: merge(scan, results_on_scan(segmented, scan), self._options.overlap, self._dtype)
            for scan in point.scans
        }
        lesions = [*(_tracked_lesion(lesion, labelmaps) for lesion in segmented), *unplaced]
        lesions.sort(key=lambda lesion: (lesion.lesion_id, str(lesion.slot)))
        for lesion in lesions:
            _log_lesion(lesion, point)
        self._histories = advance(self._histories, point, segmented, labelmaps, self._choose)
        seconds = time.perf_counter() - start
        warnings += tuple(note.sentence for note in notes)
        return TrackedTimePoint(point, labelmaps, tuple(lesions), pairs.records, warnings, seconds, notes)

    def _pairs(self) -> PairRegistrations:
        there_and_back = self._options.confidence is ConfidenceRule.THERE_AND_BACK
        options = self._options.confidence_options
        return PairRegistrations(
            RegistrationCache(self._backend),
            lambda scan: self._times[scan.time_point],
            there_and_back,
            options,
        )


def _tracked_lesion(segmented: SegmentedLesion, labelmaps: Mapping[Slot, Array]) -> TrackedLesion:
    prompted, scan, warnings = segmented.prompted, segmented.scan, segmented.prompted.warnings
    volume_ml = None
    if segmented.result is not None:
        axial = scan.file_grid.axial_labels(labelmaps[scan.slot])
        count = int(np.count_nonzero(labelled_voxels(segmented.result, axial)))
        volume_ml = count * scan.geometry.voxel_volume_ml
        if not count and segmented.fate is None:
            warnings += ("no voxel was found at its prompt",)
        if (odd := odd_fold(segmented.result)) is not None:
            warnings += (
                f"fold number {odd.position + 1} of the model disagrees with all others, look at it",
            )
    transferred = prompted.transferred
    return TrackedLesion(
        lesion_id=prompted.prompt.lesion_id,
        slot=scan.slot,
        fate=segmented.fate,
        prompt=prompted.prompt,
        origin=prompted.origin,
        propagated_from=transferred.request.source.name if transferred is not None else None,
        confidence_mm=transferred.confidence_mm if transferred is not None else None,
        is_flagged=transferred is not None and (transferred.is_flagged or not transferred.is_reliable),
        in_view=prompted.origin is not PointOrigin.CLIPPED
        and (transferred is None or transferred.depth_mm >= 0),
        has_given_box=prompted.has_given_box,
        result=segmented.result,
        volume_ml=volume_ml,
        warnings=warnings,
        seconds=segmented.seconds,
    )


def _log_lesion(lesion: TrackedLesion, point: SeriesTimePoint) -> None:
    name = f"lesion {lesion.lesion_id} in {lesion.slot}-{point.name}"
    if lesion.slot is None:
        name = f"lesion {lesion.lesion_id} at {point.name}"
    fate = f"{lesion.fate.fate}" if lesion.fate is not None else "source"
    for warning in lesion.warnings:
        log.warning("%s: %s", name, warning)
    if lesion.volume_ml is None:
        assert lesion.fate is not None
        log.warning("%s: %s: %s", name, fate, lesion.fate.reason)
        return
    confidence = (
        f" (typically within {lesion.confidence_mm:.1f} mm)" if lesion.confidence_mm is not None else ""
    )
    flag = ", flagged" if lesion.is_flagged else ""
    log.info("%s: %.2f ml, %s, point %s%s%s", name, lesion.volume_ml, fate, lesion.origin, confidence, flag)
