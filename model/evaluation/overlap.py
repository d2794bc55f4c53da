"""How much two masks share, and what of either stands alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]

CONNECTIVITY: Final = 18
"""Neighbours that connect a component for FNvol and FPvol, as the challenge's script and LongiSeg have it."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxel counts; ``fn``: of the reference's components without any prediction, ``fp``: vice versa."""

    reference: int
    prediction: int
    common: int
    fn: int
    fp: int


def measure_overlap(reference: BoolArray, prediction: BoolArray) -> Overlap:
    """Compare two masks of one shape (z, y, x)."""
    return Overlap(
        reference=int(np.count_nonzero(reference)),
        prediction=int(np.count_nonzero(prediction)),
        common=int(np.count_nonzero(reference & prediction)),
        fn=untouched_voxels(reference, prediction),
        fp=untouched_voxels(prediction, reference),
    )


def untouched_voxels(mask: BoolArray, other: BoolArray) -> int:
    """Voxels of those components of a mask (18 neighbours) that share no voxel with the other mask."""
    if not mask.any():
        return 0
    labels, count = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=CONNECTIVITY, return_N=True, binary_image=True
    )
    is_alone = np.ones(count + 1, bool)
    is_alone[labels[other]] = False
    is_alone[0] = False
    sizes = np.bincount(labels[mask], minlength=count + 1)
    return int(sizes[is_alone].sum())


def dice(reference: int, prediction: int, common: int) -> float:
    """Of voxel counts, not both zero."""
    return 2 * common / (reference + prediction)
