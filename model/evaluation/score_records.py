"""Scores of records: metrics and changes at each step, and areas under the curves over the steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .averages import Average, LesionValue, average
from .change_scores import ChangeSlope, VanishedCounts, change_slope, vanished_counts
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
class StepScore:
    """Scores of one scope at one step.

    ``vanished`` is None if the lesions of the baseline are unknown, ``change`` if their volumes are; both are
    None for the foreground of scans.
    """

    step: int
    scope: Scope
    metrics: tuple[MetricScore, ...]
    vanished: VanishedCounts | None
    change: ChangeSlope | None = None


@dataclass(frozen=True, slots=True)
class CurveScore:
    """Area under each metric over the steps, which are one apart: Dice from 0 to the number of steps - 1."""

    scope: Scope
    metrics: tuple[MetricScore, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores: ``steps`` by step, the headline's scope first; ``curves`` is () with a single step."""

    definition: Definition
    steps: tuple[StepScore, ...]
    curves: tuple[CurveScore, ...]

    def last(self, scope: Scope) -> StepScore:
        """Return the scores of a scope at the last step."""
        return [score for score in self.steps if score.scope is scope][-1]


def score_records(records: Sequence[LesionRecord], definition: Definition) -> Scores:
    """Score records by a definition."""
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
    """List the metrics of a scope in the order of the definition."""
    return tuple(m for m in definition.metrics if scope is Scope.LESION or m not in OF_LESIONS_ALONE)


def metric_values(
    records: Iterable[LesionRecord], metric: Metric, definition: Definition
) -> list[LesionValue]:
    """List the values of a metric over records, as `average` takes them."""
    return [LesionValue(r.patient, r.scan, definition.value(metric, r)) for r in records]


def trapezoid(values: Sequence[float]) -> float:
    """Compute the area under values that are one apart (the challenge's AUC)."""
    return float(np.trapezoid(values))


def _step_score(
    step: int, scope: Scope, records: Sequence[LesionRecord], definition: Definition
) -> StepScore:
    scores = tuple(
        MetricScore(metric, average(metric_values(records, metric, definition), definition.order))
        for metric in scope_metrics(scope, definition)
    )
    if scope is Scope.SCAN:
        return StepScore(step, scope, scores, None)
    return StepScore(step, scope, scores, vanished_counts(records), change_slope(records))


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
            counted = [value for value in values if value is not None]
            # A lesion that is left out at a step has neither curve nor area.
            area = trapezoid(counted) if len(counted) == len(values) else None
            areas.append(LesionValue(patient, scan, area))
        yield MetricScore(metric, average(areas, definition.order))


def step_value(definition: Definition, metric: Metric, record: LesionRecord) -> float | None:
    """Value of a metric for a comparison of steps or runs; None if the record is left out."""
    is_false_positive = metric in (Metric.FP_ML, Metric.FP_VOXELS)
    if is_false_positive and not record.is_real and not record.is_missing and not record.prediction_voxels:
        return 0.0  # a label that is no lesion, at a step that does not predict it
    return definition.value(metric, record)
