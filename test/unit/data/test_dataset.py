"""Readers, links and checks: what a data set holds, and all that is wrong with it."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.case.clicks import write_clicks
from model.case.geometry import Geometry
from model.data.checks import CheckedCohort, check_cohort
from model.data.dataset import Cohort, Links, RawLesion
from model.data.formats.challenge_release import parse_point, read_challenge
from model.data.formats.longiseg import read_longiseg
from model.data.formats.manifest import parse_links, read_manifest
from model.data.formats.readers import read_cohort
from model.data.scan_survey import SurveyJob, cached_survey, survey_scan
from model.errors import InputError

from ...helpers.data_sets import (
    GRID,
    Lesions,
    manifest_of_pairs,
    text,
    write_challenge,
    write_longiseg,
    write_manifest,
    write_scan,
)

ONE = {1: ((5, 8, 9), 2)}
MOVED = {1: ((6, 9, 10), 2)}


def _checked(cohort: Cohort, folder: Path) -> CheckedCohort:
    jobs = [SurveyJob(scan, folder / f"{scan.scan_id}.json", 0) for scan in cohort.scans]
    return check_cohort(cohort, {job.scan.scan_id: survey_scan(job) for job in jobs})


def _only(checked: CheckedCohort, part: str) -> str:
    lines = [str(problem) for problem in checked.problems if part in str(problem)]
    assert len(lines) == 1, [str(problem) for problem in checked.problems]
    return lines[0]


# --- points and links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["1 2.5 -3", "(1, 2.5, -3)", "[1, 2.5, -3]", "[1 2.5 -3]", " 1,2.5,-3 "])
def test_a_point_is_read_in_every_form_of_the_release(cell: str) -> None:
    assert parse_point(cell) == (1.0, 2.5, -3.0)


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "[nan, nan, nan]", "None", "()"])
def test_what_is_empty_or_nan_is_missing(cell: str) -> None:
    assert parse_point(cell) is None


@pytest.mark.parametrize("cell", ["1 2", "1 2 3 4", "a b c", "1 2 nan", "1 2 inf"])
def test_anything_else_is_no_point(cell: str) -> None:
    with pytest.raises(InputError, match="is no point"):
        parse_point(cell)


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 3), st.sampled_from(["{} {} {}", "({}, {}, {})", "[{}, {}, {}]"]))
def test_written_points_are_read_back(point: tuple[float, float, float], form: str) -> None:
    assert parse_point(form.format(*point)) == point


def test_links_of_a_manifest() -> None:
    assert parse_links("3>5; 4>5;7 > 7 + 8; 9>") == ((3, (5,)), (4, (5,)), (7, (7, 8)), (9, ()))
    for wrong in ("3", "3>a", "0>1", "3>70000", "3>1; 3>2"):
        with pytest.raises(InputError):
            parse_links(wrong)


# --- the challenge's release -------------------------------------------------------------------------------


def test_the_release_is_read_with_what_merged_split_vanished_and_is_new(tmp_path: Path) -> None:
    before = {1: ((4, 5, 5), 1), 2: ((4, 5, 12), 1), 3: ((9, 15, 6), 1), 4: ((9, 15, 18), 1)}
    after = {1: ((4, 5, 9), 2), 3: ((9, 14, 5), 1), 5: ((9, 18, 6), 1), 6: ((4, 16, 20), 1)}
    merged, parted = text((9, 5, 4)), text((6, 15, 9))
    rows = [
        {"lesion_id": "1", "cog_bl": "5 5 4", "cog_fu": merged, "cog_propagated": "(6, 5, 4)"},
        {"lesion_id": "2", "cog_bl": "12 5 4", "cog_fu": merged, "cog_propagated": "[11, 5, 4]"},
        {"lesion_id": "3", "cog_bl": parted, "cog_fu": "5 14 9", "cog_propagated": "nan"},
        {"lesion_id": "5", "cog_bl": parted, "cog_fu": "6 18 9", "cog_propagated": ""},
        {"lesion_id": "4", "cog_bl": "18 15 9", "cog_fu": "", "cog_propagated": "17 15 9"},
        {"lesion_id": "6.0", "cog_bl": "", "cog_fu": "20 16 4", "cog_propagated": ""},
    ]
    write_challenge(tmp_path, "p1", rows, before, after)
    cohort = read_cohort(tmp_path)
    assert cohort.links is Links.CANDIDATES and cohort.patients == ("p1",) and not cohort.problems
    checked = _checked(cohort, tmp_path / "survey")
    ids = {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
    assert ids == {1: (1,), 2: (1,), 3: (3, 5), 4: ()}
    assert not checked.faults and "lesion 6 is new" in _only(checked, "note")
    by_id = {lesion.lesion_id: lesion for lesion in checked.cohort.lesions}
    assert by_id[1].propagated_point_xyz == (6, 5, 4) and by_id[4].followup_point_xyz is None


def test_several_images_of_a_time_point_are_told_apart(tmp_path: Path) -> None:
    write_challenge(tmp_path, "p1", [{"lesion_id": "1", "cog_bl": "9 8 5"}], ONE, MOVED)
    for number, folder, which in ((1, "inputsTr", "BL"), (1, "targetsTr", "FU")):
        name = f"p1_{which}_{{}}_{which}_img_{number:02d}.nii.gz"
        images = tmp_path / "inputsTr" / name.format("img")
        write_scan(images, tmp_path / folder / name.format("mask"), {2: ((5, 8, 9), 1)})
    with (tmp_path / "inputsTr" / "p1.csv").open("a") as file:
        file.write("2,1,1,9 8 5,9 8 5,\n")
    checked = _checked(read_challenge(tmp_path), tmp_path / "survey")
    pairs = {(lesion.lesion_id, lesion.baseline, lesion.followup) for lesion in checked.cohort.lesions}
    assert pairs == {(1, "p1_BL_img_00", "p1_FU_img_00"), (2, "p1_BL_img_01", "p1_FU_img_01")}


def test_rows_that_cannot_be_used_are_told_and_left_out(tmp_path: Path) -> None:
    rows = [
        {"lesion_id": "1", "cog_bl": "9 8 5"},
        {"lesion_id": "1", "cog_bl": "9 8 5"},
        {"lesion_id": "x", "cog_bl": "9 8 5"},
        {"lesion_id": "70000", "cog_bl": "9 8 5"},
        {"lesion_id": "2", "cog_bl": "9 8"},
        {"lesion_id": "3", "cog_bl": "9 8 5", "img_id_bl": "first"},
    ]
    write_challenge(tmp_path, "p1", rows, ONE, MOVED)
    cohort = read_challenge(tmp_path)
    assert [lesion.lesion_id for lesion in cohort.lesions] == [1]
    assert [problem.text.split(":")[0] for problem in cohort.problems] == [f"row {n}" for n in range(3, 8)]


def _release(folder: Path, rows: list[tuple[str, str, str, str]], before: Lesions, after: Lesions):
    """A patient of the release, read and checked; rows are lesion, baseline, follow-up, propagated point."""
    columns = ("lesion_id", "cog_bl", "cog_fu", "cog_propagated")
    write_challenge(folder, "p", [dict(zip(columns, row, strict=True)) for row in rows], before, after)
    checked = _checked(read_challenge(folder), folder / "survey")
    return checked, {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}


TWO = {**ONE, 2: ((9, 15, 18), 1)}


def test_a_lesion_that_the_table_places_in_a_followup_without_it_is_no_vanished_one(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 5"), ("2", "18 15 9", "17 15 9", "17 14 9")]
    checked, ids = _release(tmp_path, rows, TWO, MOVED)
    assert ids == {1: (1,)}
    assert _only(checked, "problem") == (
        f"problem: {tmp_path}/targetsTr/p_FU_mask_FU_img_00.nii.gz: does not hold lesion 2, whose "
        "follow-up point is [17, 15, 9]; expected voxels of it; lesion 2 is left out of the pair with "
        "p_BL_img_00"
    )


def test_a_lesion_that_the_table_places_in_a_baseline_without_it_is_left_out(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 5"), ("2", "18 15 9", "17 15 9", "17 14 9")]
    checked, ids = _release(tmp_path, rows, ONE, {**MOVED, 2: ((9, 15, 17), 1)})
    assert ids == {1: (1,)}
    assert _only(checked, "problem") == (
        f"problem: {tmp_path}/inputsTr/p_BL_mask_BL_img_00.nii.gz: does not hold lesion 2, whose baseline "
        "point is [18, 15, 9]; expected voxels of it; lesion 2 is left out of the pair with p_FU_img_00"
    )


def test_a_lesion_that_no_labelmap_holds_is_missing_where_the_table_places_it(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", ""), ("7", "", "3 3 3", ""), ("8", "", "", "4 4 4"), ("9", "", "", "")]
    checked, ids = _release(tmp_path, rows, ONE, MOVED)
    assert ids == {1: (1,)}
    assert "FU_mask" in _only(checked, "hold lesion 7")
    assert "BL_mask" in _only(checked, "hold lesion 8") and "BL_mask" in _only(checked, "hold lesion 9")


def test_a_lesion_that_nothing_places_in_the_baseline_is_not_said_to_be_placed_there(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", ""), ("4", "", "18 15 9", "18 15 9"), ("9", "", "", "")]
    checked, ids = _release(tmp_path, rows, ONE, {**MOVED, 4: ((9, 15, 18), 1)})
    assert ids == {1: (1,)}
    assert (
        "BL_img_00.nii.gz: does not hold lesion 4, which has the propagated point [18, 15, 9] but no "
        "baseline point; expected voxels of it; lesion 4 is left out of the pair with p_FU_img_00"
    ) in _only(checked, "hold lesion 4")
    assert (
        "BL_img_00.nii.gz: does not hold lesion 9, which is listed without a point, and neither does "
        "p_FU_img_00; expected voxels of it; lesion 9 is left out"
    ) in _only(checked, "hold lesion 9")


@pytest.mark.parametrize("kept", [1, 2])
def test_of_merged_lesions_the_followup_may_hold_any_one(tmp_path: Path, kept: int) -> None:
    rows = [("1", "9 8 5", "12 10 6", ""), ("2", "18 15 9", "12 10 6", "")]
    checked, ids = _release(tmp_path, rows, TWO, {kept: ((6, 10, 12), 2)})
    assert ids == {1: (kept,), 2: (kept,)} and not checked.faults


def test_merged_lesions_whose_target_is_missing_are_all_left_out(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "12 10 6", "9 8 5"), ("2", "18 15 9", "12 10 6", "12 10 6")]
    checked, ids = _release(tmp_path, rows, TWO, {3: ((6, 10, 12), 2)})
    assert not ids and len(checked.faults) == 2


def test_a_merged_lesion_that_the_baseline_lacks_is_missing(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "12 10 6", ""), ("2", "18 15 9", "12 10 6", "")]
    checked, ids = _release(tmp_path, rows, ONE, {1: ((6, 10, 12), 2)})
    assert ids == {1: (1,)}
    assert "whose baseline point is [18, 15, 9]" in _only(checked, "problem")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({1: ((4, 5, 5), 1), 2: ((9, 15, 18), 1)}, {1: (1, 2)}),
        ({2: ((9, 15, 18), 1)}, {}),
        ({1: ((4, 5, 5), 1)}, {}),
    ],
)
def test_a_split_lesion_needs_all_parts_that_have_a_point(tmp_path: Path, after: Lesions, expected) -> None:
    rows = [("1", "9 8 5", "5 5 4", "9 8 5"), ("2", "9 8 5", "18 15 9", "")]
    checked, ids = _release(tmp_path, rows, ONE, after)
    assert ids == expected and len(checked.faults) == 1 - len(expected)


def test_a_part_may_merge_with_another_lesion_or_vanish(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "5 5 4", ""), ("3", "9 8 5", "18 15 9", ""), ("4", "9 8 5", "", "")]
    rows.append(("2", "18 15 9", "18 15 9", ""))
    checked, ids = _release(tmp_path, rows, TWO, {1: ((4, 5, 5), 1), 2: ((9, 15, 18), 1)})
    assert ids == {1: (1, 2), 2: (2,)} and not checked.faults


def test_a_table_that_is_not_in_utf8_is_one_problem_and_the_others_go_on(tmp_path: Path) -> None:
    for patient in ("early", "good", "late", "wide"):
        row = {"lesion_id": "1", "cog_bl": "9 8 5", "cog_fu": "10 9 6"}
        write_challenge(tmp_path, patient, [row], ONE, MOVED)
    tables = {name: tmp_path / "inputsTr" / f"{name}.csv" for name in ("early", "late", "wide")}
    head, rest = tables["early"].read_bytes().split(b"\n", 1)
    tables["early"].write_bytes(head.rstrip() + b",Gr\xf6\xdfe\n" + rest)
    tables["late"].write_bytes(head + b"\n" + 3000 * b",,,,,\n" + b"2,0,0,\xfc,,\n")
    tables["wide"].write_bytes(tables["wide"].read_text().encode("utf-16"))
    cohort = read_cohort(tmp_path)
    assert cohort.patients == ("good",)
    found = {problem.file.stem: problem for problem in cohort.problems if "cannot be read" in problem.text}
    assert len(cohort.problems) == len(found) == 3
    for name, problem in found.items():
        assert str(problem).startswith(f"problem: {tables[name]}: cannot be read (")
        assert str(problem).endswith(f"expected a table (CSV) in UTF-8; patient {name} is left out")


@pytest.mark.parametrize("fu_point", ["10 9 6", "11 9 6"])
def test_a_second_table_of_a_patient_is_told_and_left_out(tmp_path: Path, fu_point: str) -> None:
    for patient in ("p", "q"):
        row = {"lesion_id": "1", "cog_bl": "9 8 5", "cog_fu": "10 9 6", "cog_propagated": "10 9 5"}
        write_challenge(tmp_path, patient, [row], ONE, MOVED)
    first, second = tmp_path / "inputsTr" / "p.csv", tmp_path / "targetsTr" / "p.csv"
    second.write_text(first.read_text().replace("10 9 6", fu_point))
    cohort = read_cohort(tmp_path)
    assert [str(problem) for problem in cohort.problems] == [
        f"problem: {second}: patient p is in {first} already; expected one table for each patient; "
        "the table is left out"
    ]
    lesions = _checked(cohort, tmp_path / "survey").cohort.lesions
    found = [(lesion.baseline, lesion.followup_point_xyz) for lesion in lesions]
    assert found == [("p_BL_img_00", (10, 9, 6)), ("q_BL_img_00", (10, 9, 6))]


# --- lesions without a row ---------------------------------------------------------------------------------


def test_lesions_that_the_table_does_not_list_are_one_problem(tmp_path: Path) -> None:
    before = {**TWO, 3: ((3, 15, 4), 1), 4: ((9, 4, 20), 1)}
    after = {**MOVED, 2: ((9, 15, 18), 1), 3: ((3, 15, 4), 1), 5: ((11, 4, 4), 1)}
    checked, ids = _release(tmp_path, [("1", "9 8 5", "10 9 6", "")], before, after)
    assert ids == {1: (1,)}
    assert _only(checked, "problem") == (
        f"problem: {tmp_path}/inputsTr/p_BL_mask_BL_img_00.nii.gz: holds lesions 2, 3, 4, which no usable "
        "row links to p_FU_img_00; expected a row for each lesion; lesions 2, 3, 4 are left out of that pair"
    )
    # What the follow-up alone shows is new, and nothing wrong.
    assert "targetsTr/p_FU_mask_FU_img_00.nii.gz: lesion 5 is new, with" in _only(checked, "note")


def test_lesions_that_longiseg_does_not_track_are_told(tmp_path: Path) -> None:
    entry = {"img_bl": "b", "img_fu": "f", "bl_point": [9, 8, 5], "merged_lesions": [1]}
    # By the links lesion 3 has merged with 1, so that the 3 of the follow-up is another one.
    tracking = {"p": {"1": entry, "3": {**entry, "bl_point": [4, 15, 3]}}}
    before, third = {**TWO, 3: ((3, 15, 4), 1)}, {3: ((3, 4, 20), 1)}
    scans = {"b": before, "f": {**MOVED, **third, 2: TWO[2], 4: ((11, 4, 4), 1)}}
    write_longiseg(tmp_path, {"p": scans}, tracking, "trackingTr.json")
    checked = _checked(read_longiseg(tmp_path), tmp_path / "survey")
    assert {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions} == {1: (1,), 3: (1,)}
    assert "b.nii.gz: holds lesion 2, which no usable row links to f;" in _only(checked, "problem")
    assert "f.nii.gz: lesion 4 is new, with neither" in _only(checked, "is new")
    assert "f.nii.gz: lesion 3 is another one in b by the links" in _only(checked, "another one")


def test_followups_of_one_baseline_may_share_its_lesions(tmp_path: Path) -> None:
    point = {"fu_point": None, "fu_point_prop": None}
    entries = {
        "1": {**point, "img_bl": "b", "img_fu": "chest", "bl_point": [9, 8, 5], "merged_lesions": [1]},
        "2": {**point, "img_bl": "b", "img_fu": "belly", "bl_point": [18, 15, 9], "merged_lesions": [2]},
    }
    scans = {"b": TWO, "chest": MOVED, "belly": {2: TWO[2]}}
    write_longiseg(tmp_path / "parts", {"p": scans}, {"p": entries}, "trackingTr.json")
    checked = _checked(read_longiseg(tmp_path / "parts"), tmp_path / "survey")
    assert len(checked.cohort.lesions) == 2 and not checked.problems
    # Nor is a row wanted twice where its scan cannot be used; but where both scans show a lesion.
    (tmp_path / "parts" / "imagesTr" / "belly_0000.nii.gz").unlink()
    checked = _checked(read_longiseg(tmp_path / "parts"), tmp_path / "survey")
    assert "is missing" in _only(checked, "problem")
    scans["chest"] = {**MOVED, 2: TWO[2]}
    write_longiseg(tmp_path / "both", {"p": scans}, {"p": entries}, "trackingTr.json")
    checked = _checked(read_longiseg(tmp_path / "both"), tmp_path / "survey_of_both")
    assert "holds lesion 2, which no usable row links to chest" in _only(checked, "problem")


# --- new lesions, and labelmaps that are empty -------------------------------------------------------------


def _new_lesion(folder: Path, form: str) -> CheckedCohort:
    """A pair whose follow-up shows lesion 4 too, in a layout."""
    after = {**MOVED, 4: ((9, 15, 18), 1)}
    if form == "challenge":
        return _release(folder, [("1", "9 8 5", "10 9 6", ""), ("4", "", "18 15 9", "")], ONE, after)[0]
    if form == "manifest":
        return _checked(read_manifest(manifest_of_pairs(folder, {"p": [ONE, after]})), folder / "survey")
    entry = {"img_bl": "b", "img_fu": "f", "fu_point_prop": float("nan")}
    old = {**entry, "bl_point": [9, 8, 5], "fu_point": [10, 9, 6], "merged_lesions": [1]}
    new = {**entry, "bl_point": float("nan"), "fu_point": [18, 15, 9], "merged_lesions": [4]}
    write_longiseg(folder, {"p": {"b": ONE, "f": after}}, {"p": {"1": old, "4": new}}, "trackingTr.json")
    return _checked(read_longiseg(folder), folder / "survey")


@pytest.mark.parametrize("form", ["challenge", "longiseg", "manifest"])
def test_an_ordinary_new_lesion_is_a_note(tmp_path: Path, form: str) -> None:
    checked = _new_lesion(tmp_path, form)
    (note,) = checked.problems
    assert note.is_note and [lesion.lesion_id for lesion in checked.cohort.lesions] == [1]
    baseline = checked.cohort.lesions[0].baseline
    assert note.text == f"lesion 4 is new, with neither voxels nor a point in {baseline}"
    assert note.consequence == "new lesions cannot be asked for, and are left out"
    assert note.file == checked.cohort.scan(checked.cohort.lesions[0].followup).labels


def test_new_lesions_of_a_pair_are_one_note(tmp_path: Path) -> None:
    after = {**MOVED, 4: ((9, 15, 18), 1), 6: ((3, 15, 4), 1)}
    checked, _ = _release(tmp_path, [("6", "", "4 15 3", ""), ("4", "", "18 15 9", "")], ONE, after)
    assert "lesions 4, 6 are new, with" in _only(checked, "note: " + str(tmp_path / "targetsTr"))


@pytest.mark.parametrize("held", [1, 5])
def test_what_lesions_have_merged_into_is_not_new(tmp_path: Path, held: int) -> None:
    rows = [("1", "9 8 5", "12 10 6", ""), ("2", "18 15 9", "12 10 6", ""), ("5", "", "12 10 6", "")]
    checked, ids = _release(tmp_path, rows, TWO, {held: ((6, 10, 12), 2)})
    assert ids == {1: (held,), 2: (held,)} and not checked.problems


def test_an_empty_baseline_follows_nothing_and_says_so(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 6"), ("2", "18 15 9", "", "17 15 9")]
    checked, ids = _release(tmp_path, rows, {}, MOVED)
    assert not ids and "it shows no lesion to follow" in _only(checked, "is empty")
    assert len(checked.faults) == 3


def test_an_empty_followup_says_what_is_absent_there(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 6"), ("2", "18 15 9", "", "17 15 9")]
    checked, ids = _release(tmp_path, rows, TWO, {})
    assert ids == {2: ()} and len(checked.faults) == 1
    assert _only(checked, "note").endswith("is empty; expected lesions; 1 lesion is absent there")


# --- LongiSeg ----------------------------------------------------------------------------------------------


def test_an_absent_lesion_of_longiseg_has_no_true_point(tmp_path: Path) -> None:
    entry = {"img_bl": "b", "img_fu": "f", "bl_point": [9, 8, 5], "fu_point_prop": [10, 9, 6]}
    gone = {**entry, "bl_point": [18, 15, 9], "fu_point": [17, 15, 9], "merged_lesions": [0]}
    tracking = {"p": {"1": {**entry, "merged_lesions": [1]}, "2": gone}}
    write_longiseg(tmp_path, {"p": {"b": TWO, "f": MOVED}}, tracking, "trackingTr.json")
    checked = _checked(read_longiseg(tmp_path), tmp_path / "survey")
    assert [lesion.lesion_id for lesion in checked.cohort.lesions] == [1]
    told = "f.nii.gz: lesion 2 is absent by the links, but has the follow-up point [17, 15, 9]; expected"
    assert told in _only(checked, "problem")


def test_the_first_generation_of_longiseg(tmp_path: Path) -> None:
    scans = {"p_BL_img_00": {1: ((4, 5, 5), 1), 2: ((9, 15, 6), 1)}, "p_FU_img_00": {1: ((4, 6, 6), 2)}}
    nan = float("nan")
    lesion = {"img_bl": 0, "img_fu": 0, "bl_point": [5, 5, 4], "merged_lesions": [1]}
    gone = {"img_bl": 0, "img_fu": 0, "bl_point": [6, 15, 9], "merged_lesions": 0}
    tracking = {
        "p": {
            "1": {**lesion, "fu_point": [6, 6, 4], "fu_point_prop": nan},
            "2": {**gone, "fu_point": nan, "fu_point_prop": [7, 15, 9]},
            "3": {**gone, "bl_point": [nan, nan, nan]},
            "4": {**lesion, "img_bl": 7},
        }
    }
    write_longiseg(tmp_path, {"p": scans}, tracking, "tracking.json")
    cohort = read_cohort(tmp_path)
    assert "img_bl is 7" in str(cohort.problems[0])
    checked = _checked(cohort, tmp_path / "survey")
    assert checked.cohort.lesions == (
        RawLesion(1, "p_BL_img_00", "p_FU_img_00", (1,), (5, 5, 4), (6, 6, 4), None),
        RawLesion(2, "p_BL_img_00", "p_FU_img_00", (), (6, 15, 9), None, (7, 15, 9)),
    )
    assert "does not hold lesion 3" in _only(checked, "p_BL_img_00.nii.gz")


def test_the_second_generation_of_longiseg_has_several_pairs(tmp_path: Path) -> None:
    scans = dict.fromkeys(("a", "b", "c"), ONE)
    entry = {"bl_point": [9, 8, 5], "fu_point": None, "fu_point_prop": [9, 8, 5], "merged_lesions": [1]}
    steps = [{"1": {**entry, "img_bl": x, "img_fu": y}} for x, y in (("a", "b"), ("b", "c"))]
    write_longiseg(tmp_path, {"p": scans}, {"p": steps}, "trackingTr.json")
    lesions = _checked(read_longiseg(tmp_path), tmp_path / "survey").cohort.lesions
    assert [(lesion.baseline, lesion.followup) for lesion in lesions] == [("a", "b"), ("b", "c")]
    assert lesions[0].followup_point_xyz == (9, 8, 5)  # the centre of its mask


def test_a_lesion_that_became_another_takes_its_points(tmp_path: Path) -> None:
    scans = {"a": {1: ((4, 5, 5), 1), 2: ((4, 5, 9), 1)}, "b": {1: ((4, 5, 7), 2)}}
    both = {"img_bl": "a", "img_fu": "b", "merged_lesions": [1]}
    tracking = {
        "p": {
            "1": {**both, "bl_point": [5, 5, 4], "fu_point": [7, 5, 4], "fu_point_prop": [6, 5, 4]},
            "2": {**both, "bl_point": [9, 5, 4]},
        }
    }
    write_longiseg(tmp_path, {"p": scans}, tracking, "trackingTr.json")
    second = read_longiseg(tmp_path).lesions[1]
    assert (second.followup_point_xyz, second.propagated_point_xyz) == ((7, 5, 4), (6, 5, 4))


def test_without_tracking_the_first_scan_is_the_followup(tmp_path: Path) -> None:
    write_longiseg(tmp_path, {"p": {"real": ONE, "synthetic": MOVED}}, {}, None)
    (lesion,) = _checked(read_cohort(tmp_path), tmp_path / "survey").cohort.lesions
    assert (lesion.baseline, lesion.followup) == ("synthetic", "real")


# --- manifests ---------------------------------------------------------------------------------------------


def test_a_manifest_pairs_consecutive_scans_by_order(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED, {**ONE, 2: ((9, 15, 18), 1)}]})
    checked = _checked(read_manifest(path), tmp_path / "survey")
    pairs = [(lesion.baseline, lesion.followup, lesion.followup_ids) for lesion in checked.cohort.lesions]
    assert pairs == [("p_t0", "p_t1", (1,)), ("p_t1", "p_t2", (1,))]
    assert "lesion 2 is new, with neither voxels nor a point in p_t1" in _only(checked, "note")


def test_a_manifest_tells_points_and_links(tmp_path: Path) -> None:
    before = {1: ((4, 5, 5), 1), 2: ((4, 5, 12), 1), 3: ((9, 15, 6), 1)}
    write_scan(tmp_path / "a.mha", tmp_path / "al.mha", before)
    write_scan(tmp_path / "b.mha", tmp_path / "bl.mha", {7: ((4, 5, 9), 2), 4: ((9, 16, 18), 1)})
    write_clicks(tmp_path / "a.json", {4: (18, 15, 9)})
    write_clicks(tmp_path / "b.json", {3: (6, 15, 9), 1: (7, 5, 4)})
    row = {
        "patient": "p",
        "image": "a.mha",
        "labels": "al.mha",
        "order": "1",
        "points": "a.json",
        "links": "",
    }
    later = {"image": "b.mha", "labels": "bl.mha", "points": "b.json", "order": "2", "links": "1>7; 2>7"}
    path = write_manifest(tmp_path, [{"timepoint": "x", **row}, {"timepoint": "y", **row, **later}])
    checked = _checked(read_manifest(path), tmp_path / "survey")
    ids = {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
    assert ids == {1: (7,), 2: (7,), 3: ()}
    # The points of a first scan say where its lesions are.
    assert "al.mha: does not hold lesion 4, whose baseline point is [18, 15, 9]" in _only(checked, "problem")
    assert len(checked.problems) == 1


def test_links_hold_where_the_followup_uses_an_id_again(tmp_path: Path) -> None:
    scans = [{3: ((4, 5, 5), 1), 9: ((9, 15, 6), 1)}]
    scans.append({3: ((9, 15, 18), 1), 5: ((4, 5, 6), 1), 9: ((4, 15, 20), 1)})
    write_clicks(tmp_path / "a.json", {3: (5, 5, 4), 9: (6, 15, 9)})
    write_clicks(tmp_path / "b.json", {9: (7, 15, 9)})
    manifest_of_pairs(tmp_path, {"p": scans})
    files = [{"image": f"p_{n}_ct.nii.gz", "labels": f"p_{n}_labels.nii.gz"} for n in (0, 1)]
    rows = [
        {"patient": "p", "timepoint": "a", **files[0], "points": "a.json", "links": ""},
        {"patient": "p", "timepoint": "b", **files[1], "points": "b.json", "links": "3>5; 9>"},
    ]
    checked = _checked(read_manifest(write_manifest(tmp_path, rows)), tmp_path / "survey")
    ids = {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
    assert ids == {3: (5,), 9: ()}
    assert "lesions 3, 9 are another one in p_a by the links" in _only(checked, "note")


def test_a_later_baseline_is_asked_for_the_centres_of_its_masks(tmp_path: Path) -> None:
    manifest_of_pairs(tmp_path, {"p": [ONE, MOVED, {**ONE, 2: ((9, 15, 18), 1)}]})
    for number, clicks in enumerate(({1: (8, 8, 5)}, {1: (2, 3, 4), 2: (17, 15, 9)}, {1: (8, 7, 5)})):
        write_clicks(tmp_path / f"{number}.json", clicks)
    rows = [
        {
            "patient": "p",
            "timepoint": f"t{n}",
            "image": f"p_{n}_ct.nii.gz",
            "labels": f"p_{n}_labels.nii.gz",
            "points": f"{n}.json",
        }
        for n in range(3)
    ]
    checked = _checked(read_manifest(write_manifest(tmp_path, rows)), tmp_path / "survey")
    lesions = checked.cohort.lesions
    found = [(lesion.lesion_id, lesion.baseline, lesion.baseline_point_xyz) for lesion in lesions]
    # A lesion that the later baseline does not show has only the place that it was propagated to.
    assert found == [(1, "p_t0", (8, 8, 5)), (1, "p_t1", (10, 9, 6)), (2, "p_t1", (17, 15, 9))]
    assert [lesion.propagated_point_xyz for lesion in lesions[:2]] == [(2, 3, 4), (8, 7, 5)]
    assert "lesion 2 is asked about from p_t1, which does not show it; its baseline mask is empty" in _only(
        checked, "p_1_labels"
    )


def test_a_scan_between_two_may_show_nothing(tmp_path: Path) -> None:
    manifest_of_pairs(tmp_path, {"p": [ONE, {}, MOVED]})
    for number in (1, 2):
        write_clicks(tmp_path / f"{number}.json", {1: (9, 8, 5)})
    rows = [
        {
            "patient": "p",
            "timepoint": f"t{n}",
            "image": f"p_{n}_ct.nii.gz",
            "labels": f"p_{n}_labels.nii.gz",
            "points": f"{n}.json" if n else "",
        }
        for n in range(3)
    ]
    checked = _checked(read_manifest(write_manifest(tmp_path, rows)), tmp_path / "survey")
    assert len(checked.cohort.lesions) == 2 and not checked.faults
    told = "1 lesion is absent there, and 1 lesion is followed from a propagated point"
    assert told in _only(checked, "p_1_labels.nii.gz: is empty")


def test_a_manifest_may_name_the_baseline(tmp_path: Path) -> None:
    rows = [
        {"patient": "p", "timepoint": t, "image": "i", "labels": "l", "baseline": baseline}
        for t, baseline in (("real", ""), ("one", "real"), ("two", "real"), ("three", "four"))
    ]
    cohort = read_manifest(write_manifest(tmp_path, rows))
    pairs = [(pair.baseline, pair.followup) for pair in cohort.pairs]
    assert pairs == [("p_real", "p_one"), ("p_real", "p_two")]
    assert "p_four of p_three is no other scan" in str(cohort.problems[0])


def test_a_manifest_names_columns_and_rows_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("patient,timepoint,image\np,t,i\n")
    with pytest.raises(InputError, match="'labels' is missing"):
        read_manifest(path)
    path.write_text("patient,timepoint,image,labels,order\np,t,a,b,1\np,t,a,b,2\n,t,a,b,3\nq,t,a,b,soon\n")
    cohort = read_manifest(path)
    assert len(cohort.scans) == 1 and len(cohort.problems) == 3


def test_a_folder_of_nothing_known_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no data set that is known"):
        read_cohort(tmp_path)
    with pytest.raises(InputError, match="is missing"):
        read_cohort(tmp_path / "absent")


# --- checks ------------------------------------------------------------------------------------------------


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    patients = {name: [ONE, MOVED] for name in ("fine", "grid", "gone", "cut", "float", "none")}
    path = manifest_of_pairs(tmp_path, patients)
    other = replace(GRID, origin_xyz=(0.0, 0.0, 0.0))
    write_scan(tmp_path / "unused.nii.gz", tmp_path / "grid_0_labels.nii.gz", ONE, other)
    (tmp_path / "gone_1_ct.nii.gz").unlink()
    whole = gzip.decompress((tmp_path / "cut_0_ct.nii.gz").read_bytes())
    (tmp_path / "cut_0_ct.nii.gz").write_bytes(gzip.compress(whole[:2000]))
    (tmp_path / "float_0_labels.nii.gz").write_bytes(b"nonsense")
    write_scan(tmp_path / "none_0_ct.nii.gz", tmp_path / "none_0_labels.nii.gz", {})
    checked = _checked(read_manifest(path), tmp_path / "survey")
    assert "lies on another grid" in _only(checked, "grid_0_labels")
    assert "is missing" in _only(checked, "gone_1_ct")
    assert "is truncated" in _only(checked, "cut_0_ct")
    assert "cannot be read as an image" in _only(checked, "float_0_labels")
    assert "is empty" in _only(checked, "none_0_labels")
    assert len(checked.faults) == 5
    assert checked.cohort.patients == ("fine",) and len(checked.cohort.lesions) == 1


def test_points_outside_are_not_used_and_odd_ones_noted(tmp_path: Path) -> None:
    rows = [
        {"lesion_id": "1", "cog_bl": "9 8 99", "cog_fu": "10 9 6", "cog_propagated": "-3 9 6"},
        {"lesion_id": "2", "cog_bl": "2 2 1", "cog_fu": "20 16 11"},
    ]
    write_challenge(tmp_path, "p", rows, {**ONE, 2: ((11, 19, 23), 1)}, {**MOVED, 2: ((11, 16, 20), 1)})
    checked = _checked(read_challenge(tmp_path), tmp_path / "survey")
    assert "the point is not used" in _only(checked, "baseline point [9, 8, 99]")
    assert "the point is not used" in _only(checked, "propagated point [-3, 9, 6]")
    assert "mm from its voxels" in _only(checked, "baseline point [2, 2, 1]")
    lesion = checked.cohort.lesions[0]
    assert lesion.baseline_point_xyz == (9, 8, 5) and lesion.propagated_point_xyz is None


def test_an_absent_lesion_without_a_propagated_point_is_left_out(tmp_path: Path) -> None:
    rows = [{"lesion_id": "1", "cog_bl": "9 8 5"}, {"lesion_id": "2", "cog_bl": "18 15 9"}]
    write_challenge(tmp_path, "p", rows, {**ONE, 2: ((9, 15, 18), 1)}, MOVED)
    checked = _checked(read_challenge(tmp_path), tmp_path / "survey")
    assert "no propagated point" in _only(checked, "lesion 2")
    assert [lesion.lesion_id for lesion in checked.cohort.lesions] == [1]


def test_orientations_are_noted(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    turned = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    write_scan(tmp_path / "p_0_ct.nii.gz", tmp_path / "p_0_labels.nii.gz", ONE, turned)
    tilted = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (1, 0, 0, 0, 0.96, -0.28, 0, 0.28, 0.96))
    write_scan(tmp_path / "p_1_ct.nii.gz", tmp_path / "p_1_labels.nii.gz", MOVED, tilted)
    checked = _checked(read_manifest(path), tmp_path / "survey")
    assert "run against those of p_t1" in _only(checked, "p_0_ct")
    assert "tilted by 16 degrees" in _only(checked, "p_1_ct")
    assert not checked.faults


def test_a_look_is_kept_until_a_file_changes(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    job = SurveyJob(read_manifest(path).scans[0], tmp_path / "kept.json", 0)
    assert cached_survey(job) is None
    survey = survey_scan(job)
    assert cached_survey(job) == survey
    write_scan(job.scan.image, job.scan.labels or path, MOVED)
    assert cached_survey(job) is None


def test_excluded_patients_leave_nothing(tmp_path: Path) -> None:
    cohort = read_manifest(manifest_of_pairs(tmp_path, {"p": [ONE, MOVED], "q": [ONE, MOVED]}))
    left = cohort.without(frozenset({"q"}))
    assert left.patients == ("p",) and {pair.baseline for pair in left.pairs} == {"p_t0"}


def test_scans_of_a_manifest_may_follow_none(tmp_path: Path) -> None:
    rows = [
        {"patient": "p", "timepoint": t, "image": "i", "labels": "l", "baseline": baseline}
        for t, baseline in (("a", "-"), ("b", "-"), ("b2", "b"))
    ]
    cohort = read_manifest(write_manifest(tmp_path, rows))
    assert [(pair.baseline, pair.followup) for pair in cohort.pairs] == [("p_b", "p_b2")]
    assert not cohort.problems


def test_a_baseline_is_looked_for_among_the_scans_of_its_patient(tmp_path: Path) -> None:
    """Names that look alike when patient and time point are put together."""
    rows = [
        {"patient": patient, "timepoint": t, "image": "i", "labels": "l", "baseline": baseline}
        for patient, t, baseline in (("a_b", "c", ""), ("a", "x", ""), ("a", "y", "b_c"))
    ]
    cohort = read_manifest(write_manifest(tmp_path, rows))
    assert not cohort.pairs
    assert "a_b_c of a_y is no other scan" in str(cohort.problems[0])
