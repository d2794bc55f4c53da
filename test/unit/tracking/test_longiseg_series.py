"""Series by LongiSeg's tracking files: order, points, masks, and errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from model.errors import InputError
from model.tracking.discovery import discover_series
from model.tracking.longiseg_series import FollowupPoints
from model.tracking.series import read_series

from ...helpers.data_sets import LESIONS, write_longiseg

NAN = float("nan")


def _entry(baseline: str, followup: str, **more: Any) -> dict[str, Any]:
    points = {"bl_point": [1, 2, 3], "fu_point": [4, 5, 6], "fu_point_prop": [7, 8, 9]}
    return {"img_bl": baseline, "img_fu": followup, "merged_lesions": [1], **points, **more}


def _write(
    folder: Path, tracking: Any, scans: Sequence[str] = ("a", "b", "c"), name: str = "trackingTr.json"
) -> Path:
    """A tracking file beside empty images, and a labelmap of the first scan."""
    for part, names in (("images", [f"{scan}_0000" for scan in scans]), ("labels", scans[:1])):
        (folder / f"{part}Tr").mkdir(parents=True, exist_ok=True)
        for one in names:
            (folder / f"{part}Tr" / f"{one}.nii.gz").touch()
    (folder / name).write_text(json.dumps(tracking))
    return folder / name


def _points(path: Path, choice: FollowupPoints = "verified") -> list[dict[int, tuple[float, ...]]]:
    (patient,) = discover_series(path, choice)
    return [dict(point.scans[0].points_xyz) for point in patient.time_points]


def test_a_list_of_pairs_becomes_a_series(tmp_path: Path) -> None:
    first, second = _entry("a", "b"), _entry("b", "c", fu_point=[10, 11, 12])
    path = _write(tmp_path, {"P": [{"1": first}, {"1": second}], "Q": {"7": _entry("d", "e")}}, "abcde")
    patient, other = discover_series(path)
    assert (patient.patient, [point.name for point in patient.time_points]) == ("P", ["a", "b", "c"])
    assert [point.when for point in patient.time_points] == ["order 0", "order 1", "order 2"]
    scans = [point.scans[0] for point in patient.time_points]
    assert [scan.ct.name for scan in scans] == ["a_0000.nii.gz", "b_0000.nii.gz", "c_0000.nii.gz"]
    assert [scan.mask and scan.mask.name for scan in scans] == ["a.nii.gz", None, None]
    assert [dict(scan.points_xyz) for scan in scans] == [{1: (1, 2, 3)}, {1: (4, 5, 6)}, {1: (10, 11, 12)}]
    assert [dict(point.scans[0].points_xyz) for point in other.time_points] == [
        {7: (1, 2, 3)},
        {7: (4, 5, 6)},
    ]
    assert discover_series(tmp_path) == discover_series(path)  # the folder


@pytest.mark.parametrize(
    ("choice", "later"), [("verified", {1: (4, 5, 6)}), ("propagated", {1: (7, 8, 9)}), ("none", {})]
)
def test_the_points_of_followups_can_be_chosen(
    tmp_path: Path, choice: FollowupPoints, later: dict[int, tuple[float, ...]]
) -> None:
    path = _write(tmp_path, {"P": [{"1": _entry("a", "b")}, {"1": _entry("b", "c")}]})
    assert _points(path, choice) == [{1: (1, 2, 3)}, later, later]


def test_lesions_keep_the_id_under_which_they_are_first_listed(tmp_path: Path) -> None:
    """1 and 2 merge into 1, 3 goes on as 5, 4 vanishes, and 6 is first listed in the second pair."""
    first = {
        "2": _entry("a", "b", merged_lesions=[1]),
        "1": _entry("a", "b"),
        "3": _entry("a", "b", merged_lesions=[5], fu_point=[30, 31, 32]),
        "4": _entry("a", "b", merged_lesions=[0], fu_point=NAN),
    }
    second = {
        "1": _entry("b", "c", fu_point=[13, 14, 15]),
        "5": _entry("b", "c", merged_lesions=[5], fu_point=[33, 34, 35]),
        "6": _entry("b", "c", merged_lesions=[6], bl_point=[60, 61, 62], fu_point=[NAN] * 3),
    }
    before, between, after = _points(_write(tmp_path, {"P": [first, second]}))
    assert before.keys() == {1, 2, 3, 4}
    assert between == {1: (4, 5, 6), 2: (4, 5, 6), 3: (30, 31, 32), 6: (60, 61, 62)}
    assert after == {1: (13, 14, 15), 3: (33, 34, 35)}


def test_the_list_of_patients_gives_the_order(tmp_path: Path) -> None:
    path = _write(tmp_path, {"P": [{"1": _entry("b", "c")}, {"1": _entry("a", "b")}]})
    with pytest.raises(InputError, match="b comes before its baseline a; expected pairs in order of time"):
        discover_series(path)
    (tmp_path / "patientsTr.json").write_text('{"P": ["a", "x", "b", "c"]}')
    (patient,) = discover_series(path)
    assert [point.name for point in patient.time_points] == ["a", "b", "c"]


def test_test_data_and_scans_by_number(tmp_path: Path) -> None:
    path = _write(tmp_path, {"P": {"1": _entry("0", "0")}}, ("P_BL_img_00", "P_FU_img_00"), "tracking.json")
    assert _points(path) == [{1: (1, 2, 3)}, {1: (4, 5, 6)}]
    for kind in ("images", "labels"):
        (tmp_path / f"{kind}Tr").rename(tmp_path / f"{kind}Ts")
    path = path.rename(tmp_path / "trackingTs.json")
    (patient,) = discover_series(path)
    assert [point.scans[0].ct.parent.name for point in patient.time_points] == ["imagesTs", "imagesTs"]


@pytest.mark.parametrize(
    ("tracking", "message"),
    [
        ({}, "lists no lesion"),
        ({"P": 3}, "P holds no lesions"),
        ({"P": [{"img_bl": "a", "img_fu": "b"}]}, r"P\[0\] names a pair of scans without lesions"),
        ({"P": {"x": _entry("a", "b")}}, "P, lesion x: id 'x' is not a number"),
        (
            {"P": {"1": _entry("a", "b", bl_point=[1, 2])}},
            r"lesion 1: bl_point is \[1, 2\]; expected \[x, y, z\]",
        ),
        *(
            ({"P": {"1": _entry("a", "b", bl_point=point)}}, "lesion 1: bl_point is .*; expected")
            for point in ("123", {"1": 0, "2": 0, "3": 0}, ["1", 2, 3], [True, 2, 3])
        ),
        *(
            ({"P": {"1": _entry("a", "b", merged_lesions=[other])}}, "lesion 1: id .* is not a number")
            for other in (2.7, True, False, "1_0", "２", [2], None)
        ),
        ({"P": {"1": {"img_bl": 1.5}}}, "lesion 1: img_bl is 1.5; expected a scan's name or number"),
        ({"P": {"1": {"img_bl": "a"}}}, "lesion 1: img_fu is None; expected a scan's name or number"),
        ({"P": {"1": _entry("a", "a")}}, "a comes before its baseline a"),
        ({"P": {"1": _entry("a", "z")}}, r"the image z_0000\.\* is missing; expected it in imagesTr"),
        (
            {"P": [{"1": _entry("a", "b")}, {"2": _entry("b", "c", bl_point=NAN, fu_point=NAN)}]},
            "lesion 2 of b has no point; expected a bl_point",
        ),
        (
            {"P": [{"1": _entry("a", "b", merged_lesions=[3])}, {"1": _entry("b", "c")}]},
            "lesion 1 of b is another one than before; expected different ids",
        ),
    ],
)
def test_errors_name_the_place(tmp_path: Path, tracking: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        discover_series(_write(tmp_path, tracking))
    assert str(tmp_path / "trackingTr.json") in str(caught.value)


def test_a_list_of_patients_without_the_scans(tmp_path: Path) -> None:
    path = _write(tmp_path, {"P": {"1": _entry("a", "b")}})
    (tmp_path / "patientsTr.json").write_text('{"P": ["a"]}')
    with pytest.raises(InputError, match="the list of patients lacks a or b"):
        discover_series(path)
    (tmp_path / "patientsTr.json").write_text('{"P": 3}')
    with pytest.raises(InputError, match="P has no list of scans"):
        discover_series(path)


def test_points_are_voxels_whatever_the_units_of_clicks(tmp_path: Path) -> None:
    write_longiseg(
        tmp_path, {"p": {"a": LESIONS, "b": LESIONS}}, {"p": {"1": _entry("a", "b")}}, "trackingTr.json"
    )
    (files,) = discover_series(tmp_path)
    series = read_series(files, units="world")
    assert [scan.clicks[0].point_zyx for point in series.time_points for scan in point.scans] == [
        (3, 2, 1),
        (6, 5, 4),
    ]
    assert series.time_points[0].has_mask and not series.time_points[1].has_mask
