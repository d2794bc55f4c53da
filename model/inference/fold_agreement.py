"""Agreement of an ensemble's folds on a lesion: detects a fold that disagrees strongly with the others.

The sum of the folds outvotes a damaged fold, or one of another training, without a word. Here each fold's own
mask is compared with the majority of the others. It takes one comparison and one byte per voxel and fold, and
changes no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
import numpy.typing as npt

from ..case.case import LesionResult

# An odd fold has next to nothing in common with the majority of the others, which agree among themselves.
# docs/reliability.md has the values of sound folds.
_ODD_DICE, _AGREED_DICE = 0.1, 0.6
# Where the others see no lesion, a few voxels are a matter of opinion, but not this share of a patch.
_ODD_SHARE = 0.1

VoteCounts = npt.NDArray[np.int64]
"""Voxels by the set of folds whose own mask has them: entry 0b101 counts those of the folds 0 and 2 alone."""


@dataclass(frozen=True, slots=True)
class OddFold:
    """A fold that disagrees with all others, which agree.

    Attributes:
        position: of the fold in the ensemble, from 0.
        dice: of its own mask with the majority of the others.
        others_dice: mean Dice of all pairs of the others.
    """

    position: int
    dice: float
    others_dice: float


@dataclass(frozen=True, slots=True)
class FoldSpread:
    """How far the folds' own masks of a lesion differ.

    Attributes:
        dice: mean Dice of all pairs of folds.
        volume_spread: largest volume minus the smallest one, as a share of their mean.
    """

    dice: float
    volume_spread: float


def fold_spread(result: LesionResult) -> FoldSpread | None:
    """Compare the folds on a lesion; None if their votes are unknown, or none of them sees it."""
    counts = result.fold_votes
    if counts is None:
        return None
    masks = [_holders(len(counts), fold) for fold in range(len(counts).bit_length() - 1)]
    volumes = [int(counts[mask].sum()) for mask in masks]
    if not any(volumes):
        return None
    dice = fmean(_dice(counts, one, other) for one, other in combinations(masks, 2))
    return FoldSpread(dice, (max(volumes) - min(volumes)) / fmean(volumes))


def odd_fold(result: LesionResult) -> OddFold | None:
    """Find the fold that disagrees strongly with all others on a lesion, or None."""
    counts = result.fold_votes
    if counts is None:
        return None
    folds = range(len(counts).bit_length() - 1)
    found = (_compared(counts, fold, [other for other in folds if other != fold]) for fold in folds)
    return next((odd for odd in found if odd is not None), None)


def _compared(counts: VoteCounts, fold: int, others: Sequence[int]) -> OddFold | None:
    """Compare a fold with the others; None if it is not odd."""
    own, *masks = (_holders(len(counts), number) for number in (fold, *others))
    majority = 2 * np.sum(masks, axis=0) > len(others)
    if counts[majority].sum() == 0:
        is_odd = counts[own].sum() > _ODD_SHARE * counts.sum()
        return OddFold(fold, 0.0, 1.0) if is_odd else None
    agreed = fmean(_dice(counts, one, other) for one, other in combinations(masks, 2))
    dice = _dice(counts, own, majority)
    return OddFold(fold, dice, agreed) if dice < _ODD_DICE and agreed >= _AGREED_DICE else None


def _holders(length: int, fold: int) -> npt.NDArray[np.bool_]:
    """The codes of the votes that a fold takes part in, as booleans by code."""
    return np.asarray((np.arange(length) >> fold) & 1, bool)


def _dice(counts: VoteCounts, one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Dice of two sets of voxels, given as booleans by code; 1 for two empty ones."""
    total = int(counts[one].sum()) + int(counts[other].sum())
    return 2 * int(counts[one & other].sum()) / total if total else 1.0


def total_counts(parts: Sequence[VoteCounts | None]) -> VoteCounts | None:
    """The votes on several patches together; None if one of them has none."""
    known = [part for part in parts if part is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(parts) else None


def odd_fold_warnings(odd: Sequence[tuple[int, OddFold | None]], names: Sequence[str]) -> list[str]:
    """One warning for each fold that is odd on a lesion, or on several.

    Args:
        odd: (lesion id, its odd fold if any) of all results.
        names: of the folds, in the order of the ensemble; empty if they are unknown.
    """
    warnings = []
    for position in sorted({one.position for _, one in odd if one is not None}):
        lesions = [(key, one) for key, one in odd if one is not None and one.position == position]
        name = names[position] if position < len(names) else f"fold number {position + 1}"
        dice = max(one.dice for _, one in lesions)
        others = min(one.others_dice for _, one in lesions)
        warnings.append(
            f"{name}: disagrees with all other folds on {len(lesions)} of {len(odd)} results, of lesion "
            f"{', '.join(str(key) for key, _ in lesions)} (Dice {dice:.2f} at most, theirs {others:.2f} at "
            "least); look at them, and at the weights of that fold"
        )
    return warnings
