"""PET that is no SUV is refused in one line; what clipping takes care of is a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.case.suv_checks import InjectedDose, check_not_exchanged, check_suv, converted_activity
from model.errors import InputError

PATH = Path("scans/pet.mha")
SUV = np.random.default_rng(0).gamma(1.0, 1.0, (12, 20, 20)).astype(np.float32)


def test_suv_pass_without_a_word() -> None:
    assert check_suv(PATH, SUV) == []
    hot = SUV.copy()
    hot[3:6, 5:9, 5:9] = 390  # a bladder
    assert check_suv(PATH, hot) == []
    assert check_suv(PATH, SUV[:, 8:12] * 40) == []  # a crop around it


def test_activity_is_known_where_the_body_is_a_small_part_of_the_image() -> None:
    legs = np.full((10, 50, 50), 30.0, np.float32)  # noise beside the legs, in Bq/ml
    legs[:, :10, :10] = 4000
    with pytest.raises(InputError, match="1 % of its positive voxels exceed 4000"):
        check_suv(PATH, legs)
    dose = InjectedDose(weight_kg=70, dose_mbq=350, minutes=0, half_life_minutes=110)
    assert converted_activity(PATH, legs, dose).max() == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("pet", "part"),
    [
        (SUV * 0, "is 0 everywhere"),
        (np.full_like(SUV, np.nan), "no finite voxel"),
        (SUV * 4000, "Bq/ml"),
        ((SUV * 4000).astype(np.int32), "Bq/ml"),
        (np.where(SUV > 0.5, SUV * 3000, 0), "Bq/ml"),
        (SUV * 100 - 1000, "as a CT does"),
    ],
)
def test_others_are_refused_in_one_line(pet: npt.NDArray[np.float32], part: str) -> None:
    with pytest.raises(InputError) as raised:
        check_suv(PATH, pet)
    message = str(raised.value)
    assert message.startswith("scans/pet.mha: ") and part in message and "expected" in message
    assert "\n" not in message


def test_voxels_that_are_negative_or_not_finite_give_a_warning() -> None:
    pet = SUV.copy()
    pet[0, 0, :3] = (np.nan, np.inf, -2.5)
    not_finite, negative = check_suv(PATH, pet)
    assert "2 voxels are NaN or infinite" in not_finite
    assert "1 voxels are negative, down to -2.5" in negative


def test_exchanged_images_are_named() -> None:
    ct = (SUV * 100 - 1000).astype(np.int16)
    check_not_exchanged(Path("ct.mha"), ct, PATH, SUV)
    check_not_exchanged(Path("ct.mha"), ct + 1024, PATH, SUV)  # an offset is another matter
    with pytest.raises(InputError, match=r"ct.mha: .* pet.mha .* not exchanged"):
        check_not_exchanged(Path("ct.mha"), SUV, PATH, ct)


def test_activity_becomes_suv_by_body_weight() -> None:
    dose = InjectedDose(weight_kg=70, dose_mbq=350, minutes=109.77, half_life_minutes=109.77)
    assert dose.suv_per_bq_ml == pytest.approx(70_000 / 175e6)
    suv = converted_activity(PATH, SUV * 2500, dose)
    assert suv.dtype == np.float32
    np.testing.assert_allclose(suv, SUV, rtol=1e-5)
    with pytest.raises(InputError, match=r"pet.mha: .* too little for Bq/ml"):
        converted_activity(PATH, suv, dose)


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 350, 60, 110),
        (70, -1, 60, 110),
        (70, 350, -1, 110),
        (70, 350, 9999, 110),
        (70, 350, 60, float("inf")),
    ],
)
def test_impossible_doses_are_refused(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="--activity .* expected positive numbers"):
        InjectedDose(*numbers)
