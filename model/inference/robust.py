"""Robust segmentation: given points go to the network directly, propagated points are boosted.

A propagated point may lie beside its lesion. Its lesion is predicted more than once ("boosting"), and the
component rule drops the parts of a result that do not belong to the point. The same segmenter serves a case
of two time points and a series; they differ in `RobustOptions.component_rule` only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..case.case import LesionPrompt, LesionResult, PointSource, Scan
from ..case.geometry import Vector
from ..errors import InputError, WeightsError
from ..timing import Timings
from .boost_options import Boosting, BoostOptions
from .boosting import BoostedSegmenter
from .components import LIMIT_MM, result_at_point
from .load import LoadedModel, load_model, load_single_time_point
from .options import DEFAULT_BOOST, CaseOptions, ModelOptions
from .segmenter import LesionFailure, LesionSegmenter, Segmenter
from .single_timepoint import SingleTimePointSegmenter
from .unprompted import unprompted_longitudinal, unprompted_single_timepoint
from .user_segmenter import FunctionSegmenter, SegmentRequest, load_function

log = logging.getLogger(__name__)

LONGITUDINAL, SINGLE = "longitudinal", "single"

UnpromptedProbability = Callable[[Scan, Sequence[Vector]], Sequence[float]]
"""(scan, points as voxel indices z, y, x) -> probability of lesion at each point without a prompt."""


class ComponentRule(StrEnum):
    """Lesions whose results are reduced to the component at their point."""

    NONE = "none"
    PROPAGATED = "propagated"  # those with a propagated point only: a case
    ALL = "all"  # a series


@dataclass(frozen=True, slots=True)
class RobustOptions:
    """Treatment of results whose propagated point may lie beside its lesion.

    Attributes:
        boost: boosting of lesions with a propagated point.
        component_rule: lesions that the component rule applies to.
        component_limit_mm: distance (mm) from the point within which a component must begin.
        keep_support: keep the probabilities around each lesion.
    """

    boost: BoostOptions = field(default_factory=lambda: BoostOptions(Boosting(DEFAULT_BOOST)))
    component_rule: ComponentRule = ComponentRule.PROPAGATED
    component_limit_mm: float = LIMIT_MM
    keep_support: bool = False

    @property
    def needs_support(self) -> bool:
        """True if the inner segmenter must keep the probabilities around each lesion."""
        return self.keep_support or self.boost.uses_support


class ComponentSegmenter:
    """A segmenter whose results are reduced to the component at their point.

    Parts that overlap an expected mask are kept as well: the lesion may have split.

    Args:
        inner: the segmenter.
        limit_mm: distance (mm) from the point within which a component must begin.
    """

    def __init__(self, inner: LesionSegmenter, limit_mm: float = LIMIT_MM) -> None:
        self._inner = inner
        self._limit_mm = limit_mm

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Segment each prompt once; a result that cannot be reduced is a failure of that lesion."""
        for result in self._inner.segment(prompts):
            yield result if isinstance(result, LesionFailure) else self._reduced(result)

    def _reduced(self, result: LesionResult) -> LesionResult | LesionFailure:
        try:
            return result_at_point(result, self._limit_mm, keep=result.prompt.followup_mask)
        except Exception as error:
            log.exception("lesion %d: the component rule failed on its result", result.prompt.lesion_id)
            return LesionFailure(result.prompt, error)


class RobustSegmenter:
    """Segments given points directly, and propagated points with boosting and the component rule.

    Args:
        inner: the plain segmenter; it must keep the support if ``options.needs_support``.
        options: boosting and component rule.
        notes: description of the model for the record of a series.
        unprompted: probability of lesion without a prompt; None if the segmenter cannot predict it.
    """

    def __init__(
        self,
        inner: LesionSegmenter,
        options: RobustOptions | None = None,
        notes: Mapping[str, Any] | None = None,
        unprompted: UnpromptedProbability | None = None,
    ) -> None:
        self._inner = inner
        self._options = options or RobustOptions()
        self.notes = dict(notes or {})
        self.unprompted = unprompted

    def segment(
        self, prompts: Sequence[LesionPrompt], extra_points: Mapping[int, Sequence[Vector]] | None = None
    ) -> Iterator[LesionResult | LesionFailure]:
        """Segment each prompt once: those with given points first, then those with propagated ones.

        Args:
            prompts: lesions to segment.
            extra_points: further points per lesion id for ``click-majority`` boosting, voxel indices
                (z, y, x) on the follow-up's grid; the prompts must then be of one scan.
        """
        options = self._options
        given = [prompt for prompt in prompts if not _is_propagated(prompt)]
        propagated = [prompt for prompt in prompts if _is_propagated(prompt)]
        for result in self._ruled(self._inner, ComponentRule.ALL).segment(given):
            yield result if options.keep_support else _without_support(result)
        if propagated:
            boosted = BoostedSegmenter(self._inner, options.boost, extra_points, options.keep_support)
            yield from self._ruled(boosted, ComponentRule.ALL, ComponentRule.PROPAGATED).segment(propagated)

    def _ruled(self, segmenter: LesionSegmenter, *rules: ComponentRule) -> LesionSegmenter:
        """The segmenter, with the component rule if the options name one of these."""
        if self._options.component_rule not in rules:
            return segmenter
        return ComponentSegmenter(segmenter, self._options.component_limit_mm)


