"""Links of lesions: missing, merged, split, new and unlisted ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.checks import CheckedCohort
from model.data.formats.longiseg import read_longiseg
from model.data.formats.manifest import read_manifest
from test.helpers.checked_cohorts import MOVED, ONE, TWO, checked_release, only_problem, survey_and_check
from test.helpers.data_sets import Lesions, manifest_of_pairs, write_longiseg


def test_a_followup_point_without_voxels_is_a_missing_not_a_vanished_lesion(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 5"), ("2", "18 15 9", "17 15 9", "17 14 9")]
    checked, ids = checked_release(tmp_path, rows, TWO, MOVED)
    assert ids == {1: (1,)}
    assert only_problem(checked, "problem") == (
        f"problem: {tmp_path}/targetsTr/p_FU_mask_FU_img_00.nii.gz: does not hold lesion 2, whose "
        "follow-up point is [17, 15, 9]; expected voxels of it; lesion 2 is left out of the pair with "
        "p_BL_img_00"
    )


def test_a_baseline_point_without_voxels_is_a_missing_lesion(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 5"), ("2", "18 15 9", "17 15 9", "17 14 9")]
    checked, ids = checked_release(tmp_path, rows, ONE, {**MOVED, 2: ((9, 15, 17), 1)})
    assert ids == {1: (1,)}
    assert only_problem(checked, "problem") == (
        f"problem: {tmp_path}/inputsTr/p_BL_mask_BL_img_00.nii.gz: does not hold lesion 2, whose baseline "
        "point is [18, 15, 9]; expected voxels of it; lesion 2 is left out of the pair with p_FU_img_00"
    )


def test_a_lesion_in_no_labelmap_is_missing_from_the_scan_of_its_point(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", ""), ("7", "", "3 3 3", ""), ("8", "", "", "4 4 4"), ("9", "", "", "")]
    checked, ids = checked_release(tmp_path, rows, ONE, MOVED)
    assert ids == {1: (1,)}
    assert "FU_mask" in only_problem(checked, "hold lesion 7")
    assert "BL_mask" in only_problem(checked, "hold lesion 8") and "BL_mask" in only_problem(
        checked, "hold lesion 9"
    )


def test_problems_of_missing_lesions_name_the_point_that_places_them(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", ""), ("4", "", "18 15 9", "18 15 9"), ("9", "", "", "")]
    checked, ids = checked_release(tmp_path, rows, ONE, {**MOVED, 4: ((9, 15, 18), 1)})
    assert ids == {1: (1,)}
    assert (
        "BL_img_00.nii.gz: does not hold lesion 4, which has the propagated point [18, 15, 9] but no "
        "baseline point; expected voxels of it; lesion 4 is left out of the pair with p_FU_img_00"
    ) in only_problem(checked, "hold lesion 4")
    assert (
        "BL_img_00.nii.gz: does not hold lesion 9, which is listed without a point, and neither does "
        "p_FU_img_00; expected voxels of it; lesion 9 is left out"
    ) in only_problem(checked, "hold lesion 9")


@pytest.mark.parametrize("kept", [1, 2])
def test_merged_lesions_take_whichever_of_their_ids_the_followup_holds(tmp_path: Path, kept: int) -> None:
    rows = [("1", "9 8 5", "12 10 6", ""), ("2", "18 15 9", "12 10 6", "")]
    checked, ids = checked_release(tmp_path, rows, TWO, {kept: ((6, 10, 12), 2)})
    assert ids == {1: (kept,), 2: (kept,)} and not checked.faults


def test_merged_lesions_whose_target_is_missing_are_all_left_out(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "12 10 6", "9 8 5"), ("2", "18 15 9", "12 10 6", "12 10 6")]
    checked, ids = checked_release(tmp_path, rows, TWO, {3: ((6, 10, 12), 2)})
    assert not ids and len(checked.faults) == 2


def test_a_merged_lesion_that_the_baseline_lacks_is_missing(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "12 10 6", ""), ("2", "18 15 9", "12 10 6", "")]
    checked, ids = checked_release(tmp_path, rows, ONE, {1: ((6, 10, 12), 2)})
    assert ids == {1: (1,)}
    assert "whose baseline point is [18, 15, 9]" in only_problem(checked, "problem")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({1: ((4, 5, 5), 1), 2: ((9, 15, 18), 1)}, {1: (1, 2)}),
        ({2: ((9, 15, 18), 1)}, {}),
        ({1: ((4, 5, 5), 1)}, {}),
    ],
)
def test_a_split_lesion_needs_all_parts_that_have_a_point(
    tmp_path: Path, after: Lesions, expected: dict[int, tuple[int, ...]]
) -> None:
    rows = [("1", "9 8 5", "5 5 4", "9 8 5"), ("2", "9 8 5", "18 15 9", "")]
    checked, ids = checked_release(tmp_path, rows, ONE, after)
    assert ids == expected and len(checked.faults) == 1 - len(expected)


def test_a_part_of_a_split_lesion_may_merge_or_vanish(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "5 5 4", ""), ("3", "9 8 5", "18 15 9", ""), ("4", "9 8 5", "", "")]
    rows.append(("2", "18 15 9", "18 15 9", ""))
    checked, ids = checked_release(tmp_path, rows, TWO, {1: ((4, 5, 5), 1), 2: ((9, 15, 18), 1)})
    assert ids == {1: (1, 2), 2: (2,)} and not checked.faults


def test_unlisted_lesions_are_one_problem(tmp_path: Path) -> None:
    before = {**TWO, 3: ((3, 15, 4), 1), 4: ((9, 4, 20), 1)}
    after = {**MOVED, 2: ((9, 15, 18), 1), 3: ((3, 15, 4), 1), 5: ((11, 4, 4), 1)}
    checked, ids = checked_release(tmp_path, [("1", "9 8 5", "10 9 6", "")], before, after)
    assert ids == {1: (1,)}
    assert only_problem(checked, "problem") == (
        f"problem: {tmp_path}/inputsTr/p_BL_mask_BL_img_00.nii.gz: holds lesions 2, 3, 4, which no usable "
        "row links to p_FU_img_00; expected a row for each lesion; lesions 2, 3, 4 are left out of that pair"
    )
    # A lesion of the follow-up alone is new, which is no fault.
    assert "targetsTr/p_FU_mask_FU_img_00.nii.gz: lesion 5 is new, with" in only_problem(checked, "note")


def test_untracked_lesions_of_longiseg_are_problems(tmp_path: Path) -> None:
    entry = {"img_bl": "b", "img_fu": "f", "bl_point": [9, 8, 5], "merged_lesions": [1]}
    # By the links lesion 3 has merged with 1, so that the 3 of the follow-up is another one.
    tracking = {"p": {"1": entry, "3": {**entry, "bl_point": [4, 15, 3]}}}
    before, third = {**TWO, 3: ((3, 15, 4), 1)}, {3: ((3, 4, 20), 1)}
    scans = {"b": before, "f": {**MOVED, **third, 2: TWO[2], 4: ((11, 4, 4), 1)}}
    write_longiseg(tmp_path, {"p": scans}, tracking, "trackingTr.json")
    checked = survey_and_check(read_longiseg(tmp_path), tmp_path / "survey")
    assert {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions} == {1: (1,), 3: (1,)}
    assert "b.nii.gz: holds lesion 2, which no usable row links to f;" in only_problem(checked, "problem")
    assert "f.nii.gz: lesion 4 is new, with neither" in only_problem(checked, "is new")
    assert "f.nii.gz: lesion 3 is another one in b by the links" in only_problem(checked, "another one")


@pytest.mark.slow
def test_followups_of_one_baseline_may_each_link_a_part_of_its_lesions(tmp_path: Path) -> None:
    point = {"fu_point": None, "fu_point_prop": None}
    entries = {
        "1": {**point, "img_bl": "b", "img_fu": "chest", "bl_point": [9, 8, 5], "merged_lesions": [1]},
        "2": {**point, "img_bl": "b", "img_fu": "belly", "bl_point": [18, 15, 9], "merged_lesions": [2]},
    }
    scans = {"b": TWO, "chest": MOVED, "belly": {2: TWO[2]}}
    write_longiseg(tmp_path / "parts", {"p": scans}, {"p": entries}, "trackingTr.json")
    checked = survey_and_check(read_longiseg(tmp_path / "parts"), tmp_path / "survey")
    assert len(checked.cohort.lesions) == 2 and not checked.problems
    # A row of a broken scan counts too, but lesions in both scans of a pair need a row of that pair.
    (tmp_path / "parts" / "imagesTr" / "belly_0000.nii.gz").unlink()
    checked = survey_and_check(read_longiseg(tmp_path / "parts"), tmp_path / "survey")
    assert "is missing" in only_problem(checked, "problem")
    scans["chest"] = {**MOVED, 2: TWO[2]}
    write_longiseg(tmp_path / "both", {"p": scans}, {"p": entries}, "trackingTr.json")
    checked = survey_and_check(read_longiseg(tmp_path / "both"), tmp_path / "survey_of_both")
    assert "holds lesion 2, which no usable row links to chest" in only_problem(checked, "problem")


def _new_lesion(folder: Path, layout: str) -> CheckedCohort:
    """A pair with lesion 1 whose follow-up also shows lesion 4, in a layout."""
    after = {**MOVED, 4: ((9, 15, 18), 1)}
    if layout == "challenge":
        return checked_release(folder, [("1", "9 8 5", "10 9 6", ""), ("4", "", "18 15 9", "")], ONE, after)[
            0
        ]
    if layout == "manifest":
        return survey_and_check(
            read_manifest(manifest_of_pairs(folder, {"p": [ONE, after]})), folder / "survey"
        )
    entry = {"img_bl": "b", "img_fu": "f", "fu_point_prop": float("nan")}
    old = {**entry, "bl_point": [9, 8, 5], "fu_point": [10, 9, 6], "merged_lesions": [1]}
    new = {**entry, "bl_point": float("nan"), "fu_point": [18, 15, 9], "merged_lesions": [4]}
    write_longiseg(folder, {"p": {"b": ONE, "f": after}}, {"p": {"1": old, "4": new}}, "trackingTr.json")
    return survey_and_check(read_longiseg(folder), folder / "survey")


@pytest.mark.parametrize("layout", ["challenge", "longiseg", "manifest"])
def test_a_new_lesion_is_a_note(tmp_path: Path, layout: str) -> None:
    checked = _new_lesion(tmp_path, layout)
    (note,) = checked.problems
    assert note.is_note and [lesion.lesion_id for lesion in checked.cohort.lesions] == [1]
    baseline = checked.cohort.lesions[0].baseline
    assert note.text == f"lesion 4 is new, with neither voxels nor a point in {baseline}"
    assert note.consequence == "new lesions have no prompt and are left out"
    assert note.file == checked.cohort.scan(checked.cohort.lesions[0].followup).labels


def test_new_lesions_of_a_pair_are_one_note(tmp_path: Path) -> None:
    after = {**MOVED, 4: ((9, 15, 18), 1), 6: ((3, 15, 4), 1)}
    checked, _ = checked_release(tmp_path, [("6", "", "4 15 3", ""), ("4", "", "18 15 9", "")], ONE, after)
    assert "lesions 4, 6 are new, with" in only_problem(checked, "note: " + str(tmp_path / "targetsTr"))


@pytest.mark.parametrize("target", [1, 5])
def test_the_target_of_a_merge_is_not_new(tmp_path: Path, target: int) -> None:
    rows = [("1", "9 8 5", "12 10 6", ""), ("2", "18 15 9", "12 10 6", ""), ("5", "", "12 10 6", "")]
    checked, ids = checked_release(tmp_path, rows, TWO, {target: ((6, 10, 12), 2)})
    assert ids == {1: (target,), 2: (target,)} and not checked.problems


def test_an_absent_lesion_with_a_followup_point_is_a_problem(tmp_path: Path) -> None:
    entry = {"img_bl": "b", "img_fu": "f", "bl_point": [9, 8, 5], "fu_point_prop": [10, 9, 6]}
    gone = {**entry, "bl_point": [18, 15, 9], "fu_point": [17, 15, 9], "merged_lesions": [0]}
    tracking = {"p": {"1": {**entry, "merged_lesions": [1]}, "2": gone}}
    write_longiseg(tmp_path, {"p": {"b": TWO, "f": MOVED}}, tracking, "trackingTr.json")
    checked = survey_and_check(read_longiseg(tmp_path), tmp_path / "survey")
    assert [lesion.lesion_id for lesion in checked.cohort.lesions] == [1]
    expected = "f.nii.gz: lesion 2 is absent by the links, but has the follow-up point [17, 15, 9]; expected"
    assert expected in only_problem(checked, "problem")
