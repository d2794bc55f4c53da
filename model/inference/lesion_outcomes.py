"""The outcome of a predicted lesion, the reason for an empty one, and its line in the log."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..case.case import LesionResult
from ..case.geometry import Array
from ..errors import one_line
from ..propagation.confidence import PropagatedPoint
from .baseline_lesions import BaselineLesion
from .case_result import LesionOutcome, LesionStatus
from .fold_agreement import fold_spread, odd_fold
from .run_report import point_words

if TYPE_CHECKING:  # brings torch
    from .segmenter import LesionFailure

log = logging.getLogger(__name__)


def outcome_with_result(
    outcome: LesionOutcome, result: LesionResult, labelmap: Array, before: BaselineLesion | None
) -> LesionOutcome:
    """Complete the outcome of a predicted lesion.

    Args:
        outcome: of the lesion.
        result: its prediction.
        labelmap: lesion ids (z, y, x) on the follow-up's axial grid; the volume is that of its voxels there.
        before: the lesion as it was segmented in the baseline; None if it was not.
    """
    scan = result.prompt.followup
    voxels = labelmap[result.box.slices] == result.prompt.lesion_id
    volume_ml = int(np.count_nonzero(voxels)) * scan.geometry.voxel_volume_ml
    message = None if volume_ml else _empty_message(result, before)
    return replace(
        outcome,
        status=LesionStatus.SEGMENTED if volume_ml else LesionStatus.EMPTY,
        volume_followup_ml=volume_ml,
        message=message,
        result=result,
        odd_fold=odd_fold(result),
        fold_spread=fold_spread(result),
    )


def _empty_message(result: LesionResult, before: BaselineLesion | None) -> str | None:
    """The reason why a predicted lesion has no voxel in the labelmap, None for one that has vanished."""
    if result.mask.any():
        return "other lesions claimed all of its voxels"
    if result.prompt.is_new:
        return "given in the follow-up only, and no voxel was found there: it has not been seen in any scan"
    if before is not None and not before.is_seen:
        return "no voxel was found in the baseline either: it has not been seen in any scan"
    return None


def log_lesion(
    lesion: LesionResult | LesionFailure,
    progress: str,
    estimate: PropagatedPoint | None,
    before: BaselineLesion | None,
) -> None:
    """Log a predicted lesion.

    Args:
        lesion: its result or failure.
        progress: number of lesions done, and their total.
        estimate: of its propagated follow-up point; None for another one.
        before: the lesion as it was segmented in the baseline; None if it was not.
    """
    prompt = lesion.prompt
    where = f"lesion {prompt.lesion_id} in {prompt.followup.name} ({progress})"
    if isinstance(lesion, LesionResult):
        volume_ml = int(np.count_nonzero(lesion.mask)) * prompt.followup.geometry.voxel_volume_ml
        log.info("%s: %.2f ml, point %s", where, volume_ml, point_words(prompt.followup_point, estimate))
        message = None if lesion.mask.any() else _empty_message(lesion, before)
        if message is not None:
            log.warning("%s: %s", where, message)
    else:
        log.error("%s: failed: %s", where, one_line(lesion.error))
