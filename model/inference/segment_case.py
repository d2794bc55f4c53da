"""Segment the lesions of a case in memory: locate, predict, merge. Knows no folders and no signals.

`segment_case` does all three; `CaseSegmentation` is for callers that must save what is finished at any time.
`lesion_steps` has the steps for callers whose points are located already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from ..case.case import Case, LesionPrompt, LesionResult, PointSource, Slot
from ..case.geometry import Array
from ..case.plausibility import PlausibilityNote, check_scan, log_notes
from ..errors import AllLesionsFailedError, one_line
from ..progress import report_progress
from ..propagation.pair_plausibility import pair_notes
from ..propagation.pair_registrations import RegistrationCache
from ..timing import Timings
from .baseline_lesions import (
    BaselineLesion,
    BaselineLesions,
    baseline_prompts,
    missing_mask_warnings,
    segment_baseline,
    with_segmented_masks,
)
from .case_result import CaseResult, LesionOutcome, LesionStatus
from .fold_agreement import odd_fold, odd_fold_warnings
from .lazy_backend import LazyBackend
from .lesion_outcomes import log_lesion, outcome_with_result
from .lesion_steps import OnLesion, PredictedLesions, merge_lesions, predict_lesions
from .locate import LocatedLesions, Locator
from .merge import label_dtype
from .options import CaseOptions
from .time_budget import FoldPace, TimeBudget

if TYPE_CHECKING:  # torch is imported with the model, while the images are read
    from .load import LoadedModel
    from .robust import RobustSegmenter
    from .segmenter import LesionFailure, LesionSegmenter

log = logging.getLogger(__name__)


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


class CaseSegmentation:
    """Segmentation of one case in steps; finished lesions can be merged at any time.

    `merge` may be called from another thread while `run` works, e.g. when a signal ends the process.

    Args:
        case: scans with masks and clicks.
        options: how lesions are located, segmented and merged.
        registrations: cache with the registration back end.
        timings: stopwatch to use; None starts one.
        budget: of the time; None takes what is needed.
    """

    def __init__(
        self,
        case: Case,
        options: CaseOptions,
        registrations: RegistrationCache,
        timings: Timings | None = None,
        budget: TimeBudget | None = None,
    ) -> None:
        self.case = case
        self.options = options
        self.registrations = registrations
        self.timings = timings or Timings()
        self.model: LoadedModel | None = None
        self.located = LocatedLesions((), (), ())
        self.notes: tuple[PlausibilityNote, ...] = ()
        self.baseline: BaselineLesions | None = None
        self.budget = budget
        self._mask_warnings: tuple[str, ...] = ()
        self._stood_in: dict[int, str] = {}  # by the identity of the prompt, why
        self._is_closed = False
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
        """Segment every located lesion; baseline lesions without a mask first, see `baseline_lesions`.

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
            model.ensemble.pace = self._pace()
            segmenter = case_segmenter(model, self.options, self.timings)

        self._segment_baseline(segmenter)

        def keep(lesion: LesionResult | LesionFailure, done: int, total: int) -> None:
            if not self._keep(lesion):
                return
            report_progress("lesions", done, total)
            estimate = self.located.estimates.get(lesion.prompt)
            log_lesion(lesion, f"{done}/{total}", estimate, self._in_baseline(lesion.prompt))
            if on_lesion is not None:
                on_lesion(lesion, done, total)

        report_progress("lesions", 0, len(self.located.prompts))
        predict_lesions(self.located.prompts, segmenter, keep)
        for warning in self._odd_fold_warnings(self._finished.results):
            log.warning("%s", warning)
        reasons = [one_line(failure.error) for failure in self._finished.failures]
        reasons += [lesion.reason for lesion in self.located.failures]
        if reasons and not self._finished.results:
            raise AllLesionsFailedError(f"none of the {len(reasons)} lesions could be computed: {reasons[0]}")

    def _pace(self) -> FoldPace | None:
        """The pace of the folds within the time; None without a budget."""
        if self.budget is None:
            return None
        from .boost_options import Boosting, passes_of

        passes = passes_of(Boosting(self.options.boost))
        propagated = [p.followup_point.source is PointSource.PROPAGATED for p in self.located.prompts]
        takes_mask = self.model is None or self.model.ensemble.variant.takes_mask
        before = self.options.segment_baseline or not takes_mask
        first = len(baseline_prompts(self.located.prompts)) if before else 0
        return FoldPace(self.budget, first + sum(passes if is_one else 1 for is_one in propagated))

    def stand_in(self, segmenter: LesionSegmenter, reason: str) -> None:
        """Take the lesions that are not done from another segmenter; what `run` finishes later is dropped.

        May be called from another thread while `run` works. A lesion that the segmenter does not find stays
        unfinished.

        Args:
            segmenter: that needs no network.
            reason: for their outcomes.
        """
        with self._lock:
            self._is_closed = True
            prompts, finished = self.located.prompts, self._finished
        done = {id(result.prompt) for result in finished.results}
        done |= {id(failure.prompt) for failure in finished.failures}
        for lesion in segmenter.segment([prompt for prompt in prompts if id(prompt) not in done]):
            if isinstance(lesion, LesionResult) and lesion.mask.any():
                self._stood_in[id(lesion.prompt)] = reason
                self._finished = replace(self._finished, results=(*self._finished.results, lesion))

    def _segment_baseline(self, segmenter: RobustSegmenter) -> None:
        """Segment baseline lesions without a mask if the network takes no masks, or on request."""
        takes_mask = self.model is None or self.model.ensemble.variant.takes_mask
        if takes_mask and not self.options.segment_baseline:
            if self.model is not None:
                self._mask_warnings = missing_mask_warnings(self.located.prompts)
            for warning in self._mask_warnings:
                log.warning("%s", warning)
            return
        prompts = baseline_prompts(self.located.prompts)
        if not prompts:
            return
        self.baseline = segment_baseline(prompts, segmenter, self.options.overlap, self._dtype)
        if takes_mask:
            completed = with_segmented_masks(self.located.prompts, self.baseline)
            estimates = {completed[prompt]: value for prompt, value in self.located.estimates.items()}
            with self._lock:
                if not self._is_closed:
                    self.located = replace(
                        self.located, prompts=tuple(completed.values()), estimates=estimates
                    )

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
        warnings += self._mask_warnings if self.baseline is None else self.baseline.warnings
        warnings += tuple(self.budget.notes) if self.budget is not None else ()
        missing = LesionStatus.FAILED if is_finished else LesionStatus.UNFINISHED
        outcomes = [*self._prompted_outcomes(labelmaps, finished, missing), *self._unprompted_outcomes()]
        if not is_finished:
            known = {outcome.lesion_id for outcome in outcomes}
            unlocated = [one for one in self._locator.lesion_ids() if one not in known]
            outcomes += [LesionOutcome(lesion_id, LesionStatus.UNFINISHED) for lesion_id in unlocated]
        return CaseResult(
            self.case,
            labelmaps,
            tuple(outcomes),
            warnings,
            self.registrations.records,
            self.notes,
            self.timings.seconds,
            self.baseline,
        )

    def _odd_fold_warnings(self, results: Sequence[LesionResult]) -> list[str]:
        """A warning for each fold that disagrees strongly with all others on some lesions."""
        if self.baseline is not None:
            results = [*self.baseline.results, *results]
        odd = [(result.prompt.lesion_id, odd_fold(result)) for result in results]
        folds = self.model.ensemble.folds if self.model is not None else ()
        names = [fold.path.parent.name for fold in folds]
        return odd_fold_warnings(odd, names)

    def _keep(self, lesion: LesionResult | LesionFailure) -> bool:
        """Keep a finished lesion; False if the time was spent before it."""
        with self._lock:
            before = self._finished
            if self._is_closed:
                return False
            if isinstance(lesion, LesionResult):
                self._finished = replace(before, results=(*before.results, lesion))
            else:
                self._finished = replace(before, failures=(*before.failures, lesion))
            return True

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
                labelmap = axial[prompt.followup.slot]
                outcome = outcome_with_result(outcome, result, labelmap, self._in_baseline(prompt))
            if (reason := self._stood_in.get(id(prompt))) is not None:
                outcome = replace(outcome, status=LesionStatus.PROPAGATED, message=reason)
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

    def _in_baseline(self, prompt: LesionPrompt) -> BaselineLesion | None:
        return self.baseline.of(prompt) if self.baseline is not None else None

    def _baseline_ml(self, prompt: LesionPrompt) -> float | None:
        segmented = self._in_baseline(prompt)
        if segmented is not None:
            return segmented.volume_ml
        scan = self.case.baseline.scan(prompt.baseline.slot)
        if scan is None or scan.mask is None:  # as given: a segmented mask has no other lesions
            return None
        label = self._locator.labels[prompt.baseline.name].get(prompt.lesion_id)
        return label.voxels * prompt.baseline.geometry.voxel_volume_ml if label is not None else 0.0
