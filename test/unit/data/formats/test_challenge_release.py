"""Reader of the challenge's release."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.dataset import Links
from model.data.formats.challenge_release import parse_point, read_challenge
from model.data.formats.readers import read_cohort
from model.errors import InputError
from test.helpers.checked_cohorts import MOVED, ONE, only_problem, survey_and_check
from test.helpers.data_sets import text, write_challenge, write_scan


@pytest.mark.parametrize("cell", ["1 2.5 -3", "(1, 2.5, -3)", "[1, 2.5, -3]", "[1 2.5 -3]", " 1,2.5,-3 "])
def test_points_of_the_release_are_parsed_in_every_form(cell: str) -> None:
    assert parse_point(cell) == (1.0, 2.5, -3.0)


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "[nan, nan, nan]", "None", "()"])
def test_empty_and_nan_points_are_missing(cell: str) -> None:
    assert parse_point(cell) is None


@pytest.mark.parametrize("cell", ["1 2", "1 2 3 4", "a b c", "1 2 nan", "1 2 inf"])
def test_invalid_points_are_refused(cell: str) -> None:
    with pytest.raises(InputError, match="is no point"):
        parse_point(cell)


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 3), st.sampled_from(["{} {} {}", "({}, {}, {})", "[{}, {}, {}]"]))
def test_written_points_are_read_back(point: tuple[float, float, float], template: str) -> None:
    assert parse_point(template.format(*point)) == point


def test_merged_split_vanished_and_new_lesions_of_thechecked_release(tmp_path: Path) -> None:
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
    checked = survey_and_check(cohort, tmp_path / "survey")
    ids = {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
    assert ids == {1: (1,), 2: (1,), 3: (3, 5), 4: ()}
    assert not checked.faults and "lesion 6 is new" in only_problem(checked, "note")
    by_id = {lesion.lesion_id: lesion for lesion in checked.cohort.lesions}
    assert by_id[1].propagated_point_xyz == (6.0, 5.0, 4.0) and by_id[4].followup_point_xyz is None


def test_images_of_one_time_point_are_separate_scans(tmp_path: Path) -> None:
    write_challenge(tmp_path, "p1", [{"lesion_id": "1", "cog_bl": "9 8 5"}], ONE, MOVED)
    for number, folder, which in ((1, "inputsTr", "BL"), (1, "targetsTr", "FU")):
        name = f"p1_{which}_{{}}_{which}_img_{number:02d}.nii.gz"
        images = tmp_path / "inputsTr" / name.format("img")
        write_scan(images, tmp_path / folder / name.format("mask"), {2: ((5, 8, 9), 1)})
    with (tmp_path / "inputsTr" / "p1.csv").open("a") as file:
        file.write("2,1,1,9 8 5,9 8 5,\n")
    checked = survey_and_check(read_challenge(tmp_path), tmp_path / "survey")
    pairs = {(lesion.lesion_id, lesion.baseline, lesion.followup) for lesion in checked.cohort.lesions}
    assert pairs == {(1, "p1_BL_img_00", "p1_FU_img_00"), (2, "p1_BL_img_01", "p1_FU_img_01")}


def test_invalid_rows_are_problems_and_left_out(tmp_path: Path) -> None:
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


def test_a_table_not_in_utf8_is_one_problem_and_others_are_read(tmp_path: Path) -> None:
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
    by_patient = {
        problem.file.stem: problem for problem in cohort.problems if "cannot be read" in problem.text
    }
    assert len(cohort.problems) == len(by_patient) == 3
    for name, problem in by_patient.items():
        assert str(problem).startswith(f"problem: {tables[name]}: cannot be read (")
        assert str(problem).endswith(f"expected a table (CSV), in UTF-8; patient {name} is left out")


@pytest.mark.parametrize("fu_point", ["10 9 6", "11 9 6"])
def test_a_second_table_of_a_patient_is_a_problem_and_left_out(tmp_path: Path, fu_point: str) -> None:
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
    lesions = survey_and_check(cohort, tmp_path / "survey").cohort.lesions
    points = [(lesion.baseline, lesion.followup_point_xyz) for lesion in lesions]
    assert points == [("p_BL_img_00", (10, 9, 6)), ("q_BL_img_00", (10, 9, 6))]
