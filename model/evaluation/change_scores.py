"""Scores of what happened to lesions: how drawn volumes follow true changes, and vanished lesions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .averages import LEVEL, bootstrap_interval, draw_patients
from .records import LesionRecord

Interval = tuple[float | None, float | None]
"""Ends of the 95 % interval over patients; None with fewer than two of them."""

_NO_INTERVAL: Interval = (None, None)


@dataclass(frozen=True, slots=True)
class VanishedCounts:
    """Lesions of the baseline, counted by their presence in reference and prediction.

    Attributes:
        found: vanished, and nothing predicted.
        missed: vanished, but predicted (or the prediction is missing).
        kept: present and predicted.
        lost: present, but nothing predicted.
        sensitivity_interval: of the sensitivity.
        specificity_interval: of the specificity.
        false_ml_mean: mean volume (ml) predicted for a vanished lesion, 0 for one that was found; lesions
            whose prediction is missing are left out. None without any.
        false_ml_interval: of that mean.
        false_ml_median: median of these volumes.
    """

    found: int
    missed: int
    kept: int
    lost: int
    sensitivity_interval: Interval = _NO_INTERVAL
    specificity_interval: Interval = _NO_INTERVAL
    false_ml_mean: float | None = None
    false_ml_interval: Interval = _NO_INTERVAL
    false_ml_median: float | None = None

    @property
    def sensitivity(self) -> float | None:
        """Share of vanished lesions without a prediction."""
        return self.found / (self.found + self.missed) if self.found + self.missed else None

    @property
    def specificity(self) -> float | None:
        """Share of present lesions with a prediction."""
        return self.kept / (self.kept + self.lost) if self.kept + self.lost else None


def vanished_counts(records: Iterable[LesionRecord]) -> VanishedCounts | None:
    """Count the lesions of the baseline; None without such lesions."""
    existed = [record for record in records if record.existed]
    if not existed:
        return None
    vanished = [record for record in existed if not record.reference_voxels]
    present = [record for record in existed if record.reference_voxels]
    found = sum(map(_is_found, vanished))
    kept = sum(map(_is_kept, present))
    drawn = [record for record in vanished if not record.is_missing]
    volumes = [record.prediction_ml for record in drawn]
    return VanishedCounts(
        found,
        len(vanished) - found,
        kept,
        len(present) - kept,
        _interval(vanished, _is_found),
        _interval(present, _is_kept),
        float(np.mean(volumes)) if drawn else None,
        _interval(drawn, lambda record: record.prediction_ml),
        float(np.median(volumes)) if drawn else None,
    )


def _is_found(record: LesionRecord) -> bool:
    return not record.prediction_voxels and not record.is_missing


def _is_kept(record: LesionRecord) -> bool:
    return record.prediction_voxels > 0


def _interval(records: Sequence[LesionRecord], value: Callable[[LesionRecord], float]) -> Interval:
    """Interval of the mean of a value over lesions."""
    by_patient = _by_patient(records)
    sums = [sum(map(value, own)) for own in by_patient]
    return bootstrap_interval(np.array(sums, np.float64), np.array([len(own) for own in by_patient], float))


def _by_patient(records: Iterable[LesionRecord]) -> list[list[LesionRecord]]:
    by_patient: dict[str, list[LesionRecord]] = {}
    for record in records:
        by_patient.setdefault(record.patient, []).append(record)
    return list(by_patient.values())


@dataclass(frozen=True, slots=True)
class ChangeSlope:
    """How drawn changes in volume follow the true ones: 1 if they do, 0 if drawn volumes ignore them.

    Attributes:
        slope: least-squares slope of log(drawn / baseline) on log(true / baseline) over the lesions that
            baseline, reference and prediction contain; None if the true changes are all equal.
        low: lower end of its 95 % interval over patients; None with fewer than two patients, or if more than
            2.5 % of the resamples have no slope.
        high: upper end of that interval.
        lesions: number of these lesions.
        patients: number of their patients.
    """

    slope: float | None
    low: float | None
    high: float | None
    lesions: int
    patients: int


def change_slope(records: Iterable[LesionRecord]) -> ChangeSlope | None:
    """Regress drawn on true changes in volume; None if the volume of no lesion in the baseline is known."""
    known = [record for record in records if record.baseline_ml]
    if not known:
        return None
    counted = [r for r in known if r.reference_voxels and r.prediction_voxels]
    by_patient = _by_patient(counted)
    if not counted:
        return ChangeSlope(None, None, None, 0, 0)
    centre = np.mean([_log_changes(record) for record in counted], axis=0)  # for precise sums of squares
    sums = np.array([_sums(np.array([_log_changes(r) for r in own]) - centre) for own in by_patient])
    (slope,) = _slopes(sums.sum(axis=0)[None])
    low, high = _NO_INTERVAL
    if len(by_patient) > 1:
        slopes = _slopes(draw_patients(len(by_patient)) @ sums)
        defined = slopes[np.isfinite(slopes)]
        if len(defined) >= (1 + LEVEL) / 2 * len(slopes):
            low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return ChangeSlope(
        float(slope) if math.isfinite(slope) else None, low, high, len(counted), len(by_patient)
    )


def _log_changes(record: LesionRecord) -> tuple[float, float]:
    """True and drawn change, as logarithms of the ratio to the baseline."""
    assert record.baseline_ml
    return math.log(record.reference_ml / record.baseline_ml), math.log(
        record.prediction_ml / record.baseline_ml
    )


def _sums(changes: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Number of lesions, and sums of x, y, x squared and x times y; ``changes`` are (n, 2)."""
    x, y = changes.T
    return (float(len(x)), float(x.sum()), float(y.sum()), float(x @ x), float(x @ y))


def _slopes(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least-squares slopes from sums (n, 5); NaN if all x are equal."""
    count, x, y, xx, xy = sums.T
    spread = xx - x * x / count
    slopes = np.full(len(sums), np.nan)
    np.divide(xy - x * y / count, spread, out=slopes, where=spread > 1e-9 * count)
    return slopes
