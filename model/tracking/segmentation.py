"""Segment the lesions of a time point and assess their fates."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..case.case import LesionResult, Scan, Slot
from ..case.geometry import Box
from ..errors import MemoryExhaustedError, WeightsError, one_line
from ..inference.robust import RobustSegmenter
from ..inference.segmenter import LesionFailure, LesionSegmenter
from .fates import FateAssessment, FateOptions, LesionFate, assess_fates
from .lesion_state import PromptedLesion, SegmentedLesion
from .series import SeriesTimePoint

log = logging.getLogger(__name__)

_Key = tuple[int, Slot]

# After these no other lesion can be segmented either.
_FATAL = (MemoryExhaustedError, WeightsError)


def segment_lesions(prompted: Sequence[PromptedLesion], segmenter: LesionSegmenter) -> list[SegmentedLesion]:
    """Segment each lesion, or take its given mask; a lesion that fails has no result.

    If the segmenter raises, contrary to its contract, the remaining lesions are segmented one by one, so that
    one lesion does not affect the others.

    Raises:
        MemoryExhaustedError, WeightsError: no lesion can be segmented any more.
    """
    segmented = {lesion.key: _from_given_mask(lesion) for lesion in prompted if lesion.given_mask is not None}
    pending = {lesion.key: lesion for lesion in prompted if lesion.given_mask is None}
    error = _segment_batch(list(pending.values()), segmenter, pending, segmented)
    if error is not None:
        log.error("the segmenter failed, lesions are segmented one by one", exc_info=error)
        for lesion in list(pending.values()):
            fault = _segment_batch([lesion], segmenter, pending, segmented)
            if fault is not None and pending.pop(lesion.key, None) is not None:
                segmented[lesion.key] = _failed(lesion, one_line(fault))
    for lesion in pending.values():
        segmented[lesion.key] = _failed(lesion, "the segmenter returned no result")
    return list(segmented.values())


def _segment_batch(
    batch: Sequence[PromptedLesion],
    segmenter: LesionSegmenter,
    pending: dict[_Key, PromptedLesion],
    segmented: dict[_Key, SegmentedLesion],
) -> Exception | None:
    """Segment a batch, moving its lesions from ``pending`` to ``segmented``; returns what was raised."""
    before = time.perf_counter()
    try:
        for result in _results(batch, segmenter):
            seconds, before = time.perf_counter() - before, time.perf_counter()
            lesion = pending.pop((result.prompt.lesion_id, result.prompt.followup.slot), None)
            if lesion is None:
                log.warning("a result for an unknown prompt, or a second one, was ignored")
            elif isinstance(result, LesionFailure):
                segmented[lesion.key] = _failed(lesion, one_line(result.error), seconds)
            else:
                segmented[lesion.key] = SegmentedLesion(lesion, result, seconds=seconds)
    except _FATAL:
        raise
    except Exception as error:
        return error
    return None


def _results(
    batch: Sequence[PromptedLesion], segmenter: LesionSegmenter
) -> Iterator[LesionResult | LesionFailure]:
    """Run the segmenter on all lesions; scan by scan if there are further points, which lie on one grid."""
    if not isinstance(segmenter, RobustSegmenter) or not any(lesion.further_points for lesion in batch):
        yield from segmenter.segment([lesion.prompt for lesion in batch]) if batch else ()
        return
    for slot in dict.fromkeys(lesion.key[1] for lesion in batch):
        in_scan = [lesion for lesion in batch if lesion.key[1] == slot]
        further = {
            lesion.prompt.lesion_id: lesion.further_points for lesion in in_scan if lesion.further_points
        }
        yield from segmenter.segment([lesion.prompt for lesion in in_scan], further)


def assign_fates(
    time_point: SeriesTimePoint,
    segmented: Sequence[SegmentedLesion],
    is_source: bool,
    options: FateOptions,
    masses: Mapping[int, Sequence[int]],
    unseen: Collection[int] = (),
) -> list[SegmentedLesion]:
    """Assess the fate of each lesion in its scan; results of vanished and not found lesions become empty.

    At the source only failures have a fate.

    Args:
        masses: lesion id -> ids of the other lesions with which it was one mass where it was seen last.
        unseen: ids of lesions that were given before, and that no time point so far has shown.
    """
    assigned = []
    for scan in time_point.scans:
        assessments = assess_fates(results_on_scan(segmented, scan), options, masses=masses, unseen=unseen)
        for lesion in segmented:
            if lesion.scan is scan:
                assigned.append(_with_fate(lesion, assessments.get(lesion.lesion_id), is_source))
    return assigned


def results_on_scan(segmented: Iterable[SegmentedLesion], scan: Scan) -> list[LesionResult]:
    """The results of all lesions that were segmented in a scan."""
    return [lesion.result for lesion in segmented if lesion.result is not None and lesion.scan is scan]


def _with_fate(lesion: SegmentedLesion, fate: FateAssessment | None, is_source: bool) -> SegmentedLesion:
    if lesion.result is None:
        return lesion
    mass = fate.merged_with if fate is not None else ()
    if is_source:
        return replace(lesion, fate=None, mass=mass)
    if fate is not None and fate.fate in (LesionFate.VANISHED, LesionFate.NOT_FOUND):
        return replace(lesion, result=_emptied(lesion.result), fate=fate)
    return replace(lesion, fate=fate, mass=mass)


def _from_given_mask(prompted: PromptedLesion) -> SegmentedLesion:
    """Use a given mask as the result, with probability 1."""
    mask = prompted.given_mask
    assert mask is not None
    return SegmentedLesion(prompted, LesionResult(prompted.prompt, mask.box, mask.voxels.astype(np.float32)))


def _failed(prompted: PromptedLesion, reason: str, seconds: float = 0.0) -> SegmentedLesion:
    return SegmentedLesion(prompted, None, FateAssessment(LesionFate.FAILED, reason, pieces=0), seconds)


def _emptied(result: LesionResult) -> LesionResult:
    return replace(result, box=Box((0, 0, 0), (0, 0, 0)), probability=np.zeros((0, 0, 0), np.float32))
