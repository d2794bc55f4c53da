"""Command ``interactive-clicks``: the file it writes, and input that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.case.images import find_image, write_image
from model.case.tumor_clicks import ClickKind, read_tumor_clicks
from model.cli import main as cli
from model.errors import ExitCode
from test.helpers.golden_pet_ct import PET_CT, GoldenPetCt

CASE = GoldenPetCt("p6_flipped_narrow")
TRUTH = find_image(PET_CT / "cases" / CASE.name / "truth")


def _run(output: Path, *options: str, pet: Path | None = None) -> int:
    arguments = ["interactive-clicks", "--labels", str(TRUTH), "--pet", str(pet or CASE.file("pet"))]
    return cli.main([*arguments, "-o", str(output), *options])


def test_the_file_has_the_platforms_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "clicks.json"
    assert _run(output, "--published-clicks") == ExitCode.SUCCESS
    assert capsys.readouterr().out.splitlines()[-1] == f"{output}: 10 tumor and 10 background clicks"
    document = json.loads(output.read_text())
    assert document["version"] == {"major": 1, "minor": 0} and document["type"] == "Multiple points"
    published = json.loads((PET_CT / "clicks" / f"{CASE.name}.json").read_text())
    assert document["points"] == [
        {"point": point, "name": kind.value} for kind in ClickKind for point in published[kind]
    ]
    mended = tmp_path / "mended.json"
    assert _run(mended) == ExitCode.SUCCESS
    assert read_tumor_clicks(mended)[:12] == read_tumor_clicks(output)[:12]
    assert read_tumor_clicks(mended) != read_tumor_clicks(output)


def test_a_scribble_corrects_a_segmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prediction, output = tmp_path / "mask.mha", tmp_path / "scribble.json"
    mask = CASE.truth.astype(np.uint8)
    largest = mask.copy()
    largest[:40] = 0
    write_image(prediction, mask - largest, CASE.geometry)
    arguments = ["interactive-clicks", "--labels", str(TRUTH), "-o", str(output)]
    options = ["--prediction", str(prediction), "--scribble", "random"]
    assert cli.main([*arguments, *options]) == ExitCode.SUCCESS
    clicks = read_tumor_clicks(output)
    assert clicks and all(largest[tuple(int(i) for i in click.point_zyx)] for click in clicks)
    assert f"{len(clicks)} tumor and 0 background points" in capsys.readouterr().out
    write_image(prediction, mask, CASE.geometry)
    assert cli.main([*arguments, *options]) == ExitCode.SUCCESS
    assert read_tumor_clicks(output) == ()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((), "--pet: is missing"),
        (("--scribble", "random"), "--prediction: is missing"),
        (("--pet", "a.mha", "--prediction", "b.mha"), "--prediction: is given"),
        (("--scribble", "random", "--prediction", "a.mha", "--published-clicks"), "expected one of them"),
    ],
)
def test_clicks_need_the_pet_and_a_scribble_the_segmentation(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], part: str
) -> None:
    arguments = ["interactive-clicks", "--labels", str(TRUTH), "-o", str(tmp_path / "out.json")]
    assert cli.main([*arguments, *options]) == ExitCode.INPUT
    assert part in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [("clicks.txt", (), "expected it to end in .json"), ("a.json", ("--seed", "-1"), "--seed: is -1")],
)
def test_options_out_of_range_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, options: tuple[str, ...], part: str
) -> None:
    assert _run(tmp_path / name, *options) == ExitCode.INPUT
    assert part in capfd.readouterr().err


def test_a_pet_on_another_grid_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = GoldenPetCt("p7_zero_margin_crop").file("pet")
    assert _run(tmp_path / "clicks.json", pet=other) == ExitCode.INPUT
    assert "lies on another grid than tumor-lesion-segmentation.mha" in capfd.readouterr().err
    assert not (tmp_path / "clicks.json").exists()
