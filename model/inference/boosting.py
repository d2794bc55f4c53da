"""Boosting: segment a lesion from several views and combine the results.

The methods are those of LinGuinE ([Garibli2025], section 2, "boosting"). A point propagated by registration
may lie at the rim of its lesion or beside it. Further views (from the middle of the first result, from points
nearby, or with the scans rotated) make the result depend less on the exact point.

Methods take two rounds (all lesions, then all lesions again from their first results) or one (all views of
all lesions). If a further view fails, the lesion keeps the results it has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from ..case.case import LesionPrompt, LesionResult, MaskPrompt
from ..case.geometry import AxisMap, Vector
from ..errors import one_line
from ..prompts.sampling import deepest_point
from .boost_options import TWO_ROUND_METHODS, Boosting, BoostOptions
from .boost_views import ROTATIONS, RotatedScans, perturbed_points, shifted_prompt
from .combine import (
    majority_vote,
    maximum_probability,
    mean_probability,
    pairwise_agreement,
    probability_support,
    trim_support,
)
from .components import result_at_point
from .counterpart import recentred_prompt
from .fold_agreement import total_counts
from .segmenter import LesionFailure, LesionSegmenter, lesion_result

log = logging.getLogger(__name__)

_ViewResult = LesionResult | LesionFailure


@dataclass(frozen=True, eq=False)
class _View:
    """One view of a lesion; ``number`` 0 is the prompt as given."""

    lesion: int  # index into the prompts
    number: int
    prompt: LesionPrompt
    rotation: AxisMap | None = None

    def rotated_back(self, result: _ViewResult) -> _ViewResult:
        """Bring a result of this view to the follow-up's own grid."""
        if self.rotation is None or isinstance(result, LesionFailure):
            return result
        back, shape = self.rotation.inverse(), self.prompt.followup.geometry.shape_zyx
        support, values = result.support, result.support_probability
        return LesionResult(
            result.prompt,
            back.box(result.box, shape),
            np.ascontiguousarray(back.array(result.probability)),
            None if support is None else back.box(support, shape),
            None if values is None else np.ascontiguousarray(back.array(values)),
            result.fold_votes,
        )


