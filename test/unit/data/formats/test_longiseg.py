"""Reader of LongiSeg's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.case.raw_lesion import RawLesion
from model.data.formats.longiseg import read_longiseg
from model.data.formats.readers import read_cohort
from model.errors import InputError
from test.helpers.checked_cohorts import MOVED, ONE, only_problem, survey_and_check
from test.helpers.data_sets import write_longiseg


def test_first_generation_of_longiseg(tmp_path: Path) -> None:
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
    assert "img_bl is 'p_BL_img_07'" in str(cohort.problems[0])
    checked = survey_and_check(cohort, tmp_path / "survey")
    assert checked.cohort.lesions == (
        RawLesion(1, "p_BL_img_00", "p_FU_img_00", (1,), (5, 5, 4), (6, 6, 4), None),
        RawLesion(2, "p_BL_img_00", "p_FU_img_00", (), (6, 15, 9), None, (7, 15, 9)),
    )
    assert "does not hold lesion 3" in only_problem(checked, "p_BL_img_00.nii.gz")


def test_second_generation_of_longiseg_has_several_pairs(tmp_path: Path) -> None:
    scans = dict.fromkeys(("a", "b", "c"), ONE)
    entry = {"bl_point": [9, 8, 5], "fu_point": None, "fu_point_prop": [9, 8, 5], "merged_lesions": [1]}
    steps = [{"1": {**entry, "img_bl": x, "img_fu": y}} for x, y in (("a", "b"), ("b", "c"))]
    write_longiseg(tmp_path, {"p": scans}, {"p": steps}, "trackingTr.json")
    lesions = survey_and_check(read_longiseg(tmp_path), tmp_path / "survey").cohort.lesions
    assert [(lesion.baseline, lesion.followup) for lesion in lesions] == [("a", "b"), ("b", "c")]
    assert lesions[0].followup_point_xyz == (9, 8, 5)  # the centre of its mask


def test_a_pair_of_scans_without_lesions_is_refused(tmp_path: Path) -> None:
    """As `LongiSeg_prepare_tracking` begins with."""
    write_longiseg(
        tmp_path, {"p": {"a": ONE, "b": ONE}}, {"p": {"img_bl": "a", "img_fu": "b"}}, "trackingTr.json"
    )
    with pytest.raises(InputError, match="p names a pair of scans without lesions; expected"):
        read_longiseg(tmp_path)


def test_a_merged_lesion_takes_the_followup_points_of_its_target(tmp_path: Path) -> None:
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


def test_without_a_tracking_file_the_first_scan_is_the_followup(tmp_path: Path) -> None:
    write_longiseg(tmp_path, {"p": {"real": ONE, "synthetic": MOVED}}, {}, None)
    (lesion,) = survey_and_check(read_cohort(tmp_path), tmp_path / "survey").cohort.lesions
    assert (lesion.baseline, lesion.followup) == ("synthetic", "real")
