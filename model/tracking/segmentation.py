"""What the segmenter says of the lesions of a time point, and what became of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..case.case import LesionResult, Scan, Slot
from ..case.geometry import Box
from ..errors import MemoryExhaustedError, WeightsError, one_line
from ..inference.robust import RobustSegmenter
from ..inference.segmenter import LesionFailure, LesionSegmenter
from .fates import FateAssessment, FateOptions, LesionFate, fates
from .lesion_state import PromptedLesion, SegmentedLesion
from .series import SeriesTimePoint

log = logging.getLogger(__name__)

_Key = tuple[int, Slot]

# With these no other lesion can be answered either.
_ENDS_ALL = (MemoryExhaustedError, WeightsError)


def answer_all(asked: Sequence[PromptedLesion], segmenter: LesionSegmenter) -> list[SegmentedLesion]:
    """Each lesion's mask: as it was given, else segmented; without a result where that failed.

    A segmenter that raises, against the rules, is asked again for each lesion that it has not answered, so
    that one lesion never costs another.

    Raises:
        MemoryExhaustedError, WeightsError: nothing can be segmented any more.
    """
    answers = {here.key: _as_given(here) for here in asked if here.mask is not None}
    waiting = {here.key: here for here in asked if here.mask is None}
    error = _take(waiting, list(waiting.values()), segmenter, answers)
    if error is not None:
        log.error("the segmenter failed, lesions are asked for one by one", exc_info=error)
        for here in list(waiting.values()):
            fault = _take(waiting, [here], segmenter, answers)
            if fault is not None and waiting.pop(here.key, None) is not None:
                answers[here.key] = _failed(here, one_line(fault))
    for here in waiting.values():
        answers[here.key] = _failed(here, "the segmenter did not answer")
    return list(answers.values())


def _take(
    waiting: dict[_Key, PromptedLesion],
    asked: Sequence[PromptedLesion],
    segmenter: LesionSegmenter,
    answers: dict[_Key, SegmentedLesion],
) -> Exception | None:
    """Ask, and move who is answered from ``waiting`` to ``answers``; what was raised, if anything."""
    before = time.perf_counter()
    try:
        for answer in _segment(asked, segmenter):
            seconds, before = time.perf_counter() - before, time.perf_counter()
            here = waiting.pop((answer.prompt.lesion_id, answer.prompt.followup.slot), None)
            if here is None:
                log.warning("an answer to no prompt, or a second one, was ignored")
            elif isinstance(answer, LesionFailure):
                answers[here.key] = _failed(here, one_line(answer.error), seconds)
            else:
                answers[here.key] = SegmentedLesion(here, answer, seconds=seconds)
    except _ENDS_ALL:
        raise
    except Exception as error:
        return error
    return None


def _segment(
    asked: Sequence[PromptedLesion], segmenter: LesionSegmenter
) -> Iterator[LesionResult | LesionFailure]:
    """All lesions together; scan by scan where they have further points, as those lie on one grid."""
    if not isinstance(segmenter, RobustSegmenter) or not any(here.others for here in asked):
        yield from segmenter.segment([here.prompt for here in asked]) if asked else ()
        return
    for slot in dict.fromkeys(here.key[1] for here in asked):
        mine = [here for here in asked if here.key[1] == slot]
        others = {here.prompt.lesion_id: here.others for here in mine if here.others}
        yield from segmenter.segment([here.prompt for here in mine], others)


def with_fates(
    point: SeriesTimePoint, answers: Sequence[SegmentedLesion], is_source: bool, options: FateOptions
) -> list[SegmentedLesion]:
    """The answers with what became of each lesion in its scan; those that have vanished lose their voxels.

    At the source fates are counted from: there only failures have one.
    """
    judged = []
    for scan in point.scans:
        found = fates(results_in(answers, scan), options)
        for answer in answers:
            if answer.asked.prompt.followup is scan:
                judged.append(_judged(answer, found.get(answer.asked.prompt.lesion_id), is_source))
    return judged


def results_in(answers: Iterable[SegmentedLesion], scan: Scan) -> list[LesionResult]:
    return [
        answer.result
        for answer in answers
        if answer.result is not None and answer.asked.prompt.followup is scan
    ]


def _judged(answer: SegmentedLesion, fate: FateAssessment | None, is_source: bool) -> SegmentedLesion:
    if answer.result is None:
        return answer
    if is_source:
        return replace(answer, fate=None)
    if fate is not None and fate.fate is LesionFate.VANISHED:
        return replace(answer, result=_emptied(answer.result), fate=fate)
    return replace(answer, fate=fate)


def _as_given(asked: PromptedLesion) -> SegmentedLesion:
    """A given mask as if it had been segmented without any doubt."""
    assert asked.mask is not None
    return SegmentedLesion(
        asked, LesionResult(asked.prompt, asked.mask.box, asked.mask.voxels.astype(np.float32))
    )


def _failed(asked: PromptedLesion, reason: str, seconds: float = 0.0) -> SegmentedLesion:
    return SegmentedLesion(asked, None, FateAssessment(LesionFate.FAILED, reason, pieces=0), seconds)


def _emptied(result: LesionResult) -> LesionResult:
    return replace(result, box=Box((0, 0, 0), (0, 0, 0)), probability=np.zeros((0, 0, 0), np.float32))
