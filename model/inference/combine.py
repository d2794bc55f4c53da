"""Combine several segmentations of one lesion on the same grid: mean, maximum, majority, agreement."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..case.case import LesionResult
from ..case.geometry import Box
from ..case.labelmaps import bounding_box

FloatVolume = npt.NDArray[np.float32]

# Probabilities below this make no difference to a mean.
_NEGLIGIBLE_PROBABILITY = 1 / 256
_ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))


def pairwise_agreement(results: Sequence[LesionResult]) -> float:
    """Mean Dice over all pairs of results on one grid; 1 for two empty ones, 0 for an empty and a full one.

    Raises:
        ValueError: fewer than two results.
    """
    if len(results) < 2:
        raise ValueError("agreement needs two results or more")
    return float(np.mean([_dice(one, other) for one, other in combinations(results, 2)]))


def _dice(one: LesionResult, other: LesionResult) -> float:
    total = int(np.count_nonzero(one.mask)) + int(np.count_nonzero(other.mask))
    return 2 * overlap_voxels(one, other) / total if total else 1.0


def overlap_voxels(one: LesionResult, other: LesionResult) -> int:
    """Count the voxels that are lesion in both of two results on one grid."""
    common = one.box.intersection(other.box)
    if common.is_empty:
        return 0
    mask = one.mask[common.relative_to(one.box).slices]
    return int(np.count_nonzero(mask & other.mask[common.relative_to(other.box).slices]))


def probability_support(result: LesionResult) -> tuple[Box, FloatVolume]:
    """The largest box for which a result has probabilities.

    Returns:
        The box (voxels of the follow-up, half-open) and the probabilities over it, float32 (z, y, x).
    """
    if result.support is None or result.support_probability is None:
        return result.box, result.probability
    return result.support, result.support_probability


def trim_support(box: Box, values: FloatVolume) -> tuple[Box, FloatVolume]:
    """Crop margins in which all probabilities are negligible.

    Args:
        box: box of the values, in voxels.
        values: probabilities (z, y, x) of the box's shape.

    Returns:
        The cropped box and a copy of its probabilities; both empty if all values are negligible.
    """
    inner = bounding_box(values >= _NEGLIGIBLE_PROBABILITY) or Box((0, 0, 0), (0, 0, 0))
    return inner.shifted(box.start_zyx), values[inner.slices].copy()


def _union(boxes: Sequence[Box]) -> Box:
    """The smallest box that contains all non-empty boxes; a single voxel if all are empty."""
    full = [box for box in boxes if not box.is_empty]
    if not full:
        return Box.of_shape((1, 1, 1))
    start = np.min([box.start_zyx for box in full], axis=0)
    return Box.of_shape(np.max([box.stop_zyx for box in full], axis=0) - start, start)


def mean_probability(results: Sequence[LesionResult]) -> tuple[Box, FloatVolume]:
    """Mean probability of several results; outside of a result's support its probability counts as 0.

    Returns:
        The box around all supports (voxels of the follow-up) and the mean over it, float32 (z, y, x).
    """
    parts = [probability_support(result) for result in results]
    union = _union([box for box, _ in parts])
    total = np.zeros(union.shape_zyx, np.float64)  # rounding must not move equal values across one half
    for box, values in parts:
        if not box.is_empty:
            total[box.relative_to(union).slices] += values
    return union, (total / len(parts)).astype(np.float32)


def maximum_probability(results: Sequence[LesionResult]) -> tuple[Box, FloatVolume]:
    """Maximum probability of several results; its lesion is the union of theirs.

    Returns:
        The box around all supports (voxels of the follow-up) and the maximum over it, float32 (z, y, x).
    """
    parts = [probability_support(result) for result in results]
    union = _union([box for box, _ in parts])
    maximum = np.zeros(union.shape_zyx, np.float32)
    for box, values in parts:
        if not box.is_empty:
            view = maximum[box.relative_to(union).slices]
            np.maximum(view, values, out=view)
    return union, maximum


def majority_vote(results: Sequence[LesionResult]) -> tuple[Box, FloatVolume]:
    """Voxels that are lesion in more than half of the results, with the mean probability of those results.

    Elsewhere the probabilities of the results in which the voxel is lesion are summed and divided by the
    number of all results, which is at most one half.

    Returns:
        The box around all lesions (voxels of the follow-up) and the values over it, float32 (z, y, x).
    """
    union = _union([result.box for result in results])
    votes = np.zeros(union.shape_zyx, np.int32)
    total = np.zeros(union.shape_zyx, np.float64)
    for result in results:
        if not result.box.is_empty:
            region = result.box.relative_to(union).slices
            votes[region] += result.mask
            total[region] += np.where(result.mask, result.probability, 0)
    has_majority = 2 * votes > len(results)
    mean = np.maximum(total / np.maximum(votes, 1), _ABOVE_HALF)
    return union, np.where(has_majority, mean, np.minimum(total / len(results), 0.5)).astype(np.float32)
