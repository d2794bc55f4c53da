"""Overlap of two masks, and the components of either that do not touch the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..case.connected_components import label_components

BoolArray = npt.NDArray[np.bool_]

CONNECTIVITY: Final = 18
"""Connectivity of components for FNvol and FPvol, as in the challenge's script and LongiSeg."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxel counts; ``fn`` of the reference's components that share no voxel with the prediction.

    ``fp`` is the same with reference and prediction swapped.
    """

    reference: int
    prediction: int
    common: int
    fn: int
    fp: int


def measure_overlap(reference: BoolArray, prediction: BoolArray) -> Overlap:
    """Count the overlap of two masks.

    Args:
        reference: bool (z, y, x).
        prediction: bool, of the same shape.
    """
    return Overlap(
        reference=int(np.count_nonzero(reference)),
        prediction=int(np.count_nonzero(prediction)),
        common=int(np.count_nonzero(reference & prediction)),
        fn=untouched_voxels(reference, prediction),
        fp=untouched_voxels(prediction, reference),
    )


def untouched_voxels(mask: BoolArray, other: BoolArray) -> int:
    """Count the voxels of those components (18 neighbours) of a mask that share no voxel with another mask.

    Args:
        mask: bool (z, y, x).
        other: bool, of the same shape.
    """
    if not mask.any():
        return 0
    labels, count = label_components(mask, CONNECTIVITY)
    is_alone = np.ones(count + 1, bool)
    is_alone[labels[other]] = False
    is_alone[0] = False
    sizes = np.bincount(labels[mask], minlength=count + 1)
    return int(sizes[is_alone].sum())


def dice(reference: int, prediction: int, common: int) -> float:
    """Compute Dice from voxel counts; at least one of the masks is not empty."""
    return 2 * common / (reference + prediction)
