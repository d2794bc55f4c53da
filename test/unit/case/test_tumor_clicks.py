"""Click files for PET/CT: both forms, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.case.tumor_clicks import ClickKind, TumorClick, read_tumor_clicks
from model.errors import InputError

TUMOR, BACKGROUND = ClickKind.TUMOR, ClickKind.BACKGROUND


def _file(folder: Path, document: Any) -> Path:
    path = folder / "lesion-clicks.json"
    path.write_text(json.dumps(document))
    return path


def test_points_are_read_in_their_order_as_zyx(tmp_path: Path) -> None:
    points = [{"name": "background", "point": [1, 2.5, 3]}, {"name": "tumor", "point": [-4, 5, 600]}]
    document = {"version": {"major": 1, "minor": 0}, "type": "Multiple points", "name": "x", "points": points}
    assert read_tumor_clicks(_file(tmp_path, document)) == (
        TumorClick(BACKGROUND, (3, 2.5, 1)),
        TumorClick(TUMOR, (600, 5, -4)),
    )
    assert read_tumor_clicks(_file(tmp_path, {"points": []})) == ()


@pytest.mark.parametrize("name", ["tumor", "Tumor", " TUMOUR ", "tumour"])
def test_letters_of_names_may_be_in_any_case(tmp_path: Path, name: str) -> None:
    (click,) = read_tumor_clicks(_file(tmp_path, {"points": [{"name": name, "point": [0, 0, 0]}]}))
    assert click.kind is TUMOR


def test_lists_by_kind_are_read(tmp_path: Path) -> None:
    document = {"tumor": [[1, 2, 3], [4, 5, 6]], "background": [[7, 8, 9.5]]}
    assert read_tumor_clicks(_file(tmp_path, document)) == (
        TumorClick(TUMOR, (3, 2, 1)),
        TumorClick(TUMOR, (6, 5, 4)),
        TumorClick(BACKGROUND, (9.5, 8, 7)),
    )
    assert read_tumor_clicks(_file(tmp_path, {"background": []})) == ()


def test_a_file_with_scribbles_is_read_point_by_point(tmp_path: Path) -> None:
    line = [[number / 4, 7, 9] for number in range(500)]
    named = {"points": [{"name": "tumor", "point": point} for point in line]}
    clicks = read_tumor_clicks(_file(tmp_path, named))
    assert len(clicks) == 500 and clicks[-1] == TumorClick(TUMOR, (9, 7, 124.75))
    assert read_tumor_clicks(_file(tmp_path, {"tumor": line, "background": []})) == clicks


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"points": [{"name": "Lesion 7", "point": [1, 2, 3]}]}, "'Lesion 7'"),
        ({"points": [{"name": "fundo", "point": [1, 2, 3]}]}, "'fundo'"),
        ({"points": [{"name": "tumor", "point": [1, 2]}]}, "[1, 2]"),
        ({"points": [{"name": "tumor", "point": ["1", 2, 3]}]}, "three finite numbers"),
        ({"points": [{"name": "tumor", "point": [float("nan"), 2, 3]}]}, "three finite numbers"),
        ({"tumor": [[1, 2, 3, 4]]}, "not 4"),
        ({"tumor": 5}, "tumor"),
        ({"tumor": [[1, 2, 3]], "Background": [[4, 5, 6]]}, "a list named 'Background'"),
        ({"clicks": []}, "points"),
        ([], "points"),
    ],
)
def test_others_are_refused_in_one_line(tmp_path: Path, document: Any, part: str) -> None:
    with pytest.raises(InputError) as raised:
        read_tumor_clicks(_file(tmp_path, document))
    message = str(raised.value)
    assert "lesion-clicks.json" in message and part in message and "expected" in message
    assert "\n" not in message
