"""Connected components of masks."""

from __future__ import annotations

from typing import Literal

import cc3d
import numpy as np
import numpy.typing as npt

LabelArray = npt.NDArray[np.unsignedinteger]


def label_components(
    mask: npt.NDArray[np.bool_], connectivity: Literal[6, 18, 26] = 26
) -> tuple[LabelArray, int]:
    """Label the connected components of a mask.

    Args:
        mask: booleans (z, y, x).
        connectivity: number of neighbours of a voxel.

    Returns:
        Labels of the mask's shape, unsigned integers from 1 on in the order of the components' first voxels,
        0 for background; and their number.
    """
    if not mask.any():  # also empty arrays
        return np.zeros(mask.shape, np.uint16), 0
    # cc3d 4.1 stops with an error at some masks that are one voxel wide, such as [[[1, 0, 1]]].
    padded = np.pad(mask, [(0, int(size == 1)) for size in mask.shape]) if 1 in mask.shape else mask
    labels, count = cc3d.connected_components(
        np.ascontiguousarray(padded), connectivity=connectivity, return_N=True, binary_image=True
    )
    z, y, x = mask.shape
    return labels[:z, :y, :x], int(count)
