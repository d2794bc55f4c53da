from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.case.clicks import read_clicks
from model.errors import InputError

coordinates = st.floats(-1e4, 1e4)
ids = st.integers(1, 65_535)
prefixes = st.sampled_from(["", "Lesion ", "Point ", "lesion_", "L-", "00"])
same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.dictionaries(ids, st.tuples(coordinates, coordinates, coordinates), max_size=6), prefixes)
@same_file
def test_round_trip(tmp_path: Path, points: dict[int, tuple[float, float, float]], prefix: str) -> None:
    path = tmp_path / "clicks.json"
    entries = [{"name": f"{prefix}{i}", "point": p, "confidence_mm": 3} for i, p in points.items()]
    path.write_text(json.dumps({"name": "x", "points": entries}), encoding="utf-8-sig")
    assert read_clicks(path) == points


@given(st.text(max_size=8))
@same_file
def test_any_name_gives_its_last_digits_or_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps({"points": [{"name": name, "point": [1, 2, 3]}]}))
    match = re.search(r"([0-9]+)\s*$", name)
    usable = match and 0 < int(match[1]) <= 65_535 and not re.fullmatch(r"\s*-[0-9]+\s*", name)
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


def test_the_same_point_twice_is_one_click(tmp_path: Path) -> None:
    path = tmp_path / "clicks.json"
    entry = {"name": "7", "point": [1.5, 2, 3]}
    path.write_text(json.dumps({"points": [entry, entry]}))
    assert read_clicks(path) == {7: (1.5, 2, 3)}
