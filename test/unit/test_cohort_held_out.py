"""Scores of held-out lesions, from records made by hand."""

from __future__ import annotations

import math

import pytest

from model.evaluation.records import LesionRecord, Scope
from test.cohort.held_out_scores import held_out_score, interval, paired_dice


def _record(patient: str, lesion: int, before: int, true: int, drawn: int, common: int) -> LesionRecord:
    """A lesion with volumes in voxels of 1 ml."""
    return LesionRecord(
        patient=patient, scan="s", step=1, scope=Scope.LESION, lesion=str(lesion), baseline_ids=(lesion,),
        reference_ids=(), prediction_ids=(), existed=True, is_missing=False, voxel_ml=1.0, diagonal_mm=1.0,
        baseline_ml=float(before), reference_voxels=true, prediction_voxels=drawn, common_voxels=common,
        fn_voxels=0, fp_voxels=0, nsd_2mm=None, hd95_mm=None, assd_mm=None, centre_mm=None,
    )  # fmt: skip


PASTED = [
    _record("a", 1, 100, 50, 100, 50),
    _record("a", 2, 100, 100, 100, 80),
    _record("b", 3, 100, 200, 100, 100),
    _record("b", 4, 100, 0, 100, 0),
]
FOLLOWING = [
    _record("a", 1, 100, 50, 50, 45),
    _record("a", 2, 100, 100, 100, 90),
    _record("b", 3, 100, 200, 200, 180),
    _record("b", 4, 100, 0, 0, 0),
]


def test_a_mask_that_ignores_the_image_has_slope_0_and_sees_no_vanished_lesion() -> None:
    score = held_out_score(PASTED)
    assert (score.present, score.vanished, score.patients) == (3, 1, 2)
    assert score.log_slope == pytest.approx(0, abs=1e-9)
    assert (score.sensitivity, score.specificity, score.false_ml, score.false_share) == (0, 1, 100, 1)
    assert score.dice == pytest.approx((100 / 150 + 160 / 200 + 200 / 300) / 3)
    assert score.drawn_over_true == pytest.approx(1)


def test_a_drawing_that_follows_has_slope_1() -> None:
    score = held_out_score(FOLLOWING)
    assert score.log_slope == pytest.approx(1)
    assert (score.sensitivity, score.false_ml) == (1, 0)
    assert score.dice == pytest.approx(0.9)


def test_a_present_lesion_drawn_empty_costs_dice_and_specificity_but_no_slope() -> None:
    lost = [*FOLLOWING[1:], _record("a", 1, 100, 50, 0, 0), _record("a", 5, 100, 400, 400, 400)]
    score = held_out_score(lost)
    assert score.specificity == pytest.approx(3 / 4)
    assert score.dice == pytest.approx((0.9 + 0.9 + 0 + 1) / 4)
    assert score.log_slope == pytest.approx(1)


def test_differences_are_paired_by_lesion_and_leave_out_vanished_ones() -> None:
    found = paired_dice(FOLLOWING, list(reversed(PASTED)))
    assert found.mean == pytest.approx(0.9 - held_out_score(PASTED).dice)
    assert found.lesions_low <= found.mean <= found.lesions_high


def test_patients_are_drawn_with_all_their_lesions() -> None:
    found = interval([1.0] * 9 + [0.0], ["a"] * 9 + ["b"])
    assert (found.patients_low, found.patients_high) == (0.0, 1.0)
    assert found.lesions_low > 0.6
    assert math.isnan(interval([1.0], ["a"]).patients_low) and math.isnan(interval([], []).mean)
