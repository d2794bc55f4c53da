"""Checks that a PET holds SUV: units, sign, zeros, and CT and PET exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import Array

# Nine tenths of a body lie below SUV 5, and those of a crop around the hottest organs below 100; in Bq/ml
# they are at thousands.
_SUV_PERCENTILE, _LARGEST_SUV = 90.0, 200.0
# Reconstructions leave small negative values; air in a CT is near -1000.
_LOWEST_SUV = -200.0
_SAMPLED_VOXELS = 1_000_000


def check_suv(path: Path, pet: Array) -> list[str]:
    """Check the voxels of a PET.

    Args:
        path: the file, for messages.
        pet: its voxels, any shape and number type.

    Returns:
        Warnings about voxels that clipping takes care of.

    Raises:
        InputError: it is 0 everywhere or has no finite voxel, looks like activity in Bq/ml, or like a CT.
    """
    is_finite = np.isfinite(pet)
    values = pet if is_finite.all() else pet[is_finite]
    if not values.size or not values.any():
        seen = "is 0 everywhere" if values.size else "holds no finite voxel"
        raise InputError(f"{path}: {seen}; expected a PET in SUV")
    low = float(values.min())
    if low < _LOWEST_SUV:
        raise InputError(f"{path}: has values down to {low:g}, as a CT does; expected a PET in SUV")
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLED_VOXELS)]
    positive = sample[sample > 0]
    high = float(np.percentile(positive, _SUV_PERCENTILE)) if positive.size else 0.0
    if high > _LARGEST_SUV:
        raise InputError(
            f"{path}: a tenth of its positive voxels exceed {high:g}, as activity in Bq/ml does; expected "
            "SUV (activity times body weight, divided by the dose at the time of the scan)"
        )
    warnings = []
    if count := pet.size - values.size:
        warnings.append(f"{path.name}: {count} voxels are NaN or infinite; they become the lower clip value")
    if low < 0:
        count = int(np.count_nonzero(values < 0))
        warnings.append(
            f"{path.name}: {count} voxels are negative, down to {low:g}; they become the lower clip value"
        )
    return warnings


def check_not_exchanged(ct_path: Path, ct: Array, pet_path: Path, pet: Array) -> None:
    """Check by their ranges that CT and PET are not exchanged.

    Args:
        ct_path: file of the CT, for the message.
        ct: its voxels, any shape and number type.
        pet_path: file of the PET.
        pet: its voxels.

    Raises:
        InputError: the CT has no negative voxel, and the PET has such as only a CT has.
    """
    if ct.min() >= 0 and pet.min() < _LOWEST_SUV:
        raise InputError(
            f"{ct_path}: has no negative voxel, and {pet_path.name} has values down to {float(pet.min()):g}; "
            "expected CT and PET not exchanged"
        )
