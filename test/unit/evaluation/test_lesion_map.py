"""Lesion maps in every format, and the groups of labels that they define."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.case.case import Slot
from model.errors import InputError
from model.evaluation.lesion_groups import LesionGroup, lesion_groups
from model.evaluation.lesion_map import MappedLesion
from model.evaluation.lesion_map_files import read_lesion_map

LESION = {"bl_point": [1, 2, 3], "fu_point_prop": [1, 2, 3], "fu_point": [1, 2, 3], "img_bl": 0, "img_fu": 0}
NAN = float("nan")


def _read(path: Path, content: object) -> tuple[MappedLesion, ...]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    found = read_lesion_map(path).patients
    return tuple(lesion for entry in found for lesion in entry.lesions)


def test_tracking_of_the_first_generation(tmp_path: Path) -> None:
    document = {
        "pat": {
            "1": LESION | {"merged_lesions": [1]},
            "2": LESION | {"merged_lesions": [1]},
            "3": LESION | {"merged_lesions": [0], "fu_point": [NAN] * 3},
            "4": LESION | {"merged_lesions": 4, "bl_point": NAN},
            "5": LESION | {"merged_lesions": [5.0, 6.0], "img_fu": 1},
        }
    }
    assert _read(tmp_path / "tracking.json", document) == (
        MappedLesion((1,), (1,), "0", "0"),
        MappedLesion((2,), (1,), "0", "0"),
        MappedLesion((3,), (), "0", "0"),
        MappedLesion((), (4,), "0", "0"),
        MappedLesion((5,), (5, 6), "0", "1"),
    )
    found = read_lesion_map(tmp_path / "tracking.json")
    assert found.patient_of("pat_FU_img_00") == found.patient_of("pat/any") == "pat"
    assert found.patient_of("patient_FU_img_00") is None and found.lesions_of("x") is None
    assert len(found.lesions_of("pat_FU_img_00") or ()) == 4
    assert [m.followup_ids for m in found.lesions_of("pat_FU_mask_FU_img_01") or ()] == [(5, 6)]


def test_tracking_of_the_second_generation_has_names_and_several_pairs(tmp_path: Path) -> None:
    pairs = [
        {"1": LESION | {"merged_lesions": [1], "img_bl": "pat_BL_img_00", "img_fu": "pat_FU_img_00"}},
        {"1": LESION | {"merged_lesions": [0], "img_bl": "pat_FU_img_00", "img_fu": "pat_FU_img_01"}},
    ]
    _read(tmp_path / "trackingTr.json", {"pat": pairs})
    found = read_lesion_map(tmp_path / "trackingTr.json")
    assert found.lesions_of("pat_FU_img_01") == (MappedLesion((1,), (), "pat_FU_img_00", "pat_FU_img_01"),)
    assert found.lesions_of("sub/pat_FU_img_00") == (
        MappedLesion((1,), (1,), "pat_BL_img_00", "pat_FU_img_00"),
    )


def test_the_challenges_csv(tmp_path: Path) -> None:
    """Lesions 1 and 2 share their centre; 3 has none, so that the mask decides; 4 is new."""
    text = (
        "lesion_id,img_id_bl,img_id_fu,cog_bl,cog_fu,cog_propagated\n"
        '1,0,0,1 2 3,"(4, 5, 6)",1 2 3\n2,0,0,"[2, 2, 3]",4 5 6,1 2 3\n3,0,0,3 2 3,NaN,1 2 3\n4,0,0,,7 5 6,\n'
    )
    path = tmp_path / "0123456789.csv"
    assert _read(path, text) == (
        MappedLesion((1,), (1, 2), "0", "0"),
        MappedLesion((2,), (1, 2), "0", "0"),
        MappedLesion((3,), (3,), "0", "0", may_be_absent=True),
        MappedLesion((), (4,), "0", "0"),
    )
    assert read_lesion_map(path).patients[0].patient == "0123456789"


HEADER = "lesion_id,img_id_bl,img_id_fu,cog_bl,cog_fu,cog_propagated\n"


def test_the_challenges_release_is_a_folder_of_csvs(tmp_path: Path) -> None:
    """Each has the name of its patient; other tables and hidden files are ignored."""
    (tmp_path / "deeper").mkdir()
    (tmp_path / "0123456789.csv").write_text(HEADER + "1,0,0,1 2 3,4 5 6,\n2,0,0,2 2 3,4 5 6,\n")
    (tmp_path / "deeper" / "any name.csv").write_text("\ufeff" + HEADER + '1,0,1,1 2 3,"[7, 7, 7]",\n')
    (tmp_path / "about.csv").write_text("patient,age\n0123456789,70\n")
    (tmp_path / "._0123456789.csv").write_bytes(b"\xff\xfe")
    found = read_lesion_map(tmp_path)
    assert found.path == tmp_path
    assert [(entry.patient, len(entry.lesions)) for entry in found.patients] == [
        ("0123456789", 2),
        ("any name", 1),
    ]
    assert found.lesions_of("0123456789_FU_mask_FU_img_00") == (
        MappedLesion((1,), (1, 2), "0", "0"),
        MappedLesion((2,), (1, 2), "0", "0"),
    )
    assert found.lesions_of("any name_FU_img_01") == (MappedLesion((1,), (1,), "0", "1"),)
    assert found.lesions_of("any name_FU_img_00") is None and found.lesions_of("other_FU_img_00") is None


@pytest.mark.parametrize(
    "content",
    [
        "Größe,x\n1,2\n".encode("latin-1"),
        "name,x\nJürgen,2\n".encode("latin-1"),
        "patient,age\n1,2\n".encode("utf-16"),
        b"\xff\xfe",
        b"\x00\r\n",
        b"",
        b'"lesion_id,cog_fu",x\n1,2\n',
        b"x" * 200_000,
    ],
)
def test_csvs_with_other_columns_are_ignored_whatever_their_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.csv").write_bytes(b'"lesion_id" , cog_fu\r1,4 5 6\r')
    (tmp_path / "clinic.csv").write_bytes(content)
    (entry,) = read_lesion_map(tmp_path).patients
    assert entry.patient == "p" and entry.lesions == (MappedLesion((1,), (1,)),)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.csv", b"a,b\n1,2\n", ": holds no CSV of the challenge; expected one for each patient"),
        ("p.csv", b"baseline_id,followup_ids\n1,2\n", ": holds no CSV of the challenge"),
        ("p.txt", b"", ": holds no CSV of the challenge"),
        ("p.csv", b"lesion_id,cog_fu\n1,\xff\n", r"/p.csv: cannot be read \(.*\); expected .* in UTF-8$"),
        ("p.csv", b"cog_fu,lesion_id,Gr\xf6\xdfe\n,1,\n", r"/p.csv: cannot be read \(.*in UTF-8$"),
        ("p.csv", "lesion_id,cog_fu\n1,\n".encode("utf-16"), r"/p.csv: cannot be read \(.*in UTF-8$"),
        ("p.csv", "lesion_id,cog_fu\n1,\n".encode("utf-16-le"), "/p.csv: cannot be read \\(.*in UTF-8$"),
        ("p.csv", b"lesion_id,cog_fu\n1,4 5\n", "/p.csv: line 2: cog_fu is '4 5'; expected three numbers"),
        ("p.csv", b"lesion_id,cog_bl,cog_fu\n1,4 5,\n", "/p.csv: line 2: cog_bl is '4 5'; expected three"),
        ("p.csv", b"lesion_id,cog_fu\n1,4 5 6\n1,4 5 6\n", "/p.csv: lesion 1 of patient p is listed twice"),
        ("p.csv", b"lesion_id,cog_fu\n70000,\n", "/p.csv: lesion id 70000; expected 1 to 65535"),
        ("b/q.csv", b"lesion_id,cog_fu\n1,\n", "/b/q.csv: is of patient q, like .*/a/q.csv; expected one"),
    ],
)
def test_folders_that_are_not_a_lesion_map_are_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    for path in (tmp_path / name, *([tmp_path / "a/q.csv"] if name == "b/q.csv" else ())):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{tmp_path}{reason}"):
        read_lesion_map(tmp_path)


def test_the_plain_csv(tmp_path: Path) -> None:
    text = "\ufeffpatient, baseline_id, followup_ids\na,1,1 7\na,2,\nb,,3\nb,4,0\n"
    assert _read(tmp_path / "map.csv", text) == (
        MappedLesion((1,), (1, 7)),
        MappedLesion((2,), ()),
        MappedLesion((), (3,)),
        MappedLesion((4,), ()),
    )
    _read(tmp_path / "short.csv", "baseline_id,followup_ids\n1,2;3\n")
    assert read_lesion_map(tmp_path / "short.csv").lesions_of("any") == (MappedLesion((1,), (2, 3)),)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1]", "not a dictionary of patients"),
        ("a.json", '{"p": [3]}', "no dictionary of lesions"),
        ("a.json", '{"p": {"x": {}}}', "not a lesion id"),
        ("a.json", '{"p": {"1": {"img_fu": [1]}}}', "names the scan"),
        ("a.json", '{"p": {"1": {"img_fu": 1e308}}}', r"names the scan 1e\+308"),
        ("a.json", '{"p": {"1": {"merged_lesions": [1.5]}}}', "not a lesion id"),
        ("a.json", '{"p": {"70000": {}}}', "expected 1 to 65535"),
        ("a.csv", "a,b\n1,2\n", "has the columns a, b"),
        ("a.csv", "", "has the columns"),
        ("a.csv", "baseline_id,followup_ids\n1,2\n1,3\n", "listed twice"),
        ("a.csv", "baseline_id,followup_ids\nx,2\n", "line 2"),
        ("a.csv", "lesion_id,cog_fu\n,1 2 3\n", "no lesion_id"),
        ("a.csv", "lesion_id,cog_fu\n1,1 2\n", "line 2: cog_fu .*three numbers"),
        ("a.csv", "lesion_id,cog_fu\n1,1 2 x\n", "line 2: cog_fu .*three numbers"),
    ],
)
def test_files_that_are_not_a_lesion_map_are_refused(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    with pytest.raises(InputError, match=f"{name}.*{reason}"):
        _read(tmp_path / name, text)
    with pytest.raises(InputError, match="cannot be read"):
        read_lesion_map(tmp_path / "none.csv")


def _groups(
    mapped: list[MappedLesion] | None, reference: set[int], prediction: set[int], before: set[int] | None
) -> list[LesionGroup]:
    return list(lesion_groups(None if mapped is None else tuple(mapped), reference, prediction, before))


def test_without_a_map_ids_pair_with_themselves() -> None:
    assert _groups(None, {1, 2}, {2, 65535}, None) == [
        LesionGroup("1", (), (1,), (1,), None),
        LesionGroup("2", (), (2,), (2,), None),
        LesionGroup("65535", (), (65535,), (65535,), None),
    ]
    before = _groups(None, {1}, set(), {1, 3})
    assert [(g.name, g.existed, g.baseline_ids) for g in before] == [("1", True, (1,)), ("3", True, (3,))]
    assert _groups(None, {4}, set(), {1})[1].existed is False


def test_merged_and_split_lesions_are_one() -> None:
    mapped = [MappedLesion((1,), (1,)), MappedLesion((2,), (1,)), MappedLesion((5,), (5, 6))]
    merged, split = _groups(mapped, {1, 5, 6}, {1, 2, 5}, None)
    assert merged == LesionGroup("1+2", (1, 2), (1,), (1, 2), True)
    assert split == LesionGroup("5", (5,), (5, 6), (5, 6), True)


def test_ids_of_another_lesion_are_not_taken_for_its_prediction() -> None:
    """Lesion 3 has the id 4 in the follow-up, and 4 has vanished: a predicted 4 belongs to lesion 4."""
    mapped = [MappedLesion((3,), (4,)), MappedLesion((4,), ())]
    third, fourth = _groups(mapped, {4}, {3, 4}, {3, 4})
    assert third == LesionGroup("3", (3,), (4,), (3,), True)
    assert fourth == LesionGroup("4", (4,), (), (4,), True)


def test_names_of_lesions_are_unique() -> None:
    """Lesion 3 became 5, and a new lesion has the id 3; likewise 7, which the map does not list."""
    groups = _groups([MappedLesion((3,), (5,)), MappedLesion((), (3,))], {3, 5}, {3}, {3})
    assert [(g.name, g.reference_ids) for g in groups] == [("3", (5,)), ("new 3", (3,))]
    groups = _groups([MappedLesion((7,), (8,))], {7, 8}, {7}, {7})
    assert [(g.name, g.reference_ids) for g in groups] == [("7", (8,)), ("new 7", (7,))]


def test_centres_in_csvs_are_parsed_as_numbers(tmp_path: Path) -> None:
    text = 'lesion_id,cog_fu\n1,2 2 2\n2,"(2.0, 2.00, 2e0)"\n3,[nan nan nan]\n'
    assert [m.followup_ids for m in _read(tmp_path / "a.csv", text)] == [(1, 2), (1, 2), (3,)]


def test_a_lesion_map_of_one_scan_does_not_apply_to_another(tmp_path: Path) -> None:
    _read(tmp_path / "a.csv", "baseline_id,followup_ids,patient,scan\n1,2,p,p_FU_img_01\n")
    one = read_lesion_map(tmp_path / "a.csv")
    assert one.lesions_of("p_FU_img_00") is None and one.lesions_of("p/p_FU_mask_FU_img_01") is not None
    assert one.lesions_of("p/truth") is not None  # a name that cannot be compared
    _read(tmp_path / "b.csv", "baseline_id,followup_ids,patient,scan\n1,2,p,p_t1\n")
    assert read_lesion_map(tmp_path / "b.csv").lesions_of("p_t2") is None


@pytest.mark.parametrize("numbers", [("0", "1"), ("3", "7")])
def test_image_numbers_are_the_platforms_scans(tmp_path: Path, numbers: tuple[str, str]) -> None:
    text = "baseline_id,followup_ids,scan\n1,1,{}\n2,2,{}\n".format(*numbers)
    _read(tmp_path / "a.csv", text)
    found = read_lesion_map(tmp_path / "a.csv")
    for slot, lesion in zip(Slot, (1, 2), strict=True):
        assert [m.baseline_ids for m in found.lesions_of("case", slot) or ()] == [(lesion,)]


def test_labels_that_the_map_does_not_list_are_lesions_of_their_own() -> None:
    listed, new, drawn = _groups([MappedLesion((1,), (1,))], {1, 2}, {1, 9}, None)
    assert listed.name == "1"
    assert new == LesionGroup("2", (), (2,), (2,), False)
    assert drawn == LesionGroup("9", (), (9,), (9,), False)
