"""Scores of held-out lesions: overlap, what drawn volumes say about true ones, and vanished lesions.

Records of two methods, or of two settings of points, are compared lesion by lesion. Each difference has two
95 % intervals by bootstrap: over lesions, as if they were independent, and over patients with all their
lesions, which they are not. With three or four patients the second one is a rough guide at best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.evaluation.change_scores import change_slope, vanished_counts
from model.evaluation.records import LesionRecord, Scope

RESAMPLES, SEED = 4000, 0
LARGE_ML = 10.0

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % intervals over lesions and over patients; NaN where there is nothing."""

    mean: float
    lesions_low: float
    lesions_high: float
    patients_low: float
    patients_high: float


@dataclass(frozen=True, slots=True)
class HeldOutScore:
    """Scores of one group of lesions.

    Attributes:
        present, vanished, patients: how many there are.
        dice: mean Dice of the present lesions; one that is drawn empty has 0.
        log_slope: slope of the logarithm of drawn on that of true volume over baseline volume, over the
            present lesions that are not drawn empty.
        log_slope_low, log_slope_high: its 95 % interval over patients.
        drawn_over_true: geometric mean of the ratio of drawn to true volume, over the same lesions.
        sensitivity: share of the vanished lesions that are drawn empty.
        specificity: share of the present lesions that are not drawn empty.
        false_ml: mean volume drawn for a vanished lesion.
        false_share: median of that volume over the baseline's.
    """

    present: int
    vanished: int
    patients: int
    dice: float
    log_slope: float
    log_slope_low: float
    log_slope_high: float
    drawn_over_true: float
    sensitivity: float
    specificity: float
    false_ml: float
    false_share: float


def lesions_of(records: Sequence[LesionRecord]) -> list[LesionRecord]:
    """The records of single lesions of the baseline."""
    return [r for r in records if r.scope is Scope.LESION and r.existed and r.baseline_ml]


def with_lost(records: Sequence[LesionRecord], given: Sequence[LesionRecord]) -> list[LesionRecord]:
    """Add the lesions that step 1 has lost as lesions of which nothing is drawn.

    Args:
        records: at the points of step 1.
        given: at given points, of all lesions.
    """
    found = {record.key for record in records}
    lost = [record for record in lesions_of(given) if record.key not in found]
    return [*records, *(replace(record, prediction_voxels=0, common_voxels=0) for record in lost)]


def is_large(record: LesionRecord) -> bool:
    """Whether the lesion had more than `LARGE_ML` in the baseline."""
    return (record.baseline_ml or 0.0) > LARGE_ML


def dice_of(record: LesionRecord) -> float:
    """Dice of a present lesion."""
    return 2 * record.common_voxels / (record.reference_voxels + record.prediction_voxels)


def held_out_score(records: Sequence[LesionRecord]) -> HeldOutScore:
    """Score the lesions of a group."""
    present = [r for r in records if r.reference_voxels]
    vanished = [r for r in records if not r.reference_voxels]
    drawn = [r for r in present if r.prediction_voxels]
    counts, slope = vanished_counts(records), change_slope(records)
    shares = [r.prediction_ml / (r.baseline_ml or math.nan) for r in vanished]
    return HeldOutScore(
        present=len(present),
        vanished=len(vanished),
        patients=len({r.patient for r in records}),
        dice=_mean([dice_of(r) for r in present]),
        log_slope=_or_nan(slope.slope if slope else None),
        log_slope_low=_or_nan(slope.low if slope else None),
        log_slope_high=_or_nan(slope.high if slope else None),
        drawn_over_true=math.exp(_mean([math.log(r.prediction_ml / r.reference_ml) for r in drawn])),
        sensitivity=_or_nan(counts.sensitivity if counts else None),
        specificity=_or_nan(counts.specificity if counts else None),
        false_ml=_or_nan(counts.false_ml_mean if counts else None),
        false_share=float(np.median(shares)) if shares else math.nan,
    )


def paired_dice(these: Sequence[LesionRecord], others: Sequence[LesionRecord]) -> Interval:
    """Compare the Dice of present lesions in both: these minus the others."""
    other = {r.key: r for r in others}
    both = [(r, other[r.key]) for r in these if r.reference_voxels and r.key in other]
    differences = [dice_of(this) - dice_of(that) for this, that in both]
    return interval(differences, [this.patient for this, _ in both])


def interval(values: Sequence[float], patients: Sequence[str]) -> Interval:
    """Mean of values of lesions with its intervals over lesions and over patients."""
    if not values:
        return Interval(*[math.nan] * 5)
    array, random = np.asarray(values, np.float64), np.random.default_rng(SEED)
    single = [np.asarray([value]) for value in array]
    names = sorted(set(patients))
    grouped = [array[[p == name for p in patients]] for name in names]
    return Interval(float(array.mean()), *_ends(single, random), *_ends(grouped, random))


def _ends(groups: Sequence[Values], random: np.random.Generator) -> tuple[float, float]:
    """Ends of the interval if whole groups are drawn again; NaN with fewer than two."""
    if len(groups) < 2:
        return math.nan, math.nan
    sums, counts = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    drawn = random.integers(0, len(groups), (RESAMPLES, len(groups)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def by_group(
    records: Mapping[str, Sequence[LesionRecord]], is_in: Callable[[LesionRecord], bool]
) -> dict[str, list[LesionRecord]]:
    """The lesions of each method that belong to a group."""
    return {name: [r for r in lesions_of(own) if is_in(r)] for name, own in records.items()}
