"""Checks of a data set: problems and notes."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import read_image, write_image
from model.data.formats.challenge_release import read_challenge
from model.data.formats.manifest import read_manifest
from test.helpers.checked_cohorts import MOVED, ONE, TWO, checked_release, only_problem, survey_and_check
from test.helpers.data_sets import GRID, manifest_of_pairs, write_challenge, write_scan


def test_an_empty_baseline_is_a_problem(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 6"), ("2", "18 15 9", "", "17 15 9")]
    checked, ids = checked_release(tmp_path, rows, {}, MOVED)
    assert not ids and "it shows no lesion to follow" in only_problem(checked, "is empty")
    assert len(checked.faults) == 3


def test_an_empty_followup_is_a_note_with_its_absent_lesions(tmp_path: Path) -> None:
    rows = [("1", "9 8 5", "10 9 6", "10 9 6"), ("2", "18 15 9", "", "17 15 9")]
    checked, ids = checked_release(tmp_path, rows, TWO, {})
    assert ids == {2: ()} and len(checked.faults) == 1
    assert only_problem(checked, "note").endswith("is empty; expected lesions; 1 lesion is absent there")


@pytest.mark.slow
def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    patients = {name: [ONE, MOVED] for name in ("fine", "grid", "gone", "cut", "float", "none")}
    path = manifest_of_pairs(tmp_path, patients)
    other = replace(GRID, origin_xyz=(0.0, 0.0, 0.0))
    write_scan(tmp_path / "unused.nii.gz", tmp_path / "grid_0_labels.nii.gz", ONE, other)
    (tmp_path / "gone_1_ct.nii.gz").unlink()
    whole = gzip.decompress((tmp_path / "cut_0_ct.nii.gz").read_bytes())
    (tmp_path / "cut_0_ct.nii.gz").write_bytes(gzip.compress(whole[:2000]))
    (tmp_path / "float_0_labels.nii.gz").write_bytes(b"nonsense")
    write_scan(tmp_path / "none_0_ct.nii.gz", tmp_path / "none_0_labels.nii.gz", {})
    checked = survey_and_check(read_manifest(path), tmp_path / "survey")
    assert "lies on another grid" in only_problem(checked, "grid_0_labels")
    assert "is missing" in only_problem(checked, "gone_1_ct")
    assert "is truncated" in only_problem(checked, "cut_0_ct")
    assert "cannot be read as an image" in only_problem(checked, "float_0_labels")
    assert "is empty" in only_problem(checked, "none_0_labels")
    assert len(checked.faults) == 5
    assert checked.cohort.patients == ("fine",) and len(checked.cohort.lesions) == 1


def test_points_outside_are_not_used_and_far_ones_noted(tmp_path: Path) -> None:
    rows = [
        {"lesion_id": "1", "cog_bl": "9 8 99", "cog_fu": "10 9 6", "cog_propagated": "-3 9 6"},
        {"lesion_id": "2", "cog_bl": "2 2 1", "cog_fu": "20 16 11"},
    ]
    write_challenge(tmp_path, "p", rows, {**ONE, 2: ((11, 19, 23), 1)}, {**MOVED, 2: ((11, 16, 20), 1)})
    checked = survey_and_check(read_challenge(tmp_path), tmp_path / "survey")
    assert "the point is not used" in only_problem(checked, "baseline point [9, 8, 99]")
    assert "the point is not used" in only_problem(checked, "propagated point [-3, 9, 6]")
    assert "mm from its voxels" in only_problem(checked, "baseline point [2, 2, 1]")
    lesion = checked.cohort.lesions[0]
    assert lesion.baseline_point_xyz == (9.0, 8.0, 5.0) and lesion.propagated_point_xyz is None


def test_an_absent_lesion_without_a_propagated_point_is_left_out(tmp_path: Path) -> None:
    rows = [{"lesion_id": "1", "cog_bl": "9 8 5"}, {"lesion_id": "2", "cog_bl": "18 15 9"}]
    write_challenge(tmp_path, "p", rows, {**ONE, 2: ((9, 15, 18), 1)}, MOVED)
    checked = survey_and_check(read_challenge(tmp_path), tmp_path / "survey")
    assert "no propagated point" in only_problem(checked, "lesion 2")
    assert [lesion.lesion_id for lesion in checked.cohort.lesions] == [1]


def test_turned_and_tilted_grids_are_notes(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    turned = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    write_scan(tmp_path / "p_0_ct.nii.gz", tmp_path / "p_0_labels.nii.gz", ONE, turned)
    tilted = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (1, 0, 0, 0, 0.96, -0.28, 0, 0.28, 0.96))
    write_scan(tmp_path / "p_1_ct.nii.gz", tmp_path / "p_1_labels.nii.gz", MOVED, tilted)
    checked = survey_and_check(read_manifest(path), tmp_path / "survey")
    assert "run against those of p_t1" in only_problem(checked, "p_0_ct")
    assert "tilted by 16 degrees" in only_problem(checked, "p_1_ct")
    assert not checked.faults


def test_scans_that_are_hardly_in_hu_are_notes(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    hu = read_image(tmp_path / "p_0_ct.nii.gz").array
    write_image(tmp_path / "p_0_ct.nii.gz", (hu + 1024).astype(np.uint16), GRID)
    checked = survey_and_check(read_manifest(path), tmp_path / "survey")
    assert "is hardly in HU: values from" in only_problem(checked, "p_0_ct")
    assert not checked.faults
