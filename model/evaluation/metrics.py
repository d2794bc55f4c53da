"""Metrics of a lesion that both reference and prediction contain; `definitions` handles empty masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from .overlap import dice
from .records import LesionRecord

MATCH_MM = 25.0
"""Centres within this distance belong to the same lesion (CPM@25, [Rokuss2025])."""


class Metric(StrEnum):
    """All metrics: shares from 0 to 1, volumes in ml or voxels of the follow-up, distances in mm."""

    DICE = "dice"
    RECALL = "recall"
    PRECISION = "precision"
    FN_ML = "fn_volume_ml"
    FP_ML = "fp_volume_ml"
    FN_VOXELS = "fn_volume_voxels"
    FP_VOXELS = "fp_volume_voxels"
    NSD = "nsd_2mm"
    HD95 = "hd95_mm"
    ASSD = "assd_mm"
    CPM = "cpm_25"
    DICE_25 = "dice_25"
    MED = "med_mm"
    CHANGE_ERROR = "volume_change_error_percent"


LARGER_IS_BETTER = frozenset(
    {Metric.DICE, Metric.RECALL, Metric.PRECISION, Metric.NSD, Metric.CPM, Metric.DICE_25}
)
OF_LESIONS_ALONE = frozenset({Metric.CPM, Metric.DICE_25, Metric.MED})
"""Metrics that are not defined for a scan's foreground, as its centre has no meaning."""


def measured_value(metric: Metric, record: LesionRecord) -> float | None:
    """Compute a metric from a record; None if the metric does not apply to it."""
    return _MEASURES[metric](record)


def _dice(record: LesionRecord) -> float:
    return dice(record.reference_voxels, record.prediction_voxels, record.common_voxels)


def _centres_match(record: LesionRecord) -> float | None:
    return None if record.centre_mm is None else float(record.centre_mm <= MATCH_MM)


def _matched_dice(record: LesionRecord) -> float | None:
    return _dice(record) if _centres_match(record) else None


def _change_error(record: LesionRecord) -> float | None:
    """Error of the predicted change in volume, in percent of the baseline's volume."""
    if not record.baseline_ml:
        return None
    return 100 * abs(record.prediction_ml - record.reference_ml) / record.baseline_ml


_MEASURES: Mapping[Metric, Callable[[LesionRecord], float | None]] = {
    Metric.DICE: _dice,
    Metric.RECALL: lambda record: record.common_voxels / record.reference_voxels,
    Metric.PRECISION: lambda record: record.common_voxels / record.prediction_voxels,
    Metric.FN_ML: lambda record: record.fn_voxels * record.voxel_ml,
    Metric.FP_ML: lambda record: record.fp_voxels * record.voxel_ml,
    Metric.FN_VOXELS: lambda record: float(record.fn_voxels),
    Metric.FP_VOXELS: lambda record: float(record.fp_voxels),
    Metric.NSD: lambda record: record.nsd_2mm,
    Metric.HD95: lambda record: record.hd95_mm,
    Metric.ASSD: lambda record: record.assd_mm,
    Metric.CPM: _centres_match,
    Metric.DICE_25: _matched_dice,
    Metric.MED: lambda record: record.centre_mm,
    Metric.CHANGE_ERROR: _change_error,
}
