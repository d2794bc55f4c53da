"""Several answers for one lesion, all on one grid, and what can be made of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from ..case.case import LesionResult
from ..case.geometry import Box

FloatVolume = npt.NDArray[np.float32]

# Averaging cannot tell less than this from 0.
_LEAST_PROBABILITY = 1 / 256
_ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))


def agreement(results: Sequence[LesionResult]) -> float:
    """The mean Dice of each two answers on one grid; two empty ones agree (1), an empty one with none (0).

    Raises:
        ValueError: fewer than two answers.
    """
    if len(results) < 2:
        raise ValueError("agreement needs two answers or more")
    return float(np.mean([_dice(one, other) for one, other in combinations(results, 2)]))


def _dice(one: LesionResult, other: LesionResult) -> float:
    total = int(np.count_nonzero(one.mask)) + int(np.count_nonzero(other.mask))
    return 2 * overlap_voxels(one, other) / total if total else 1.0


def overlap_voxels(one: LesionResult, other: LesionResult) -> int:
    """How many voxels two answers on one grid both call lesion."""
    common = one.box.intersection(other.box)
    if common.is_empty:
        return 0
    mine = one.mask[common.relative_to(one.box).slices]
    return int(np.count_nonzero(mine & other.mask[common.relative_to(other.box).slices]))


def soft(result: LesionResult) -> tuple[Box, FloatVolume]:
    """The widest box whose probabilities an answer tells."""
    if result.support is None or result.support_probability is None:
        return result.box, result.probability
    return result.support, result.support_probability


def trimmed(box: Box, values: FloatVolume) -> tuple[Box, FloatVolume]:
    """Without the margins in which all values are next to nothing."""
    found = find_objects((values >= _LEAST_PROBABILITY).astype(np.uint8)) if values.size else []
    if not found or found[0] is None:
        return Box.of_shape((0, 0, 0), box.start_zyx), np.zeros((0, 0, 0), np.float32)
    start = [part.start for part in found[0]]
    return Box.of_shape(values[found[0]].shape, start).shifted(box.start_zyx), values[found[0]].copy()


def _union(boxes: Sequence[Box]) -> Box:
    """The smallest box round others, leaving out those without a voxel; one voxel when all are."""
    full = [box for box in boxes if not box.is_empty]
    if not full:
        return Box.of_shape((1, 1, 1))
    start = np.min([box.start_zyx for box in full], axis=0)
    return Box.of_shape(np.max([box.stop_zyx for box in full], axis=0) - start, start)


def mean(results: Sequence[LesionResult]) -> tuple[Box, FloatVolume]:
    """The mean probability, in which a voxel that an answer does not tell counts as 0."""
    parts = [soft(result) for result in results]
    union = _union([box for box, _ in parts])
    total = np.zeros(union.shape_zyx, np.float64)  # equal values must not round across one half
    for box, values in parts:
        if not box.is_empty:
            total[box.relative_to(union).slices] += values
    return union, (total / len(parts)).astype(np.float32)


def highest(results: Sequence[LesionResult]) -> tuple[Box, FloatVolume]:
    """The highest probability: the voxels of all answers."""
    parts = [soft(result) for result in results]
    union = _union([box for box, _ in parts])
    highest = np.zeros(union.shape_zyx, np.float32)
    for box, values in parts:
        if not box.is_empty:
            view = highest[box.relative_to(union).slices]
            np.maximum(view, values, out=view)
    return union, highest


def majority(results: Sequence[LesionResult]) -> tuple[Box, FloatVolume]:
    """Voxels that more than half of the answers hold, with the mean probability of those that do.

    Elsewhere the sum over those that do, divided by all, which is never more than one half.
    """
    union = _union([result.box for result in results])
    votes = np.zeros(union.shape_zyx, np.int32)
    total = np.zeros(union.shape_zyx, np.float64)
    for result in results:
        if not result.box.is_empty:
            where = result.box.relative_to(union).slices
            votes[where] += result.mask
            total[where] += np.where(result.mask, result.probability, 0)
    has_majority = 2 * votes > len(results)
    held = np.maximum(total / np.maximum(votes, 1), _ABOVE_HALF)
    return union, np.where(has_majority, held, np.minimum(total / len(results), 0.5)).astype(np.float32)
