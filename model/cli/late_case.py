"""The rest of a case whose time is spent: baseline masks for lesions that were not predicted."""

from __future__ import annotations

from collections.abc import Sequence

from ..floor.floor_segmenter import FloorSegmenter
from ..floor.floors import Floor
from ..inference.case_result import CaseResult, LesionStatus
from ..inference.lazy_backend import LazyBackend
from ..inference.segment_case import CaseSegmentation
from ..inference.time_budget import TimeBudget
from ..inference.timed_backend import NOT_REGISTERED
from ..propagation.pair_registrations import RegistrationCache

_REASON = "not predicted in time: its baseline mask, moved to its point"


def finish_late(segmentation: CaseSegmentation, budget: TimeBudget) -> tuple[CaseSegmentation, CaseResult]:
    """Finish a segmentation that still works in another thread, whose further results are dropped.

    Args:
        segmentation: of a case that was read.
        budget: of its run; the step is noted.

    Returns:
        The segmentation that the result is of, and the result. Lesions without a baseline mask stay
        unfinished.
    """
    if not segmentation.located.prompts:
        segmentation = _located_by_headers(segmentation, budget)
    segmentation.stand_in(FloorSegmenter(Floor.PASTED), _REASON)
    result = segmentation.merge(is_finished=False)
    propagated = [one.lesion_id for one in result.outcomes if one.status is LesionStatus.PROPAGATED]
    budget.note(_late_words(sorted(set(propagated)), result.unfinished_ids))
    return segmentation, segmentation.merge(is_finished=False)


def _located_by_headers(segmentation: CaseSegmentation, budget: TimeBudget) -> CaseSegmentation:
    """The segmentation with points placed by the headers of the scans where none is given."""
    registrations = RegistrationCache(LazyBackend("identity"))
    located = CaseSegmentation(
        segmentation.case, segmentation.options, registrations, segmentation.timings, budget
    )
    located.locate()
    if registrations.records:
        budget.note(f"the time is spent: {NOT_REGISTERED}")
    return located


def _late_words(propagated: Sequence[int], unfinished: Sequence[int]) -> str:
    """The sentence about lesions that were not predicted in time."""
    if not (propagated or unfinished):
        return "the time is spent: all lesions were predicted until then"
    parts = []
    if propagated:
        parts.append(f"their baseline mask at their point: {', '.join(map(str, propagated))}")
    if unfinished:
        parts.append(f"no voxels without being vanished: {', '.join(map(str, unfinished))}")
    return f"the time is spent: lesions that were not predicted have {'; '.join(parts)}"
