"""The task of an input folder: by `inputs.json` if there is one, else by its folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.case.task_choice import holds_pet_ct


def test_a_folder_with_a_pet_is_a_pet_ct(tmp_path: Path) -> None:
    assert not holds_pet_ct(tmp_path) and not holds_pet_ct(tmp_path / "missing")
    (tmp_path / "images" / "primary-baseline-ct").mkdir(parents=True)
    assert not holds_pet_ct(tmp_path)
    (tmp_path / "images" / "pet").mkdir()
    assert holds_pet_ct(tmp_path)


def test_a_ct_without_its_pet_is_a_pet_ct_unless_there_is_a_baseline(tmp_path: Path) -> None:
    (tmp_path / "images" / "ct").mkdir(parents=True)
    assert holds_pet_ct(tmp_path)
    (tmp_path / "images" / "primary-baseline-ct").mkdir()
    assert not holds_pet_ct(tmp_path)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([{"socket": {"slug": "pet", "relative_path": "images/pet"}}], True),
        ([{"interface": {"slug": "pet", "relative_path": "images/pet/"}}], True),
        ([{"socket": {"slug": "primary-baseline-ct", "relative_path": "images/primary-baseline-ct"}}], False),
        ([{"socket": {"slug": "ct", "relative_path": "images/ct"}}], True),
        ([], False),
        ({"socket": 3}, False),
        ([3, {"socket": 3}, {"socket": {"relative_path": 3}}], False),
    ],
)
def test_the_list_of_inputs_decides_where_present(tmp_path: Path, document: Any, expected: bool) -> None:
    (tmp_path / "images" / "pet").mkdir(parents=True)
    (tmp_path / "inputs.json").write_text(json.dumps(document))
    assert holds_pet_ct(tmp_path) is expected


def test_a_damaged_list_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "images" / "pet").mkdir(parents=True)
    (tmp_path / "inputs.json").write_text("[")
    assert not holds_pet_ct(tmp_path)
