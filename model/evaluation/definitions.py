"""Scoring rules of the challenge, of [Kirchhoff2025] and of [Rokuss2025], by name.

A definition sets the scope of its scores, the order in which lesions, scans and patients are averaged, and
the value of a metric if a mask is empty or a prediction is missing. Rules that the sources leave open are
ours; docs/evaluation.md lists which ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from .metrics import Metric, measured_value
from .records import LesionRecord, Scope


class Count(StrEnum):
    """Rule for the value of a metric, in place of a fixed number."""

    LEFT_OUT = "left out"
    MEASURED = "measured"
    DIAGONAL = "diagonal"  # of the scan in mm: the longest distance within it


class Order(StrEnum):
    """Order of averaging: the lesions of each scan, then all scans with equal weights, or all patients."""

    SCANS = "lesions, scans"
    PATIENTS = "lesions, scans, patients"


@dataclass(frozen=True, slots=True)
class EmptyRules:
    """Values of a metric for empty masks and missing predictions.

    Attributes:
        both_empty: neither mask has a voxel.
        reference_empty: only the prediction has voxels.
        prediction_empty: only the reference has voxels.
        missing: there is no file of the prediction, and the reference has voxels.
        missing_empty: there is no file of the prediction, and the reference is empty.
    """

    both_empty: float | Count
    reference_empty: float | Count
    prediction_empty: float | Count
    missing: float | Count
    missing_empty: float | Count = Count.LEFT_OUT


@dataclass(frozen=True, slots=True)
class Definition:
    """Scoring rules; ``scopes`` has the headline's first, ``metrics`` are in the order of the tables."""

    name: str
    source: str
    scopes: tuple[Scope, ...]
    order: Order
    metrics: tuple[Metric, ...]
    rules: Mapping[Metric, EmptyRules]

    def value(self, metric: Metric, record: LesionRecord) -> float | None:
        """Value of a metric for a record; None if the record is left out of the metric's means."""
        count = self._count(metric, record)
        if count is Count.DIAGONAL:
            return record.diagonal_mm
        if count is Count.MEASURED:
            return measured_value(metric, record)
        return None if count is Count.LEFT_OUT else float(count)

    def _count(self, metric: Metric, record: LesionRecord) -> float | Count:
        rules = self.rules[metric]
        has_reference, has_prediction = record.reference_voxels > 0, record.prediction_voxels > 0
        if not has_reference and not has_prediction and not record.is_real:
            return Count.LEFT_OUT  # a label predicted only at another step: there is nothing to score here
        if record.is_missing:
            return rules.missing if has_reference else rules.missing_empty
        if has_reference and has_prediction:
            return Count.MEASURED
        if has_reference:
            return rules.prediction_empty
        return rules.reference_empty if has_prediction else rules.both_empty


_OUT, _MEASURED, _DIAGONAL = Count.LEFT_OUT, Count.MEASURED, Count.DIAGONAL

_AGREEMENT = EmptyRules(_OUT, _OUT, 0.0, 0.0)
_DISTANCE = EmptyRules(_OUT, _OUT, _DIAGONAL, _DIAGONAL)
_FALSE_NEGATIVE = EmptyRules(_OUT, _OUT, _MEASURED, _MEASURED)
# False positives of a missing file are unknown; a value of 0 would reward it.
_FALSE_POSITIVE = EmptyRules(_MEASURED, _MEASURED, _MEASURED, _OUT)

_RULES: dict[Metric, EmptyRules] = {
    Metric.DICE: _AGREEMENT,
    Metric.RECALL: _AGREEMENT,
    Metric.PRECISION: _AGREEMENT,
    Metric.FN_ML: _FALSE_NEGATIVE,
    Metric.FP_ML: _FALSE_POSITIVE,
    Metric.FN_VOXELS: _FALSE_NEGATIVE,
    Metric.FP_VOXELS: _FALSE_POSITIVE,
    Metric.NSD: _AGREEMENT,
    Metric.HD95: _DISTANCE,
    Metric.ASSD: _DISTANCE,
    Metric.CPM: _AGREEMENT,
    Metric.DICE_25: EmptyRules(_OUT, _OUT, _OUT, _OUT),
    Metric.MED: EmptyRules(_OUT, _OUT, _OUT, _OUT),
    Metric.CHANGE_ERROR: EmptyRules(_MEASURED, _MEASURED, _MEASURED, _OUT),
}

# For tracked lesions an empty prediction is either right (1) or wrong (0).
_TRACKED = EmptyRules(1.0, 0.0, 0.0, 0.0, 0.0)
_TRACKING_RULES = _RULES | {
    Metric.DICE: _TRACKED,
    Metric.NSD: _TRACKED,
    Metric.PRECISION: replace(_AGREEMENT, reference_empty=0.0),
}


def _with_first(*first: Metric) -> tuple[Metric, ...]:
    return (*first, *(metric for metric in Metric if metric not in first))


DEFINITIONS: Mapping[str, Definition] = {
    "challenge": Definition(
        name="challenge",
        source="autoPET/CT IV: its script's formulas on a scan's whole foreground, then on single lesions",
        scopes=(Scope.SCAN, Scope.LESION),
        order=Order.SCANS,
        metrics=_with_first(Metric.DICE, Metric.FN_ML, Metric.FP_ML),
        rules=_RULES,
    ),
    "longitudinal": Definition(
        name="longitudinal",
        source="[Kirchhoff2025], Table 1, and LongiSeg's evaluation of lesion pairs",
        scopes=(Scope.LESION,),
        order=Order.SCANS,
        metrics=_with_first(Metric.DICE, Metric.FN_VOXELS, Metric.FP_VOXELS),
        rules=_RULES,
    ),
    "tracking": Definition(
        name="tracking",
        source="[Rokuss2025], Table 2 and appendix 9.2",
        scopes=(Scope.LESION,),
        order=Order.PATIENTS,
        metrics=_with_first(Metric.DICE, Metric.CPM, Metric.DICE_25, Metric.MED, Metric.NSD),
        rules=_TRACKING_RULES,
    ),
}
DEFAULT_DEFINITION = "longitudinal"