class BoostedSegmenter:
    """Segments each lesion from several views with another segmenter.

    Each prompt gets one result, with the prompt as it was given. A lesion fails if its first view fails; a
    further view that fails or has no result is left out. If the inner segmenter raises, lesions whose first
    view is done get that result, and the error is raised only if other lesions remain.

    Each further view moves both points of the prompt together, see `counterpart`. Re-prompting replaces a box
    by that of the first result, and a mask by the first result. Perturbing shifts box and mask together with
    the points.

    Args:
        inner: segments the single views.
        options: the method.
        extra_points: further points per lesion id for ``click-majority``, voxel indices (z, y, x) on the
            follow-up's axial grid; points outside of it are dropped. Lesions without any get perturbed ones.
        keep_support: keep the probabilities around the lesion, if the inner segmenter returns them.
    """

    def __init__(
        self,
        inner: LesionSegmenter,
        options: BoostOptions,
        extra_points: Mapping[int, Sequence[Vector]] | None = None,
        keep_support: bool = False,
    ) -> None:
        self._inner = inner
        self._options = options
        self._extra_points = extra_points or {}
        self._keep_support = keep_support
        self._agreements: WeakKeyDictionary[LesionPrompt, float] = WeakKeyDictionary()

    def agreement(self, prompt: LesionPrompt) -> float | None:
        """Mean pairwise Dice of a lesion's views, 0 to 1; None if it was segmented from one view only.

        With ``perturbed`` this is a measure of confidence in the point ([Garibli2025]).
        """
        return self._agreements.get(prompt)

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Segment each prompt once; results come in the order in which they are done.

        Raises:
            Exception: raised by the inner segmenter; lesions with a result come first.
        """
        if self._options.method is Boosting.NONE:
            yield from self._inner.segment(prompts)
        elif self._options.method in TWO_ROUND_METHODS:
            yield from self._segment_in_two_rounds(prompts)
        else:
            yield from self._segment_in_one_round(prompts)

    def _segment_in_one_round(self, prompts: Sequence[LesionPrompt]) -> Iterator[_ViewResult]:
        """Segment the views of a lesion in succession, so that few lesions are incomplete at a time."""
        rotated = RotatedScans()
        views = [
            view for lesion, prompt in enumerate(prompts) for view in self._views(lesion, prompt, rotated)
        ]
        expected = np.bincount([view.lesion for view in views], minlength=len(prompts))
        results: dict[int, dict[int, _ViewResult]] = {lesion: {} for lesion in range(len(prompts))}
        try:
            for view, result in self._segment_views(views):
                own = results[view.lesion]
                own[view.number] = result if isinstance(result, LesionFailure) else self._trimmed(result)
                if len(own) == expected[view.lesion]:
                    yield self._combined(prompts[view.lesion], results.pop(view.lesion))
        except Exception as error:
            started = [lesion for lesion, own in results.items() if 0 in own]
            for lesion in started:
                yield self._combined(prompts[lesion], results.pop(lesion))
            if results:
                raise
            log.warning("boosting stopped, further views are left out: %s", one_line(error))

    def _segment_in_two_rounds(self, prompts: Sequence[LesionPrompt]) -> Iterator[_ViewResult]:
        firsts: dict[int, LesionResult] = {}
        second_views: list[_View] = []
        first_views = [_View(i, 0, replace(prompt)) for i, prompt in enumerate(prompts)]
        try:
            for view, result in self._segment_views(first_views):
                prompt = prompts[view.lesion]
                second = self._safe_second_prompt(prompt, result)
                if second is None:
                    yield self._combined(prompt, {0: result})
                elif isinstance(result, LesionResult):
                    firsts[view.lesion] = self._trimmed(result)
                    second_views.append(_View(view.lesion, 1, second))
        except Exception:
            yield from self._first_results(prompts, firsts)
            raise
        try:
            for view, result in self._segment_views(second_views) if second_views else ():
                yield self._combined(prompts[view.lesion], {0: firsts.pop(view.lesion), 1: result})
        except Exception as error:
            log.warning("boosting stopped, first results are used: %s", one_line(error))
            yield from self._first_results(prompts, firsts)

    def _first_results(
        self, prompts: Sequence[LesionPrompt], firsts: Mapping[int, LesionResult]
    ) -> Iterator[_ViewResult]:
        for lesion, first in firsts.items():
            yield self._combined(prompts[lesion], {0: first})

    def _segment_views(self, views: Sequence[_View]) -> Iterator[tuple[_View, _ViewResult]]:
        """Segment views with the inner segmenter; results are on the follow-up's own grid."""
        pending = {id(view.prompt): view for view in views}
        for result in self._inner.segment([view.prompt for view in views]):
            view = pending.pop(id(result.prompt), None)
            if view is None:
                log.warning("a result for an unknown prompt, or a second one, was ignored")
                continue
            yield view, view.rotated_back(result)
        for view in pending.values():
            yield view, LesionFailure(view.prompt, RuntimeError("the segmenter returned no result"))

    def _views(self, lesion: int, prompt: LesionPrompt, rotated: RotatedScans) -> Iterator[_View]:
        """The views of a one-round method; prompts are copied, as views are identified by their prompt."""
        yield _View(lesion, 0, replace(prompt))
        if self._options.method is Boosting.ROTATED:
            for number, degrees in enumerate(self._options.turns, 1):
                yield _View(lesion, number, rotated.prompt(prompt, degrees), ROTATIONS[degrees])
        else:
            for number, point in enumerate(self._further_points(prompt), 1):
                yield _View(lesion, number, shifted_prompt(prompt, point))

    def _further_points(self, prompt: LesionPrompt) -> list[Vector]:
        options, geometry = self._options, prompt.followup.geometry
        if options.method is Boosting.CLICKS:
            distinct = dict.fromkeys(self._extra_points.get(prompt.lesion_id, ()))
            distinct.pop(prompt.followup_point.point_zyx, None)
            inside = [point for point in distinct if geometry.depth_mm(point) >= 0]
            if inside:
                return inside
        return perturbed_points(prompt, options.count, options.perturbation_mm, options.seed)

    def _safe_second_prompt(self, prompt: LesionPrompt, first: _ViewResult) -> LesionPrompt | None:
        try:
            return self._second_prompt(prompt, first)
        except Exception:  # one malformed result must not end the round for all lesions
            log.exception("lesion %d: cannot be re-prompted; the first result is used", prompt.lesion_id)
            return None

    def _second_prompt(self, prompt: LesionPrompt, first: _ViewResult) -> LesionPrompt | None:
        """The prompt from the middle of a first result; None if there is nothing to re-prompt from."""
        if isinstance(first, LesionFailure):
            return None
        lesion = result_at_point(replace(first, prompt=prompt), self._options.limit_mm)
        if not lesion.mask.any():
            return None
        middle = deepest_point(lesion.mask, lesion.box, prompt.followup.geometry.spacing_zyx)
        if prompt.followup_box is None and prompt.followup_mask is None:
            is_same = middle == prompt.followup_point.point_zyx
            return None if is_same else recentred_prompt(prompt, middle)
        box, mask = prompt.followup_box, prompt.followup_mask
        return replace(
            recentred_prompt(prompt, middle),
            followup_box=None if box is None else lesion.box,
            followup_mask=None if mask is None else MaskPrompt(lesion.box, lesion.mask),
        )

    def _trimmed(self, result: LesionResult) -> LesionResult:
        """Drop support that is not needed, to save memory while the other views are computed."""
        if result.support_probability is None:
            return result
        if not (self._options.uses_support or self._keep_support):
            return replace(result, support=None, support_probability=None)
        box, values = trim_support(*probability_support(result))
        return replace(result, support=box, support_probability=values)

    def _combined(self, prompt: LesionPrompt, views: Mapping[int, _ViewResult]) -> _ViewResult:
        """Combine the views of a lesion into one result with the lesion's own prompt."""
        first = views[0]
        if isinstance(first, LesionFailure):
            return LesionFailure(prompt, first.error)
        results = []
        for _, result in sorted(views.items()):
            if isinstance(result, LesionResult):
                results.append(result)
            else:
                error = one_line(result.error)
                log.warning("lesion %d: a further view failed and is left out: %s", prompt.lesion_id, error)
        try:
            combined = self._combine(prompt, results)
            if len(results) > 1:
                self._agreements[prompt] = pairwise_agreement(results)
        except Exception:  # a view that does not fit the others must not cost the lesion
            log.exception("lesion %d: its views could not be combined; the first is used", prompt.lesion_id)
            combined = first
        votes = total_counts([result.fold_votes for result in results])
        combined = replace(combined, prompt=prompt, fold_votes=votes)
        return combined if self._keep_support else replace(combined, support=None, support_probability=None)

    def _combine(self, prompt: LesionPrompt, results: Sequence[LesionResult]) -> LesionResult:
        first, method = results[0], self._options.method
        if len(results) == 1:
            return first
        if method is Boosting.REPROMPT:
            return results[1] if results[1].mask.any() else first
        box, values = _COMBINE[method](results)
        combined = lesion_result(prompt, box, values, keep_support=True)
        if method is Boosting.MERGED and not combined.mask.any():
            return first  # re-prompting from inside the lesion must not lose it
        return combined


_COMBINE = {
    Boosting.ADDITIVE: maximum_probability,
    Boosting.MERGED: mean_probability,
    Boosting.PERTURBED: mean_probability,
    Boosting.CLICKS: majority_vote,
    Boosting.ROTATED: mean_probability,
}
