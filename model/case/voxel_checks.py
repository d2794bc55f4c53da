"""Checks of voxels: CTs in Hounsfield units and labelmaps of lesion ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import Array

MAX_LESION_ID = 65_535

# The range that a CT scanner can store in 12 bits; padding values and metal lie beyond it.
_PLAUSIBLE_HU = (-1024, 3071)


def hu_warnings(name: str, ct: Array) -> list[str]:
    """Describe unusual voxels of a CT that the plan's clipping takes care of.

    Args:
        name: the scan's, with which each warning begins.
        ct: HU, any shape and number type, at least one voxel.
    """
    warnings = []
    low, high = ct.min(), ct.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = ct[np.isfinite(ct)]
        count = ct.size - finite.size
        warnings.append(
            f"{name}: {count} voxels are NaN or infinite; they become the plan's lower clip value"
        )
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    if low < _PLAUSIBLE_HU[0] or high > _PLAUSIBLE_HU[1]:
        warnings.append(
            f"{name}: values from {low:g} to {high:g} HU exceed {_PLAUSIBLE_HU[0]} to {_PLAUSIBLE_HU[1]}; "
            "they are clipped to the plan's range"
        )
    return warnings


def lesion_labels(name: Path | str, labels: Array) -> Array:
    """Check the voxels of an image to be lesion ids, and convert floats to integers.

    Args:
        name: the file's or argument's, with which errors begin.
        labels: whole numbers of any type, any shape, at least one voxel; 0 is background.

    Returns:
        The same array if its type is an integer one, otherwise a copy as uint16.

    Raises:
        InputError: there are other numbers, or ids out of range.
    """
    is_integer = np.issubdtype(labels.dtype, np.integer)
    if not is_integer and not np.array_equal(labels, np.rint(labels)):  # NaN differs from itself
        raise InputError(f"{name}: holds values that are not whole numbers; expected a labelmap of ids")
    low, high = labels.min(), labels.max()
    if low < 0 or high > MAX_LESION_ID:
        raise InputError(
            f"{name}: holds labels from {low:g} to {high:g}; expected lesion ids from 1 to {MAX_LESION_ID}"
        )
    return labels if is_integer else labels.astype(np.uint16)
