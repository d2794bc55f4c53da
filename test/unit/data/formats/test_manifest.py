"""Reader of manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.case.clicks import write_clicks
from model.data.formats.manifest import parse_links, read_manifest
from model.errors import InputError
from test.helpers.checked_cohorts import MOVED, ONE, only_problem, survey_and_check
from test.helpers.data_sets import manifest_of_pairs, write_manifest, write_scan


def test_links_of_a_manifest_are_parsed() -> None:
    assert parse_links("3>5; 4>5;7 > 7 + 8; 9>") == ((3, (5,)), (4, (5,)), (7, (7, 8)), (9, ()))
    for wrong in ("3", "3>a", "0>1", "3>70000", "3>1; 3>2"):
        with pytest.raises(InputError):
            parse_links(wrong)


def test_a_manifest_pairs_consecutive_scans_by_order(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED, {**ONE, 2: ((9, 15, 18), 1)}]})
    checked = survey_and_check(read_manifest(path), tmp_path / "survey")
    pairs = [(lesion.baseline, lesion.followup, lesion.followup_ids) for lesion in checked.cohort.lesions]
    assert pairs == [("p_t0", "p_t1", (1,)), ("p_t1", "p_t2", (1,))]
    assert "lesion 2 is new, with neither voxels nor a point in p_t1" in only_problem(checked, "note")


def test_points_and_links_of_a_manifest(tmp_path: Path) -> None:
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
    checked = survey_and_check(read_manifest(path), tmp_path / "survey")
    ids = {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
    assert ids == {1: (7,), 2: (7,), 3: ()}
    # The points of a first scan say where its lesions are.
    assert "al.mha: does not hold lesion 4, whose baseline point is [18, 15, 9]" in only_problem(
        checked, "problem"
    )
    assert len(checked.problems) == 1


def test_links_of_a_manifest_hold_if_the_followup_reuses_an_id(tmp_path: Path) -> None:
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
    checked = survey_and_check(read_manifest(write_manifest(tmp_path, rows)), tmp_path / "survey")
    ids = {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
    assert ids == {3: (5,), 9: ()}
    assert "lesions 3, 9 are another one in p_a by the links" in only_problem(checked, "note")


def test_a_later_baseline_is_prompted_at_the_centres_of_its_masks(tmp_path: Path) -> None:
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
    checked = survey_and_check(read_manifest(write_manifest(tmp_path, rows)), tmp_path / "survey")
    lesions = checked.cohort.lesions
    points = [(lesion.lesion_id, lesion.baseline, lesion.baseline_point_xyz) for lesion in lesions]
    # A lesion that the later baseline does not show has only its propagated point.
    assert points == [(1, "p_t0", (8, 8, 5)), (1, "p_t1", (10, 9, 6)), (2, "p_t1", (17, 15, 9))]
    assert [lesion.propagated_point_xyz for lesion in lesions[:2]] == [(2, 3, 4), (8, 7, 5)]
    note = only_problem(checked, "p_1_labels")
    assert "lesion 2 is followed from p_t1, which does not show it; its baseline mask is empty" in note


def test_an_empty_scan_between_two_is_a_note(tmp_path: Path) -> None:
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
    checked = survey_and_check(read_manifest(write_manifest(tmp_path, rows)), tmp_path / "survey")
    assert len(checked.cohort.lesions) == 2 and not checked.faults
    consequence = "1 lesion is absent there, and 1 lesion is followed from a propagated point"
    assert consequence in only_problem(checked, "p_1_labels.nii.gz: is empty")


def test_a_manifest_may_name_the_baseline(tmp_path: Path) -> None:
    rows = [
        {"patient": "p", "timepoint": t, "image": "i", "labels": "l", "baseline": baseline}
        for t, baseline in (("real", ""), ("one", "real"), ("two", "real"), ("three", "four"))
    ]
    cohort = read_manifest(write_manifest(tmp_path, rows))
    pairs = [(pair.baseline, pair.followup) for pair in cohort.pairs]
    assert pairs == [("p_real", "p_one"), ("p_real", "p_two")]
    assert "p_four of p_three is no other scan" in str(cohort.problems[0])


def test_errors_of_a_manifest_name_columns_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("patient,timepoint,image\np,t,i\n")
    with pytest.raises(InputError, match="'labels' is missing"):
        read_manifest(path)
    path.write_text("patient,timepoint,image,labels,order\np,t,a,b,1\np,t,a,b,2\n,t,a,b,3\nq,t,a,b,soon\n")
    cohort = read_manifest(path)
    assert len(cohort.scans) == 1 and len(cohort.problems) == 3


def test_a_scan_of_a_manifest_may_have_no_baseline(tmp_path: Path) -> None:
    rows = [
        {"patient": "p", "timepoint": t, "image": "i", "labels": "l", "baseline": baseline}
        for t, baseline in (("a", "-"), ("b", "-"), ("b2", "b"))
    ]
    cohort = read_manifest(write_manifest(tmp_path, rows))
    assert [(pair.baseline, pair.followup) for pair in cohort.pairs] == [("p_b", "p_b2")]
    assert not cohort.problems


def test_a_baseline_must_be_a_scan_of_the_same_patient(tmp_path: Path) -> None:
    """Names that look alike when patient and time point are put together."""
    rows = [
        {"patient": patient, "timepoint": t, "image": "i", "labels": "l", "baseline": baseline}
        for patient, t, baseline in (("a_b", "c", ""), ("a", "x", ""), ("a", "y", "b_c"))
    ]
    cohort = read_manifest(write_manifest(tmp_path, rows))
    assert not cohort.pairs
    assert "a_b_c of a_y is no other scan" in str(cohort.problems[0])
