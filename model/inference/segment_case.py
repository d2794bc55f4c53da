"""Segment the lesions of a case in memory: locate, predict, merge. Knows no folders and no signals.

`segment_case` does all three. The steps are public for callers whose points are located already
(`predict_lesions`, `merge_lesions`), or that must save what is finished at any moment (`CaseSegmentation`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ..case.case import Case, LesionPrompt, LesionResult, Scan, Slot
from ..case.geometry import Array
from ..case.plausibility import PlausibilityNote, check_scan, log_notes
from ..errors import AllLesionsFailedError, one_line
from ..propagation.confidence import PropagatedPoint
from ..propagation.pair_plausibility import pair_notes
from ..propagation.pair_registrations import RegistrationCache
from ..timing import Timings
from .case_result import CaseResult, LesionOutcome, LesionStatus
from .fold_agreement import odd_fold, odd_fold_warnings
from .lazy_backend import LazyBackend
from .locate import LocatedLesions, Locator
from .merge import label_dtype, merge
from .options import CaseOptions, OverlapRule
from .run_report import point_words

if TYPE_CHECKING:  # torch is imported with the model, while the images are read
    from .load import LoadedModel
    from .robust import RobustSegmenter
    from .segmenter import LesionFailure, LesionSegmenter

log = logging.getLogger(__name__)

OnLesion = Callable[["LesionResult | LesionFailure", int, int], None]
"""Called after each lesion with its result or failure, the number of lesions done, and their total."""


@dataclass(frozen=True, eq=False)
class PredictedLesions:
    """Results and failures of lesions, in the order in which they were finished."""

    results: tuple[LesionResult, ...] = ()
    failures: tuple[LesionFailure, ...] = ()


def segment_case(
    case: Case,
    model: LoadedModel | RobustSegmenter | Callable[[], LoadedModel],
    options: CaseOptions | None = None,
    *,
    on_lesion: OnLesion | None = None,
    timings: Timings | None = None,
) -> CaseResult:
    """Segment every lesion of a case in its follow-up scans.

    Args:
        case: scans with masks and clicks, e.g. from `read_case`.
        model: the loaded model, or any robust segmenter; or a function that returns the model and is called
            after the lesions are located, so that loading may overlap with reading and locating.
        options: how lesions are located, segmented and merged; None takes the defaults. A robust segmenter
            has its own boosting and support.
        on_lesion: called after each lesion, from the calling thread.
        timings: stopwatch to use; None starts one.

    Returns:
        Labelmaps, one outcome per lesion, warnings, registrations and timings.

    Raises:
        InputError: the back end of the options does not exist, or what a given ``model`` function raises.
        WeightsError: likewise.
        MemoryExhaustedError: out of memory on every rung of the memory ladder.
        AllLesionsFailedError: there are lesions, and none of them could be segmented.
    """
    options = options or CaseOptions()
    ensemble = getattr(model, "ensemble", None)
    device = ensemble.options.registration_device if ensemble is not None else "auto"
    registration = LazyBackend(options.backend, device)
    if options.backend is not None:
        registration.load()  # an unknown name is reported before any work is done
    return CaseSegmentation(case, options, RegistrationCache(registration), timings).run(model, on_lesion)


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


class CaseSegmentation:
    """Segmentation of one case in steps; what is finished can be merged at any moment.

    `merge` may be called from another thread while `run` works, e.g. when a signal ends the process.

    Args:
        case: scans with masks and clicks.
        options: how lesions are located, segmented and merged.
        registrations: cache with the registration back end.
        timings: stopwatch to use; None starts one.
    """

    def __init__(
        self,
        case: Case,
        options: CaseOptions,
        registrations: RegistrationCache,
        timings: Timings | None = None,
    ) -> None:
        self.case = case
        self.options = options
        self.registrations = registrations
        self.timings = timings or Timings()
        self.model: LoadedModel | None = None
        self.located = LocatedLesions((), (), ())
        self.notes: tuple[PlausibilityNote, ...] = ()
        with self.timings.stage("locate"):
            self._locator = Locator(case, registrations)
            self._dtype = label_dtype(self._locator.lesion_ids())
        self._lock = Lock()
        self._finished = PredictedLesions()

    def run(
        self,
        model: LoadedModel | RobustSegmenter | Callable[[], LoadedModel],
        on_lesion: OnLesion | None = None,
    ) -> CaseResult:
        """Locate, predict and merge; see `segment_case`."""
        self.locate()
        self.predict(model() if callable(model) else model, on_lesion)
        with self.timings.stage("merge"):
            result = self.merge()
        return replace(result, seconds=self.timings.seconds)

    def locate(self) -> LocatedLesions:
        """Find the baseline and follow-up point of every lesion; clicks given, or propagated."""
        with self.timings.stage("locate"):
            self.notes = self._doubts_about_scans()
            self.located = self._locator.locate()
            self.notes += log_notes(pair_notes(self.registrations.records))
        return self.located

    def _doubts_about_scans(self) -> tuple[PlausibilityNote, ...]:
        labels = self._locator.labels
        before = [note for scan in self.case.baseline.scans for note in check_scan(scan, labels[scan.name])]
        return log_notes([*before, *(n for scan in self.case.followup.scans for n in check_scan(scan, {}))])

    def predict(self, model: LoadedModel | RobustSegmenter, on_lesion: OnLesion | None = None) -> None:
        """Segment every located lesion.

        Raises:
            MemoryExhaustedError: out of memory on every rung of the memory ladder.
            AllLesionsFailedError: there are lesions, and none of them could be segmented.
        """
        from .robust import RobustSegmenter, case_segmenter

        if isinstance(model, RobustSegmenter):
            segmenter = model
        else:
            self.model = model
            model.ensemble.notes.clear()  # those of earlier cases
            segmenter = case_segmenter(model, self.options, self.timings)

        def keep(lesion: LesionResult | LesionFailure, done: int, total: int) -> None:
            self._keep(lesion)
            _log_lesion(lesion, f"{done}/{total}", self.located.estimates.get(lesion.prompt))
            if on_lesion is not None:
                on_lesion(lesion, done, total)

        predict_lesions(self.located.prompts, segmenter, keep)
        for warning in self._odd_fold_warnings(self._finished.results):
            log.warning("%s", warning)
        reasons = [one_line(failure.error) for failure in self._finished.failures]
        reasons += [lesion.reason for lesion in self.located.failures]
        if reasons and not self._finished.results:
            raise AllLesionsFailedError(f"none of the {len(reasons)} lesions could be computed: {reasons[0]}")

    def merge(self, is_finished: bool = True) -> CaseResult:
        """Merge the lesions predicted so far.

        Args:
            is_finished: False marks lesions that have not been predicted yet as unfinished, not as failed.
        """
        with self._lock:
            finished = self._finished
        labelmaps = merge_lesions(
            self.case.followup.scans, finished.results, self.options.overlap, self._dtype
        )
        warnings = (*self.case.warnings, *(note.sentence for note in self.notes), *self.located.warnings)
        if self.model is not None:
            warnings += (*self.model.warnings, *self.model.ensemble.notes)
        warnings += tuple(self._odd_fold_warnings(finished.results))
        missing = LesionStatus.FAILED if is_finished else LesionStatus.UNFINISHED
        return CaseResult(
            self.case,
            labelmaps,
            (*self._prompted_outcomes(labelmaps, finished, missing), *self._unprompted_outcomes()),
            warnings,
            self.registrations.records,
            self.notes,
            self.timings.seconds,
        )

    def _odd_fold_warnings(self, results: Sequence[LesionResult]) -> list[str]:
        """A warning for each fold that disagrees wildly with all others on some lesions."""
        odd = [(result.prompt.lesion_id, odd_fold(result)) for result in results]
        folds = self.model.ensemble.folds if self.model is not None else ()
        names = [fold.path.parent.name for fold in folds]
        return odd_fold_warnings(odd, names)

    def _keep(self, lesion: LesionResult | LesionFailure) -> None:
        with self._lock:
            before = self._finished
            if isinstance(lesion, LesionResult):
                self._finished = replace(before, results=(*before.results, lesion))
            else:
                self._finished = replace(before, failures=(*before.failures, lesion))

    def _prompted_outcomes(
        self, labelmaps: Mapping[Slot, Array], finished: PredictedLesions, missing: LesionStatus
    ) -> list[LesionOutcome]:
        """Outcomes of lesions with a prompt; ``missing`` is the status of those neither done nor failed."""
        results = {id(result.prompt): result for result in finished.results}
        errors = {id(failure.prompt): one_line(failure.error) for failure in finished.failures}
        axial = {
            scan.slot: scan.file_grid.axial_labels(labelmaps[scan.slot]) for scan in self.case.followup.scans
        }
        outcomes = []
        for prompt in self.located.prompts:
            outcome = LesionOutcome(
                prompt.lesion_id,
                LesionStatus.FAILED if id(prompt) in errors else missing,
                prompt,
                self.located.estimates.get(prompt),
                self._baseline_ml(prompt),
                message=errors.get(id(prompt)),
            )
            result = results.get(id(prompt))
            if result is not None:
                outcome = _with_result(outcome, result, axial[prompt.followup.slot])
            outcomes.append(outcome)
        return outcomes

    def _unprompted_outcomes(self) -> list[LesionOutcome]:
        """Outcomes of lesions that no scan shows, and of those that could not be located."""
        parts = (
            (LesionStatus.OUT_OF_VIEW, self.located.out_of_view),
            (LesionStatus.FAILED, self.located.failures),
        )
        return [
            LesionOutcome(lesion.lesion_id, status, message=lesion.reason)
            for status, lesions in parts
            for lesion in lesions
        ]

    def _baseline_ml(self, prompt: LesionPrompt) -> float | None:
        if prompt.baseline.mask is None:
            return None
        label = self._locator.labels[prompt.baseline.name].get(prompt.lesion_id)
        return label.voxels * prompt.baseline.geometry.voxel_volume_ml if label is not None else 0.0


def _with_result(outcome: LesionOutcome, result: LesionResult, labelmap: Array) -> LesionOutcome:
    """The outcome of a predicted lesion: its volume (ml) is that of its voxels in the axial labelmap."""
    scan = result.prompt.followup
    voxels = labelmap[result.box.slices] == result.prompt.lesion_id
    volume_ml = int(np.count_nonzero(voxels)) * scan.geometry.voxel_volume_ml
    message = None if volume_ml else _empty_message(result)
    return replace(
        outcome,
        status=LesionStatus.SEGMENTED if volume_ml else LesionStatus.EMPTY,
        volume_followup_ml=volume_ml,
        message=message,
        result=result,
        odd_fold=odd_fold(result),
    )


def _empty_message(result: LesionResult) -> str | None:
    """The reason why a predicted lesion has no voxel in the labelmap, None for one that has vanished."""
    if result.mask.any():
        return "other lesions claimed all of its voxels"
    if result.prompt.is_new:
        return "given in the follow-up only, and no voxel was found there: it has not been seen in any scan"
    return None


def _log_lesion(
    lesion: LesionResult | LesionFailure, progress: str, estimate: PropagatedPoint | None
) -> None:
    prompt = lesion.prompt
    where = f"lesion {prompt.lesion_id} in {prompt.followup.name} ({progress})"
    if isinstance(lesion, LesionResult):
        volume_ml = int(np.count_nonzero(lesion.mask)) * prompt.followup.geometry.voxel_volume_ml
        log.info("%s: %.2f ml, point %s", where, volume_ml, point_words(prompt.followup_point, estimate))
        if prompt.is_new and not lesion.mask.any():
            log.warning("%s: %s", where, _empty_message(lesion))
    else:
        log.error("%s: failed: %s", where, one_line(lesion.error))
