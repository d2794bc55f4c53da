"""Result of segmenting a case: labelmaps, and one outcome per lesion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..case.case import Case, LesionPrompt, LesionResult, Slot
from ..case.geometry import Array, Geometry
from ..case.plausibility import PlausibilityNote
from ..propagation.confidence import PropagatedPoint
from ..propagation.pair_registrations import RegistrationRecord
from .baseline_lesions import BaselineLesions
from .fold_agreement import FoldSpread, OddFold


class LesionStatus(StrEnum):
    """Outcome of a lesion in one follow-up scan, or in none."""

    SEGMENTED = "segmented"
    EMPTY = "empty"  # predicted, but no voxel of the follow-up belongs to it
    OUT_OF_VIEW = "out-of-view"
    FAILED = "failed"
    UNFINISHED = "unfinished"  # the run ended before its turn
    PROPAGATED = "propagated"  # not predicted: the time was spent, its baseline mask lies at its point


@dataclass(frozen=True, eq=False)
class LesionOutcome:
    """One lesion in one follow-up scan, or in none if no scan shows it or it could not be located.

    Attributes:
        lesion_id: id of the lesion, its label in the labelmaps.
        status: what became of the lesion.
        prompt: scans and points; ``prompt.followup_point.source`` is given, propagated etc. None if the
            lesion has no prompt.
        estimate: of a propagated point, its estimated error and flags; None if no point was propagated.
        volume_baseline_ml: volume (ml) in the baseline mask, or as segmented there (`CaseResult.baseline`);
            None without a prompt, or if neither is known.
        volume_followup_ml: volume (ml) in the labelmap, after overlaps are resolved; None if not predicted.
        message: why the lesion has no voxels; None otherwise.
        result: mask and probabilities of the lesion, before overlaps are resolved; None if not predicted. A
            propagated lesion has its moved baseline mask.
        odd_fold: the fold that disagrees strongly with all others on the lesion, or None.
        fold_spread: how far the folds differ on the lesion; None if it is not known.
    """

    lesion_id: int
    status: LesionStatus
    prompt: LesionPrompt | None = None
    estimate: PropagatedPoint | None = None
    volume_baseline_ml: float | None = None
    volume_followup_ml: float | None = None
    message: str | None = None
    result: LesionResult | None = None
    odd_fold: OddFold | None = None
    fold_spread: FoldSpread | None = None


@dataclass(frozen=True, eq=False)
class CaseResult:
    """Everything that the segmentation of a case yields.

    Attributes:
        case: the case that was segmented.
        labelmaps: per follow-up scan, lesion ids (z, y, x), uint8 or uint16, on the grid of the scan's file;
            see `geometry`.
        outcomes: one per lesion and follow-up scan.
        warnings: of reading, locating and predicting.
        notes: doubts about scans and pairs of scans; their sentences are among the warnings.
        registrations: of the pairs of scans that were registered.
        seconds: wall time by stage, and ``total``.
        baseline: lesions that were segmented in the baseline, because it has no mask of them, or
            None.
    """

    case: Case
    labelmaps: dict[Slot, Array]
    outcomes: tuple[LesionOutcome, ...]
    warnings: tuple[str, ...] = ()
    registrations: tuple[RegistrationRecord, ...] = ()
    notes: tuple[PlausibilityNote, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    baseline: BaselineLesions | None = None

    def geometry(self, slot: Slot) -> Geometry:
        """Grid of a labelmap: that of the follow-up scan's file."""
        scan = self.case.followup.scan(slot)
        if scan is None:
            raise KeyError(slot)
        return scan.file_geometry

    @property
    def lesions(self) -> tuple[LesionResult, ...]:
        """Mask and probabilities of every predicted lesion, before overlaps are resolved."""
        return tuple(outcome.result for outcome in self.outcomes if outcome.result is not None)

    @property
    def failed_ids(self) -> tuple[int, ...]:
        """Ids of lesions that could not be segmented, in ascending order."""
        failed = {outcome.lesion_id for outcome in self.outcomes if outcome.status is LesionStatus.FAILED}
        return tuple(sorted(failed))

    @property
    def unfinished_ids(self) -> tuple[int, ...]:
        """Ids of lesions that were not segmented because the run ended before, in ascending order."""
        unfinished = (one.lesion_id for one in self.outcomes if one.status is LesionStatus.UNFINISHED)
        return tuple(sorted(set(unfinished)))
