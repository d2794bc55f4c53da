"""Asking the segmenter more than once for a lesion, and making one answer of its answers.

The methods are LinGuinE's ([Garibli2025], section 2, "boosting"). A point that registration has carried over
may lie at a lesion's rim or beside it; further views of the lesion, from the middle of the first answer, from
points round the given one, or with the scans turned, make the answer less dependent on where it fell.

A method is two rounds (all lesions, then all lesions again from their first answers) or one (all views of all
lesions). Whatever goes wrong with a further view, the lesion keeps the answers that it has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from weakref import WeakKeyDictionary

import numpy as np

from ..case.case import LesionPrompt, LesionResult, MaskPrompt
from ..case.geometry import AxisMap, Vector
from ..errors import InputError, one_line
from ..prompts.sampling import deepest_point
from .boost_views import TURNS, TurnedScans, moved_prompt, perturbed_points, prompt_at
from .combine import agreement, highest, majority, mean, soft, trimmed
from .components import LIMIT_MM, result_at_point
from .segmenter import LesionFailure, LesionSegmenter, lesion_result

log = logging.getLogger(__name__)

Answer = LesionResult | LesionFailure

MAX_PERTURBATION_MM = 5.0


class Boosting(StrEnum):
    """How often a lesion is asked for, and how its answers become one."""

    NONE = "none"
    # Two rounds: the second prompt is the voxel deepest inside the first answer.
    REPROMPT = "reprompt"  # the second answer counts
    ADDITIVE = "additive"  # the voxels of both
    MERGED = "merged-probabilities"  # the mean of both
    # One round of several views.
    PERTURBED = "perturbed"  # points near the given one; the mean
    CLICKS = "click-majority"  # several points; what more than half of the answers hold
    ROTATED = "rotated"  # the scans turned by quarters in the axial plane; the mean


_TWO_ROUNDS = (Boosting.REPROMPT, Boosting.ADDITIVE, Boosting.MERGED)


@dataclass(frozen=True, slots=True)
class BoostOptions:
    """What is asked beyond the first answer.

    Args:
        perturbation_mm: how far from the given point the perturbed ones lie at most; up to 5 mm.
        count: perturbed points per lesion beside the given one.
        seed: of the perturbed points; they depend on it and on the lesion's id alone.
        turns: degrees of the further views of ``rotated``: 90, 180, 270.
        limit_mm: how far from its point a lesion's first answer may begin to be re-prompted from.

    Raises:
        InputError: a value out of its range.
    """

    method: Boosting = Boosting.NONE
    perturbation_mm: float = MAX_PERTURBATION_MM
    count: int = 2
    seed: int = 0
    turns: tuple[int, ...] = (90, 180, 270)
    limit_mm: float = LIMIT_MM

    def __post_init__(self) -> None:
        if not 0 < self.perturbation_mm <= MAX_PERTURBATION_MM:
            raise InputError(
                f"perturbation of {self.perturbation_mm:g} mm: expected more than 0 and at most "
                f"{MAX_PERTURBATION_MM:g} mm"
            )
        if self.count < 1:
            raise InputError(f"{self.count} perturbed points: expected at least one")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: expected 0 or more")
        if not self.turns or not set(self.turns) <= set(TURNS) or len(set(self.turns)) < len(self.turns):
            raise InputError(f"turns of {self.turns} degrees: expected some of 90, 180 and 270, each once")

    @property
    def uses_support(self) -> bool:
        """Whether the method averages, and so wants probabilities of one half and less as well.

        Build the inner segmenter with ``keep_support`` then. Of answers without a support, all that lies
        outside of their box counts as 0.
        """
        return self.method in (Boosting.MERGED, Boosting.PERTURBED, Boosting.ROTATED)


@dataclass(frozen=True, eq=False)
class _View:
    """One way of asking for a lesion. ``number`` 0 is the prompt as it was given."""

    lesion: int  # index into the prompts
    number: int
    prompt: LesionPrompt
    turn: AxisMap | None = None

    def unturned(self, answer: Answer) -> Answer:
        """An answer to this view on the grid of the follow-up as it is."""
        if self.turn is None or isinstance(answer, LesionFailure):
            return answer
        back, shape = self.turn.inverse(), self.prompt.followup.geometry.shape_zyx
        support, values = answer.support, answer.support_probability
        return LesionResult(
            answer.prompt,
            back.box(answer.box, shape),
            np.ascontiguousarray(back.array(answer.probability)),
            None if support is None else back.box(support, shape),
            None if values is None else np.ascontiguousarray(back.array(values)),
        )


class BoostedSegmenter:
    """A segmenter that asks another one more than once for each lesion.

    It answers each prompt once, with the prompt it was given. A lesion whose first view fails is a failure; a
    further view that fails, or is never answered, is left out. Should the inner segmenter raise, the lesions
    whose first view is answered are answered with that; only when others are left is the error raised.

    Re-prompting replaces what a prompt holds: always its point, a box by that of the first answer, a mask by
    the first answer. Perturbing shifts a box and a mask together with the point.

    Args:
        inner: answers the single views.
        options: the method.
        extra_points: further points per lesion id for ``click-majority``, voxel indices (z, y, x) on the
            follow-up's axial grid; those outside of it are left out. Lesions without any get perturbed ones.
        keep_support: keep the probabilities round the lesion, where the inner segmenter gives them.
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
        """How much the answers to a prompt agreed: their mean pairwise Dice, 0 to 1.

        None when it was answered from one view only. With ``perturbed`` this is a confidence in the point
        (LinGuinE, [Garibli2025]).
        """
        return self._agreements.get(prompt)

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once, in the order in which they are done.

        Raises:
            Exception: what the inner segmenter raised, after the lesions that can be answered.
        """
        if self._options.method is Boosting.NONE:
            yield from self._inner.segment(prompts)
        elif self._options.method in _TWO_ROUNDS:
            yield from self._in_two_rounds(prompts)
        else:
            yield from self._in_one_round(prompts)

    def _in_one_round(self, prompts: Sequence[LesionPrompt]) -> Iterator[Answer]:
        """All views of a lesion next to each other, so that few lesions are open at a time."""
        turned = TurnedScans()
        views = [
            view for lesion, prompt in enumerate(prompts) for view in self._views(lesion, prompt, turned)
        ]
        expected = np.bincount([view.lesion for view in views], minlength=len(prompts))
        answers: dict[int, dict[int, Answer]] = {lesion: {} for lesion in range(len(prompts))}
        try:
            for view, answer in self._ask(views):
                mine = answers[view.lesion]
                mine[view.number] = answer if isinstance(answer, LesionFailure) else self._held(answer)
                if len(mine) == expected[view.lesion]:
                    yield self._joined(prompts[view.lesion], answers.pop(view.lesion))
        except Exception as error:
            started = [lesion for lesion, mine in answers.items() if 0 in mine]
            for lesion in started:
                yield self._joined(prompts[lesion], answers.pop(lesion))
            if answers:
                raise
            log.warning("further views were given up: %s", one_line(error))

    def _in_two_rounds(self, prompts: Sequence[LesionPrompt]) -> Iterator[Answer]:
        firsts: dict[int, LesionResult] = {}
        again: list[_View] = []
        try:
            for view, answer in self._ask([_View(i, 0, replace(prompt)) for i, prompt in enumerate(prompts)]):
                prompt = prompts[view.lesion]
                second = self._safe_reprompt(prompt, answer)
                if second is None:
                    yield self._joined(prompt, {0: answer})
                elif isinstance(answer, LesionResult):
                    firsts[view.lesion] = self._held(answer)
                    again.append(_View(view.lesion, 1, second))
        except Exception:
            yield from self._alone(prompts, firsts)
            raise
        try:
            for view, answer in self._ask(again) if again else ():
                yield self._joined(prompts[view.lesion], {0: firsts.pop(view.lesion), 1: answer})
        except Exception as error:
            log.warning("asking again was given up: %s", one_line(error))
            yield from self._alone(prompts, firsts)

    def _alone(self, prompts: Sequence[LesionPrompt], firsts: Mapping[int, LesionResult]) -> Iterator[Answer]:
        for lesion, first in firsts.items():
            yield self._joined(prompts[lesion], {0: first})

    def _ask(self, views: Sequence[_View]) -> Iterator[tuple[_View, Answer]]:
        """The inner segmenter's answer to each view, on the untouched follow-up's grid."""
        waiting = {id(view.prompt): view for view in views}
        for answer in self._inner.segment([view.prompt for view in views]):
            view = waiting.pop(id(answer.prompt), None)
            if view is None:
                log.warning("an answer to no prompt, or a second one, was ignored")
                continue
            yield view, view.unturned(answer)
        for view in waiting.values():
            yield view, LesionFailure(view.prompt, RuntimeError("the segmenter gave no answer"))

    def _views(self, lesion: int, prompt: LesionPrompt, turned: TurnedScans) -> Iterator[_View]:
        """A copy of the prompt as it is, then the others: copies, so that no two are the same object."""
        yield _View(lesion, 0, replace(prompt))
        if self._options.method is Boosting.ROTATED:
            for number, degrees in enumerate(self._options.turns, 1):
                yield _View(lesion, number, turned.prompt(prompt, degrees), TURNS[degrees])
        else:
            for number, point in enumerate(self._further_points(prompt), 1):
                yield _View(lesion, number, moved_prompt(prompt, point))

    def _further_points(self, prompt: LesionPrompt) -> list[Vector]:
        options, geometry = self._options, prompt.followup.geometry
        if options.method is Boosting.CLICKS:
            given = dict.fromkeys(self._extra_points.get(prompt.lesion_id, ()))  # none twice
            given.pop(prompt.followup_point.point_zyx, None)
            inside = [point for point in given if geometry.depth_mm(point) >= 0]
            if inside:
                return inside
        return perturbed_points(prompt, options.count, options.perturbation_mm, options.seed)

    def _safe_reprompt(self, prompt: LesionPrompt, answer: Answer) -> LesionPrompt | None:
        try:
            return self._reprompt(prompt, answer)
        except Exception:  # one odd answer must not end the round for all lesions
            log.exception("lesion %d: nothing to ask again from; the first answer counts", prompt.lesion_id)
            return None

    def _reprompt(self, prompt: LesionPrompt, answer: Answer) -> LesionPrompt | None:
        """The prompt from the middle of a first answer; None where there is nothing to ask again from."""
        if isinstance(answer, LesionFailure):
            return None
        lesion = result_at_point(replace(answer, prompt=prompt), self._options.limit_mm)
        if not lesion.mask.any():
            return None
        middle = deepest_point(lesion.mask, lesion.box, prompt.followup.geometry.spacing_zyx)
        if prompt.followup_box is None and prompt.followup_mask is None:
            is_same = middle == prompt.followup_point.point_zyx
            return None if is_same else prompt_at(prompt, middle)
        box, mask = prompt.followup_box, prompt.followup_mask
        return replace(
            prompt_at(prompt, middle),
            followup_box=None if box is None else lesion.box,
            followup_mask=None if mask is None else MaskPrompt(lesion.box, lesion.mask),
        )

    def _held(self, answer: LesionResult) -> LesionResult:
        """An answer as it waits for the others: without margins of (almost) nothing."""
        if answer.support_probability is None:
            return answer
        if not (self._options.uses_support or self._keep_support):
            return replace(answer, support=None, support_probability=None)
        box, values = trimmed(*soft(answer))
        return replace(answer, support=box, support_probability=values)

    def _joined(self, prompt: LesionPrompt, answers: Mapping[int, Answer]) -> Answer:
        """One answer out of all views of a lesion, with the lesion's own prompt."""
        first = answers[0]
        if isinstance(first, LesionFailure):
            return LesionFailure(prompt, first.error)
        seen = []
        for _, answer in sorted(answers.items()):
            if isinstance(answer, LesionResult):
                seen.append(answer)
            else:
                error = one_line(answer.error)
                log.warning("lesion %d: a further view failed, it is left out: %s", prompt.lesion_id, error)
        try:
            joined = self._result(prompt, seen)
            if len(seen) > 1:
                self._agreements[prompt] = agreement(seen)
        except Exception:  # a view that does not fit the others must not cost the lesion
            log.exception("lesion %d: its views could not be joined; the first counts", prompt.lesion_id)
            joined = first
        if self._keep_support:
            return replace(joined, prompt=prompt)
        return replace(joined, prompt=prompt, support=None, support_probability=None)

    def _result(self, prompt: LesionPrompt, results: Sequence[LesionResult]) -> LesionResult:
        first, method = results[0], self._options.method
        if len(results) == 1:
            return first
        if method is Boosting.REPROMPT:
            return results[1] if results[1].mask.any() else first
        box, values = _JOIN[method](results)
        joined = lesion_result(prompt, box, values, keep_support=True)
        if method is Boosting.MERGED and not joined.mask.any():
            return first  # asking again from inside of the lesion is no reason to lose it
        return joined


_JOIN = {
    Boosting.ADDITIVE: highest,
    Boosting.MERGED: mean,
    Boosting.PERTURBED: mean,
    Boosting.CLICKS: majority,
    Boosting.ROTATED: mean,
}
