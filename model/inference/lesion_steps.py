"""The two steps of located lesions: predict them, and merge them into labelmaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..case.case import LesionPrompt, LesionResult, Scan, Slot
from ..case.geometry import Array
from .merge import merge
from .options import OverlapRule

if TYPE_CHECKING:  # brings torch
    from .segmenter import LesionFailure, LesionSegmenter

OnLesion = Callable[["LesionResult | LesionFailure", int, int], None]
"""Called after each lesion with its result or failure, the number of lesions done, and their total."""


@dataclass(frozen=True, eq=False)
class PredictedLesions:
    """Results and failures of lesions, in the order in which they were finished."""

    results: tuple[LesionResult, ...] = ()
    failures: tuple[LesionFailure, ...] = ()


def predict_lesions(
    prompts: Sequence[LesionPrompt], segmenter: LesionSegmenter, on_lesion: OnLesion | None = None
) -> PredictedLesions:
    """Segment lesions whose points are known; a lesion that fails does not affect the others.

    Args:
        prompts: the lesions, in any number of scans.
        segmenter: e.g. from `robust.case_segmenter`.
        on_lesion: called after each lesion.

    Raises:
        MemoryExhaustedError: out of memory on every rung of the memory ladder.
    """
    results, failures = [], []
    for done, lesion in enumerate(segmenter.segment(prompts), 1):
        if isinstance(lesion, LesionResult):
            results.append(lesion)
        else:
            failures.append(lesion)
        if on_lesion is not None:
            on_lesion(lesion, done, len(prompts))
    return PredictedLesions(tuple(results), tuple(failures))


def merge_lesions(
    scans: Iterable[Scan], results: Sequence[LesionResult], rule: OverlapRule, dtype: type[np.unsignedinteger]
) -> dict[Slot, Array]:
    """Merge lesions into one labelmap per follow-up scan.

    Args:
        scans: the follow-up scans.
        results: lesions in any of them, in any order.
        rule: assignment of voxels that several lesions claim; see `merge`.
        dtype: number type of the labelmaps; see `label_dtype`.

    Returns:
        Labelmaps (z, y, x) on the grid of the scan's file; label = lesion id.
    """
    return {
        scan.slot: merge(scan, [r for r in results if r.prompt.followup is scan], rule, dtype)
        for scan in scans
    }
