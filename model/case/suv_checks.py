"""PET in SUV: conversion from Bq/ml; checks of units, sign, zeros, and of CT and PET exchanged."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .geometry import Array

# Nine tenths of a body lie below SUV 5, and those of a crop around the hottest organs below 100; in Bq/ml
# they are at thousands. Where the body is less than a tenth of the positive voxels, the hottest hundredth
# decides: only in Bq/ml it exceeds 1000.
_LARGEST_SUV = {90.0: 200.0, 99.0: 1000.0}
# Reconstructions leave small negative values; air in a CT is near -1000.
_LOWEST_SUV = -200.0
_SAMPLED_VOXELS = 1_000_000
MOST_HALF_LIVES = 20
"""Longest time from the injection to the scan; nothing is left to be measured beyond."""


@dataclass(frozen=True, slots=True)
class InjectedDose:
    """The values that convert activity to SUV by body weight.

    Attributes:
        weight_kg: of the patient.
        dose_mbq: activity at the injection.
        minutes: from the injection to the time to which the PET is decay-corrected, usually its start.
        half_life_minutes: of the nuclide.
    """

    weight_kg: float
    dose_mbq: float
    minutes: float
    half_life_minutes: float

    def __post_init__(self) -> None:
        weight, dose, minutes, half_life = astuple(self)
        is_sound = min(weight, dose, half_life) > 0 and 0 <= minutes <= MOST_HALF_LIVES * half_life
        if not (is_sound and all(map(math.isfinite, astuple(self)))):
            raise InputError(
                f"--activity {weight:g} {dose:g} {minutes:g} {half_life:g}: expected positive numbers: "
                f"weight (kg), dose (MBq), minutes until the scan (0 to {MOST_HALF_LIVES} half-lives), "
                "half-life (minutes)"
            )

    @property
    def suv_per_bq_ml(self) -> float:
        """SUV by body weight of 1 Bq/ml ([Kinahan2010]): weight in g / dose in Bq at the time of the scan."""
        decayed_bq = self.dose_mbq * 1e6 * 0.5 ** (self.minutes / self.half_life_minutes)
        factor: float = self.weight_kg * 1e3 / decayed_bq
        return factor


def converted_activity(path: Path, pet: Array, dose: InjectedDose) -> npt.NDArray[np.float32]:
    """Convert a PET from Bq/ml to SUV by body weight.

    Args:
        path: the file, for messages.
        pet: Bq/ml, any shape and number type.
        dose: of the patient.

    Returns:
        SUV of the same shape, float32.

    Raises:
        InputError: the voxels look like SUV already.
    """
    if _activity_sign(pet[np.isfinite(pet)]) is None:
        limit = _LARGEST_SUV[90.0]
        raise InputError(
            f"{path}: nine tenths of its positive voxels lie below {limit:g}, too little for Bq/ml; expected "
            "--activity or --dose for a PET in Bq/ml only"
        )
    suv: npt.NDArray[np.float32] = (pet.astype(np.float64) * dose.suv_per_bq_ml).astype(np.float32)
    return suv


def _activity_sign(values: Array) -> str | None:
    """Describe why finite values look like activity in Bq/ml; None for SUV. Large images are sampled."""
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLED_VOXELS)]
    positive = sample[sample > 0]
    for percentile, largest in _LARGEST_SUV.items():
        value = float(np.percentile(positive, percentile)) if positive.size else 0.0
        if value > largest:
            return f"{100 - percentile:g} % of its positive voxels exceed {value:g}"
    return None


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
    if (sign := _activity_sign(values)) is not None:
        raise InputError(
            f"{path}: {sign}, as activity in Bq/ml does; expected SUV, or --activity or --dose with "
            "the patient's weight and dose"
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
