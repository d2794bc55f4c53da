"""Means over lesions, scans and patients, in the order of a definition, with bootstrap intervals."""

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
    """A number of one lesion; None where it is left out."""

    patient: str
    scan: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Average:
    """``mean`` is the one of the definition's order, from ``low`` to ``high`` the 95 % interval of it.

    The interval is None with fewer than two patients. ``left_out`` counts the values that were None.
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
    """Means of what is not None; scans and patients without any such value are left out as well."""
    values = list(values)
    known = [value.value for value in values if value.value is not None]
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
        mean_of_lesions=_mean(known) if known else None,
        mean_of_scans=_mean(list(of_scans.values())) if of_scans else None,
        mean_of_patients=_mean(of_patients) if of_patients else None,
        lesions=len(known),
        left_out=len(values) - len(known),
        scans=len(of_scans),
        patients=len(by_patient),
    )


def means_by_scan(values: Iterable[LesionValue]) -> dict[tuple[str, str], float]:
    """(patient, scan) -> mean over its lesions; without scans of which nothing counts."""
    by_scan: dict[tuple[str, str], list[float]] = {}
    for value in values:
        if value.value is not None:
            by_scan.setdefault((value.patient, value.scan), []).append(value.value)
    return {key: _mean(numbers) for key, numbers in by_scan.items()}


def means_by_patient(of_scans: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Patient -> mean over the means of its scans."""
    return {patient: _mean(means) for patient, means in _by_patient(of_scans).items()}


def _by_patient(of_scans: Mapping[tuple[str, str], float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (patient, _), mean in of_scans.items():
        found.setdefault(patient, []).append(mean)
    return found


def bootstrap_interval(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """The percentile interval of ``sum(sums) / sum(counts)`` over patients drawn with replacement.

    Args:
        sums, counts: of each patient (n); patients are drawn whole, as their lesions are not independent.

    Returns:
        Both ends, None with fewer than two patients. The seed is fixed: the same numbers, the same interval.
    """
    patients = len(sums)
    if patients < 2:
        return None, None
    drawn = np.random.default_rng(SEED).multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
