"""Held-out cohorts: the clicks that lesions get, and scores from records made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from model.evaluation.records import LesionRecord, Scope
from model.floor.floors import Floor
from test.cohort import held_out
from test.cohort.held_out import DISPLACED, GIVEN, STEP_1, Part, at_setting, read_cohort
from test.cohort.held_out_scores import held_out_score, interval, paired_dice, with_lost


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


def test_a_lesion_that_step_1_loses_counts_as_drawn_empty() -> None:
    score = held_out_score(with_lost(FOLLOWING[1:], PASTED))
    assert (score.present, score.vanished) == (3, 1)
    assert score.specificity == pytest.approx(2 / 3)
    assert score.dice == pytest.approx((0 + 0.9 + 0.9) / 3)


def test_patients_are_drawn_with_all_their_lesions() -> None:
    found = interval([1.0] * 9 + [0.0], ["a"] * 9 + ["b"])
    assert (found.patients_low, found.patients_high) == (0.0, 1.0)
    assert found.lesions_low > 0.6
    assert math.isnan(interval([1.0], ["a"]).patients_low) and math.isnan(interval([], []).mean)


SPACING_XYZ = (1.0, 1.0, 2.0)
PART = Part((GIVEN, DISPLACED, STEP_1), "identity", (0,), (Floor.PASTED,))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A pair of scans in which lesion 1 is present, 2 has vanished and 3 has left the scan."""
    for name, labels in (("before", (1, 2, 3)), ("after", (1,))):
        array = np.zeros((12, 24, 24), np.uint8)
        for label in labels:
            array[5:7, 4 + 5 * label : 7 + 5 * label, 10:13] = label
        for file, voxels in ((name, array.astype(np.int16) * 50), (f"{name}-labels", array)):
            image = sitk.GetImageFromArray(voxels)
            image.SetSpacing(SPACING_XYZ)
            sitk.WriteImage(image, str(tmp_path / f"{file}.mha"))
    points = [{"name": str(label), "point": [11, 5 + 5 * label, 5.5]} for label in (1, 2, 3)]
    (tmp_path / "points.json").write_text(
        json.dumps({"name": "Points of interest", "type": "Multiple points", "points": points})
    )
    (tmp_path / "test.csv").write_text(
        "patient,timepoint,image,labels,baseline,points\n"
        "p,a,before.mha,before-labels.mha,-,\np,b,after.mha,after-labels.mha,a,points.json\n"
    )
    (tmp_path / "lesions.csv").write_text(
        "patient,followup,baseline_id,fate,cog_fu,cog_propagated\n"
        "p,b,1,present,11 10 5.5,11 9 5\np,b,2,vanished,,12 15 5\np,b,3,out-of-view,,90 20 5\n"
    )
    return tmp_path / "test.csv"


def test_clicks_are_true_places_and_those_of_vanished_lesions_where_they_were(manifest: Path) -> None:
    (pair,) = read_cohort(manifest, [], manifest.parent / "surveys").pairs
    given, setting = at_setting(pair, GIVEN, PART, manifest.parent)
    assert [lesion.followup_point_xyz for lesion in given.lesions] == [(11, 10, 5.5), (12, 15, 5)]
    assert {setting.source_of(lesion).value for lesion in given.lesions} == {"given"}
    assert [bool(lesion.followup_ids) for lesion in given.lesions] == [True, False]


def test_displaced_clicks_are_3_to_5_mm_off(manifest: Path) -> None:
    (pair,) = read_cohort(manifest, [], manifest.parent / "surveys").pairs
    displaced, setting = at_setting(pair, DISPLACED, PART, manifest.parent)
    for before, after in zip(pair.lesions, displaced.lesions, strict=True):
        step = np.subtract(after.followup_point_xyz or (), before.followup_point_xyz or ())
        assert 3 <= np.linalg.norm(step * SPACING_XYZ) <= 5
        assert setting.source_of(after).value == "given"


def test_points_of_step_1_come_from_the_registration_and_are_kept(manifest: Path) -> None:
    (pair,) = read_cohort(manifest, [], manifest.parent / "surveys").pairs
    for _ in range(2):
        located, setting = at_setting(pair, STEP_1, PART, manifest.parent / "points")
        assert [lesion.propagated_point_xyz for lesion in located.lesions] == [
            pytest.approx((11, 10, 5.5)), pytest.approx((11, 15, 5.5)),
        ]  # fmt: skip
        assert {setting.source_of(lesion).value for lesion in located.lesions} == {"propagated"}
    assert len(list((manifest.parent / "points").rglob("*.json"))) == 1


def test_points_of_other_code_of_the_registration_are_not_used(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair,) = read_cohort(manifest, [], manifest.parent / "surveys").pairs
    for rooms in (held_out.POINTS_CODE, ("case",)):  # another room has other code
        monkeypatch.setattr(held_out, "POINTS_CODE", rooms)
        at_setting(pair, STEP_1, PART, manifest.parent / "points")
    assert len(list((manifest.parent / "points").rglob("*.json"))) == 2
