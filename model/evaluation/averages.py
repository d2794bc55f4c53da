"""Means over lesions, scans and patients in the order of a definition, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .definitions import Order

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


@dataclass(frozen=True, slots=True)
class LesionValue:
    """A value of one lesion; None if it is left out."""

    patient: str
    scan: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Average:
    """Means of the values of many lesions; the fields are keys of summary.json.

    ``mean`` follows the order of the definition, ``low`` and ``high`` are the ends of its 95 % interval, None
    with fewer than two patients. ``left_out`` counts the values that were None.
    """

    mean: float | None
    low: float | None
    high: float | None
    mean_of_lesions: float | None
    mean_of_scans: float | None
    mean_of_patients: float | None
    lesions: int
    left_out: int
    scans: int
    patients: int


def average(values: Iterable[LesionValue], order: Order) -> Average:
    """Average all values that are not None; scans and patients without any are left out as well."""
    values = list(values)
    counted = [value.value for value in values if value.value is not None]
    of_scans = means_by_scan(values)
    by_patient = _by_patient(of_scans)
    of_patients = list(means_by_patient(of_scans).values())
    if order is Order.PATIENTS:
        sums, counts = np.array(of_patients), np.ones(len(of_patients))
    else:
        sums = np.array([sum(means) for means in by_patient.values()])
        counts = np.array([len(means) for means in by_patient.values()], np.float64)
    low, high = bootstrap_interval(sums, counts)
    return Average(
        mean=float(sums.sum() / counts.sum()) if len(sums) else None,
        low=low,
        high=high,
        mean_of_lesions=_mean(counted) if counted else None,
        mean_of_scans=_mean(list(of_scans.values())) if of_scans else None,
        mean_of_patients=_mean(of_patients) if of_patients else None,
        lesions=len(counted),
        left_out=len(values) - len(counted),
        scans=len(of_scans),
        patients=len(by_patient),
    )


def means_by_scan(values: Iterable[LesionValue]) -> dict[tuple[str, str], float]:
    """Average the lesions of each scan; returns means by (patient, scan), without scans that lack values."""
    by_scan: dict[tuple[str, str], list[float]] = {}
    for value in values:
        if value.value is not None:
            by_scan.setdefault((value.patient, value.scan), []).append(value.value)
    return {key: _mean(numbers) for key, numbers in by_scan.items()}


def means_by_patient(of_scans: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Average the means of the scans of each patient; returns means by patient."""
    return {patient: _mean(means) for patient, means in _by_patient(of_scans).items()}


def _by_patient(of_scans: Mapping[tuple[str, str], float]) -> dict[str, list[float]]:
    by_patient: dict[str, list[float]] = {}
    for (patient, _), mean in of_scans.items():
        by_patient.setdefault(patient, []).append(mean)
    return by_patient


def bootstrap_interval(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Compute the percentile interval of ``sum(sums) / sum(counts)`` over patients drawn with replacement.

    Patients are drawn with all their scans, as their lesions are not independent. The seed is fixed.

    Args:
        sums: sum of the values of each patient, shape (n,).
        counts: number of the values of each patient, shape (n,).

    Returns:
        Both ends of the 95 % interval; None with fewer than two patients.
    """
    patients = len(sums)
    if patients < 2:
        return None, None
    drawn = draw_patients(patients)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def draw_patients(patients: int) -> npt.NDArray[np.int64]:
    """Draw patients with replacement; the seed is fixed.

    Returns:
        How often each patient is drawn, shape (resamples, patients).
    """
    return np.random.default_rng(SEED).multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
