"""Click files: lesion ids in names, round trips, and errors in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.case.clicks import read_clicks, write_clicks
from model.errors import InputError, OutputError

coordinates = st.floats(-1e4, 1e4)
ids = st.integers(1, 65_535)
prefixes = st.sampled_from(["", "Lesion ", "Point ", "lesion_", "L-", "00"])
same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@given(st.dictionaries(ids, st.tuples(coordinates, coordinates, coordinates), max_size=6), prefixes)
@same_file
def test_round_trip(tmp_path: Path, points: dict[int, tuple[float, float, float]], prefix: str) -> None:
    path = tmp_path / "clicks.json"
    entries = [{"name": f"{prefix}{i}", "point": p, "confidence_mm": 3} for i, p in points.items()]
    path.write_text(json.dumps({"name": "x", "points": entries}), encoding="utf-8-sig")
    assert read_clicks(path) == points


@pytest.mark.slow
@given(st.text(max_size=8))
@same_file
def test_the_lesion_id_is_the_last_digits_of_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps({"points": [{"name": name, "point": [1, 2, 3]}]}))
    match = re.search(r"([0-9]+)\s*$", name)
    usable = (
        match
        and 0 < int(match[1]) <= 65_535
        and not re.fullmatch(r"(?s)\s*-[0-9]+\s*|.*[0-9][.,][0-9]+\s*", name)
    )
    if match and usable:
        assert read_clicks(path) == {int(match[1]): (1, 2, 3)}
    else:
        with pytest.raises(InputError, match="expected"):
            read_clicks(path)


@given(st.binary(max_size=40))
@same_file
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clicks.json"
    path.write_bytes(content)
    try:
        read_clicks(path)
    except InputError as error:
        assert str(path) in str(error) and "expected" in str(error)


def test_duplicate_points_are_one_click(tmp_path: Path) -> None:
    path = tmp_path / "clicks.json"
    entry = {"name": "7", "point": [1.5, 2, 3]}
    path.write_text(json.dumps({"points": [entry, entry]}))
    assert read_clicks(path) == {7: (1.5, 2, 3)}


def _line(path: Path, document: object) -> str:
    """The error for a document, one line that names the file and what was expected."""
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(InputError) as raised:
        read_clicks(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ") and "expected" in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "lesion_id"),
    [
        ("1", 1),
        ("Lesion 12", 12),
        ("T2-weighted 7", 7),
        ("Lesion-3", 3),
        ("007", 7),
        ("7\n", 7),
        ("65535", 65_535),
    ],
)
def test_lesion_ids_of_names(tmp_path: Path, name: str, lesion_id: int) -> None:
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps({"points": [{"name": name, "point": [0, 0.5, 1e3]}]}))
    assert read_clicks(path) == {lesion_id: (0, 0.5, 1000)}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Lesion",
        "-4",
        " -12 ",
        "0",
        "000",
        "65536",
        "9" * 400,
        "4b",
        "Lesion 1.5",
        "2,7",
        "Lesion ٣",
        "²",
        None,
        4,
    ],
)
def test_names_without_an_id(tmp_path: Path, name: object) -> None:
    _line(tmp_path / "clicks.json", {"points": [{"name": name, "point": [1, 2, 3]}]})


@pytest.mark.parametrize(
    "point",
    [
        [],
        [1, 2],
        [1, 2, 3, 4],
        ["1", 2, 3],
        [1, None, 3],
        [1, True, 3],
        [1, 2, [3]],
        None,
        "1,2,3",
        5,
        {"x": 1},
        [float("nan"), 0, 0],
        [0, float("inf"), 0],
        [0, 0, -float("inf")],
    ],
)
def test_points_that_are_not_three_finite_numbers(tmp_path: Path, point: object) -> None:
    entries = [{"name": "1", "point": [1, 2, 3]}, {"name": "2", "point": point}]
    line = _line(tmp_path / "clicks.json", {"points": entries})
    assert "points.1 is not three finite numbers" in line


@pytest.mark.parametrize(
    "document",
    [
        [],
        3,
        None,
        "",
        "{",
        "[" * 5000,
        {},
        {"points": None},
        {"points": {}},
        {"points": [[1, 2, 3]]},
        {"points": [{"name": "1"}]},
        {"points": [{"point": [1, 2, 3]}]},
        '{"points": [{"name": "1", "point": [1e999, 0, 0]}]}',
    ],
    ids=lambda document: str(document)[:30],
)
def test_malformed_click_files(tmp_path: Path, document: object) -> None:
    _line(tmp_path / "clicks.json", document)


def test_two_points_of_one_lesion_are_refused(tmp_path: Path) -> None:
    entries = [{"name": "Lesion 7", "point": [1, 2, 3]}, {"name": "7", "point": [1, 2, 3.5]}]
    line = _line(tmp_path / "clicks.json", {"points": entries})
    assert "lesion 7" in line and "3.0]" in line and "3.5]" in line


def test_an_unreadable_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_clicks(path)


vectors = st.tuples(coordinates, coordinates, coordinates)


@pytest.mark.slow
@given(st.dictionaries(ids, vectors, max_size=5))
@same_file
def test_written_clicks_read_back(tmp_path: Path, points: dict[int, tuple[float, float, float]]) -> None:
    path = tmp_path / "clicks.json"
    write_clicks(path, points)
    read = read_clicks(path)
    assert list(read) == list(points)
    for lesion_id, point in points.items():
        assert read[lesion_id] == pytest.approx(point, abs=1e-4)


def test_the_written_file_has_the_platforms_format(tmp_path: Path) -> None:
    path = tmp_path / "new" / "clicks.json"
    write_clicks(path, {7: (1.23456, -0.00001, 3), 65_535: (0, 0, 0)})
    assert json.loads(path.read_text()) == {
        "name": "Points of interest",
        "type": "Multiple points",
        "version": {"major": 1, "minor": 0},
        "points": [{"name": "7", "point": [1.2346, 0, 3]}, {"name": "65535", "point": [0, 0, 0]}],
    }
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["clicks.json"]


def test_extra_keys_are_written_and_ignored_by_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "clicks.json"
    extra = {
        "confidence_mm": float("nan"),
        "source": "propagated",
        "in_view": np.bool_(False),
        "spread": np.float32(1.5),
        "worst_mm": np.array([1.0, np.inf]),
    }
    write_clicks(path, {3: (1, 2, 3), 4: (4, 5, 6)}, {4: extra, 5: {"source": "unused"}})
    first, second = json.loads(path.read_text())["points"]
    assert first == {"name": "3", "point": [1, 2, 3]}
    assert second == {
        "name": "4",
        "point": [4, 5, 6],
        "confidence_mm": None,
        "source": "propagated",
        "in_view": False,
        "spread": 1.5,
        "worst_mm": [1.0, None],
    }
    assert read_clicks(path) == {3: (1, 2, 3), 4: (4, 5, 6)}


@pytest.mark.parametrize(
    ("lesion_id", "point"), [(0, (1, 2, 3)), (65_536, (1, 2, 3)), (1, (1, float("nan"), 3))]
)
def test_unreadable_clicks_are_not_written(
    tmp_path: Path, lesion_id: int, point: tuple[float, float, float]
) -> None:
    path = tmp_path / "clicks.json"
    with pytest.raises(OutputError, match="expected three finite numbers"):
        write_clicks(path, {lesion_id: point})
    assert not path.exists()


def test_a_failed_write_leaves_nothing_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "file" / "clicks.json", tmp_path):
        with pytest.raises(OutputError, match="cannot be written") as raised:
            write_clicks(path, {1: (1, 2, 3)})
        assert str(raised.value).startswith(f"{path}: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_messages_are_short_and_speak_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "clicks.json"
    assert "('1')" in _line(path, {"points": [{"name": "1", "point": ["1", 2, 3]}]})
    assert "valid dictionary; expected" in _line(path, "[]")
    assert len(_line(path, {"points": [{"name": "9" * 5000, "point": [1, 2, 3]}]})) < 250 + len(str(path))
