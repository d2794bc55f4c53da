"""Records -> scores: each metric of each step, the curve over the steps, and the fate of vanished lesions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .averages import Average, LesionValue, average
from .definitions import Definition
from .metrics import OF_LESIONS_ALONE, Metric
from .records import LesionRecord, Scope

OVER_STEPS = (
    Metric.DICE,
    Metric.FN_ML,
    Metric.FP_ML,
    Metric.FN_VOXELS,
    Metric.FP_VOXELS,
    Metric.NSD,
    Metric.RECALL,
    Metric.PRECISION,
)


@dataclass(frozen=True, slots=True)
class MetricScore:
    metric: Metric
    average: Average


@dataclass(frozen=True, slots=True)
class VanishedCounts:
    """What became of lesions that were there before, in the reference and in the prediction.

    ``found``: gone in both; ``missed``: gone, but drawn (or no prediction); ``kept``: there and drawn;
    ``lost``: there, but nothing drawn.
    """

    found: int
    missed: int
    kept: int
    lost: int

    @property
    def sensitivity(self) -> float | None:
        """The share of vanished lesions that nothing was drawn for."""
        return self.found / (self.found + self.missed) if self.found + self.missed else None

    @property
    def specificity(self) -> float | None:
        """The share of lesions still there that something was drawn for."""
        return self.kept / (self.kept + self.lost) if self.kept + self.lost else None


@dataclass(frozen=True, slots=True)
class StepScore:
    """One step of one scope; ``vanished`` is None where nobody told what was there before."""

    step: int
    scope: Scope
    metrics: tuple[MetricScore, ...]
    vanished: VanishedCounts | None


@dataclass(frozen=True, slots=True)
class CurveScore:
    """The area under each metric over the steps, one apart: Dice from 0 to the number of steps less one."""

    scope: Scope
    metrics: tuple[MetricScore, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """``steps``: by step, the headline's scope first. ``curves`` is () with a single step."""

    definition: Definition
    steps: tuple[StepScore, ...]
    curves: tuple[CurveScore, ...]

    def last(self, scope: Scope) -> StepScore:
        return [score for score in self.steps if score.scope is scope][-1]


def score_records(records: Sequence[LesionRecord], definition: Definition) -> Scores:
    """Score the records by a definition."""
    steps = sorted({record.step for record in records})
    scored = [
        _step_score(step, scope, [r for r in records if r.step == step and r.scope is scope], definition)
        for step in steps
        for scope in definition.scopes
    ]
    curves = [
        CurveScore(scope, tuple(_curves([r for r in records if r.scope is scope], steps, definition)))
        for scope in (definition.scopes if len(steps) > 1 else ())
    ]
    return Scores(definition, tuple(scored), tuple(curves))


def scope_metrics(scope: Scope, definition: Definition) -> tuple[Metric, ...]:
    """The metrics that a scope has, in the definition's order."""
    return tuple(m for m in definition.metrics if scope is Scope.LESION or m not in OF_LESIONS_ALONE)


def metric_values(
    records: Iterable[LesionRecord], metric: Metric, definition: Definition
) -> list[LesionValue]:
    return [LesionValue(r.patient, r.scan, definition.value(metric, r)) for r in records]


def trapezoid(values: Sequence[float]) -> float:
    """The area under values one apart (the challenge's AUC)."""
    return float(np.trapezoid(values))


def vanished_counts(records: Iterable[LesionRecord]) -> VanishedCounts | None:
    """Count the lesions that are known to have been there before; None without any."""
    known = [record for record in records if record.existed]
    if not known:
        return None
    gone = [record for record in known if not record.reference_voxels]
    there = [record for record in known if record.reference_voxels]
    found = sum(not record.prediction_voxels and not record.is_missing for record in gone)
    kept = sum(record.prediction_voxels > 0 for record in there)
    return VanishedCounts(found, len(gone) - found, kept, len(there) - kept)


def _step_score(
    step: int, scope: Scope, records: Sequence[LesionRecord], definition: Definition
) -> StepScore:
    scores = tuple(
        MetricScore(metric, average(metric_values(records, metric, definition), definition.order))
        for metric in scope_metrics(scope, definition)
    )
    return StepScore(step, scope, scores, vanished_counts(records) if scope is Scope.LESION else None)


def _curves(
    records: Sequence[LesionRecord], steps: Sequence[int], definition: Definition
) -> Iterable[MetricScore]:
    by_lesion: dict[tuple[str, str, str, str], dict[int, LesionRecord]] = {}
    for record in records:
        by_lesion.setdefault(record.key, {})[record.step] = record
    for metric in OVER_STEPS:
        areas = []
        for (patient, scan, *_), of_step in by_lesion.items():
            values = [step_value(definition, metric, of_step[step]) for step in steps]
            known = [value for value in values if value is not None]
            # A step that does not count leaves no curve to take the area of.
            areas.append(LesionValue(patient, scan, trapezoid(known) if len(known) == len(values) else None))
        yield MetricScore(metric, average(areas, definition.order))


def step_value(definition: Definition, metric: Metric, record: LesionRecord) -> float | None:
    """What a record counts beside the same lesion's of another step or run; None where it does not."""
    is_false_positive = metric in (Metric.FP_ML, Metric.FP_VOXELS)
    if is_false_positive and not record.is_real and not record.is_missing and not record.prediction_voxels:
        return 0.0  # a label that is no lesion, at a step that does not draw it
    return definition.value(metric, record)