def _is_propagated(prompt: LesionPrompt) -> bool:
    return prompt.followup_point.source is PointSource.PROPAGATED


def _without_support(result: LesionResult | LesionFailure) -> LesionResult | LesionFailure:
    if isinstance(result, LesionFailure) or result.support is None:
        return result
    return replace(result, support=None, support_probability=None)


def case_segmenter(
    model: LoadedModel, options: CaseOptions | None = None, timings: Timings | None = None
) -> RobustSegmenter:
    """Build the segmenter of a case from the longitudinal model."""
    options = options or CaseOptions()
    robust = RobustOptions(
        boost=BoostOptions(Boosting(options.boost)), keep_support=options.keep_probabilities
    )
    segmenter = Segmenter(model.plan, model.ensemble, timings, keep_support=robust.needs_support)
    return RobustSegmenter(segmenter, robust)


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """Choice of the segmenter of a series, and the treatment of its results.

    Attributes:
        name: ``longitudinal``, ``single`` (LesionLocator's networks) or a user's ``module:function``.
        weights_dir: folder of the model; None finds the default longitudinal one.
        model: how the networks are computed.
        boost: boosting of lesions with a propagated point.
        component_rule: reduce each result to the component at its point.
        component_limit_mm: distance (mm) from the point within which a component must begin.
    """

    name: str = LONGITUDINAL
    weights_dir: Path | None = None
    model: ModelOptions = ModelOptions()
    boost: BoostOptions = field(default_factory=lambda: BoostOptions(Boosting(DEFAULT_BOOST)))
    component_rule: bool = True
    component_limit_mm: float = LIMIT_MM

    @property
    def robust(self) -> RobustOptions:
        """Boosting and component rule of the results; in a series the rule applies to all lesions."""
        rule = ComponentRule.ALL if self.component_rule else ComponentRule.NONE
        return RobustOptions(self.boost, rule, self.component_limit_mm)

    def settings(self) -> dict[str, Any]:
        """The options as they are written into the record of a series."""
        return {
            "name": self.name,
            "weights_dir": self.weights_dir,
            "device": self.model.device,
            "precision": self.model.precision,
            "folds": self.model.folds,
            "tta": self.model.tta,
            "point_rounding": self.model.point_rounding,
            "deterministic": self.model.deterministic,
            "boost": asdict(self.boost),
            "component_rule": self.component_rule,
            "component_limit_mm": self.component_limit_mm,
        }


def make_segmenter(options: SegmenterOptions) -> RobustSegmenter:
    """Build the segmenter of a series and load its weights.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, or do not fit their plan.
        InputError: an unknown name, a user's module that fails, a GPU that does not exist, or rounded points
            of another segmenter than the longitudinal one.
    """
    if options.model.rounds_points and options.name != LONGITUDINAL:
        raise InputError(
            f"--point-rounding round: is of the {LONGITUDINAL} networks; expected truncate for {options.name}"
        )
    if ":" in options.name:
        return function_segmenter(load_function(options.name), options.robust, options.name)
    if options.name == LONGITUDINAL:
        return _longitudinal(options)
    if options.name == SINGLE:
        return _single(options)
    raise InputError(
        f"segmenter {options.name!r} is unknown; expected {LONGITUDINAL}, {SINGLE}, or your own "
        "module:function"
    )


def _longitudinal(options: SegmenterOptions) -> RobustSegmenter:
    return longitudinal_segmenter(load_model(options.weights_dir, options.model), options.robust)


def longitudinal_segmenter(model: LoadedModel, options: RobustOptions) -> RobustSegmenter:
    """Build the robust segmenter of a series from a loaded longitudinal model."""
    segmenter = Segmenter(model.plan, model.ensemble, keep_support=options.needs_support)
    notes = {
        "name": LONGITUDINAL,
        "folds": list(model.ensemble.options.folds),
        "weights": str(model.manifest.folder),
    }
    return RobustSegmenter(segmenter, options, notes, unprompted_longitudinal(model))


def function_segmenter(
    function: Callable[[SegmentRequest], Any], options: RobustOptions, name: str = "the segmenter"
) -> RobustSegmenter:
    """Build a robust segmenter around a user's function, which ``name`` stands for in messages."""
    return RobustSegmenter(FunctionSegmenter(function, name, options.needs_support), options, {"name": name})


def _single(options: SegmenterOptions) -> RobustSegmenter:
    if options.weights_dir is None:
        raise WeightsError("--segmenter single needs --weights; expected a folder in LesionLocator's layout")
    models = load_single_time_point(options.weights_dir, options.model)
    segmenter = SingleTimePointSegmenter(models, keep_support=options.robust.needs_support)
    notes = {
        "name": options.name,
        "folds": list(options.model.folds),
        "networks": [str(name) for name in models],
    }
    return RobustSegmenter(segmenter, options.robust, notes, unprompted_single_timepoint(models))
