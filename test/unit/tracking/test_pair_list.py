"""Pair lists of LongiTrack's viewer, with its export of points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import InputError
from model.tracking.discovery import discover_series

LESION = {"bl_point": [3, 2, 1.5], "fu_point_corrected": [6, 5, 4], "fu_point_propagated": [9, 8, 7]}


def _pair(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"baseline_scan": f"p{number}/bl_0000.nii.gz", "followup_scan": f"p{number}/fu.nii.gz", **more}


def _export(**lesions: Any) -> list[dict[str, Any]]:
    return [{"baseline_scan": "bl", "followup_scan": "fu", "lesions": lesions}]


def _write(folder: Path, pairs: Any, export: Any = None) -> Path:
    for number in (1, 2):
        (folder / f"p{number}").mkdir()
        for name in ("bl_0000.nii.gz", "fu.nii.gz", "mask.nii.gz", "clicks.json"):
            (folder / f"p{number}" / name).touch()
    if export is not None:
        (folder / "inference_meta.json").write_text(json.dumps(export))
    path = folder / "pairs.json"
    path.write_text(json.dumps(pairs))
    return path


def test_points_are_those_of_the_export_in_reversed_order(tmp_path: Path) -> None:
    export = _export(**{"1": LESION, "2": {**LESION, "fu_point_corrected": None}})
    path = _write(tmp_path, [_pair()], export)
    for choice, later in (
        ("verified", {1: (4, 5, 6)}),
        ("propagated", {1: (7, 8, 9), 2: (7, 8, 9)}),
        ("none", {}),
    ):
        (files,) = discover_series(path, choice)  # type: ignore[arg-type]
        assert files.patient == "p1/bl_0000-to-p1/fu"
        assert [point.name for point in files.time_points] == ["baseline", "followup"]
        baseline, followup = (point.scans[0] for point in files.time_points)
        assert (baseline.ct, followup.ct) == (tmp_path / "p1/bl_0000.nii.gz", tmp_path / "p1/fu.nii.gz")
        assert baseline.points_xyz == {1: (1.5, 2, 3), 2: (1.5, 2, 3)} and followup.points_xyz == later


def test_an_entry_may_name_files_of_prompts(tmp_path: Path) -> None:
    pairs = [_pair(1, baseline_mask="p1/mask.nii.gz"), _pair(2, baseline_clicks="p2/clicks.json")]
    first, second = discover_series(_write(tmp_path, pairs))
    assert first.time_points[0].scans[0].mask == tmp_path / "p1/mask.nii.gz"
    assert second.time_points[0].scans[0].clicks == tmp_path / "p2/clicks.json"
    assert second.time_points[1].scans[0].clicks is None


@pytest.mark.parametrize(
    ("pairs", "export", "message"),
    [
        (
            [_pair()],
            None,
            "entry 1: has no lesion; expected its points in inference_meta.json beside the list",
        ),
        ([_pair()], [], "entry 1: has no lesion"),
        ([{"baseline_scan": "p1/fu.nii.gz"}], None, "entry 1: followup_scan cannot be used"),
        ([_pair(), 3], _export(**{"1": LESION}), "entry 2: it cannot be used"),
        ([_pair(scan="x")], None, "entry 1: scan cannot be used"),
        ([_pair(), _pair()], _export(**{"1": LESION}), "entry 2: is there twice"),
        (
            [_pair(3)],
            _export(**{"1": LESION}),
            "entry 1: p3/bl_0000.nii.gz is missing; expected a file relative to",
        ),
        ([_pair(1, baseline_mask="m.mha")], None, "entry 1: m.mha is missing"),
        ([_pair()], {}, "inference_meta.json: is not a list"),
        ([_pair()], _export(x=LESION), "inference_meta.json: entry 1: lesion id 'x'"),
        ([_pair()], _export(**{"1": {"bl_point": [1, 2]}}), "entry 1: lesions.1.bl_point cannot be used"),
        ([_pair()], 2 * _export(**{"1": LESION}), "entry 2: bl and fu are there twice"),
    ],
)
def test_errors_name_the_entry(tmp_path: Path, pairs: Any, export: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        discover_series(_write(tmp_path, pairs, export))
