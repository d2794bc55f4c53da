"""`evaluate --floor`: the floors of cases in the platform's layout, beside a prediction."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.clicks import write_clicks
from model.case.geometry import Vector
from model.case.images import read_image, write_image
from model.errors import InputError
from model.floor.floor_cases import case_folders
from model.propagation.register import Registration, RegistrationImage

from ...helpers.evaluation_cases import GRID, block, command, labels, write

MASK = "images/primary-baseline-ct-tumor-lesion-seg/mask.mha"
FOLLOWUP = "images/primary-followup-ct-tumor-lesion-seg/segmentation.mha"


def _write_case(folder: Path, clicks: dict[int, Vector]) -> None:
    """Lesions 1 and 2 of 16 voxels; in the follow-up, 1 has moved by 3 voxels along x, 2 has vanished."""
    before, after = (block(1), block(2, z=8)), (block(1, x=5),)
    for time, blocks in (("baseline", before), ("followup", after)):
        noise = np.random.default_rng(0).normal(-800, 20, GRID.shape_zyx)
        ct = np.where(labels(*blocks) > 0, 60, noise).astype(np.int16)
        write_image(folder / f"images/primary-{time}-ct/ct.mha", ct, GRID)
    write(folder / MASK, *before)
    write_clicks(folder / "primary-baseline-lesion-clicks.json", {1: (3.5, 2.5, 2.5), 2: (3.5, 2.5, 8.5)})
    write_clicks(folder / "primary-followup-lesion-clicks.json", clicks)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases, whose predictions are perfect; patient b has no click of the vanished lesion."""
    folder = tmp_path_factory.mktemp("floor")
    _write_case(folder / "in/a/input", {1: (6.5, 2.5, 2.5), 2: (3.5, 2.5, 8.5)})
    _write_case(folder / "in/b/input", {1: (6.5, 2.5, 2.5)})
    for patient in "ab":
        write(folder / "truth" / patient / FOLLOWUP, block(1, x=5))
        write(folder / "out" / patient / "output" / FOLLOWUP, block(1, x=5))
    return folder


def _evaluate(work: Path, *more: str | Path) -> None:
    given = ("--reference", work / "truth", "--prediction", work / "out", "--floor", work / "in")
    command(*given, "--backend", "identity", *more)


@pytest.fixture(scope="module")
def summary(work: Path) -> dict[str, Any]:
    _evaluate(work, "-o", work / "evaluation")
    document: dict[str, Any] = json.loads((work / "evaluation/summary.json").read_text())
    return document


def _floor(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(floor for floor in summary["floors"] if floor["name"] == name)


def test_each_floor_is_drawn_and_scored(summary: dict[str, Any]) -> None:
    assert not summary["warnings"]
    dice = {floor["name"]: floor["metrics"]["dice"]["mean"] for floor in summary["floors"]}
    # The point has moved with the lesion; the headers, which `identity` aligns by, have not: 1 of 4 columns.
    assert (dice["pasted"], dice["warped"]) == (1.0, 0.25)
    assert (
        dice.keys() == {"pasted", "warped", "grown"}
        and _floor(summary, "grown")["metrics"]["recall"]["mean"] == 1
    )


def test_vanished_lesions_are_drawn_where_they_were(summary: dict[str, Any]) -> None:
    for name in ("pasted", "warped"):
        vanished = _floor(summary, name)["vanished"]
        assert (vanished["found"], vanished["missed"], vanished["kept"]) == (0, 2, 2)
        assert vanished["false_ml_mean"] == pytest.approx(16 * 0.005) == vanished["false_ml_median"]
    run = summary["steps"][0]["vanished"]
    assert (run["sensitivity"], run["specificity"], run["false_ml_mean"]) == (1.0, 1.0, 0.0)


def test_the_run_is_compared_with_each_floor(summary: dict[str, Any]) -> None:
    compared = {m["metric"]: m for m in _floor(summary, "warped")["comparison"]["metrics"]}
    dice = compared["dice"]
    assert dice["difference"]["mean"] == pytest.approx(0.75) == dice["difference"]["low"]
    assert (dice["better"], dice["worse"]) == (2, 0)
    assert compared["fp_volume_voxels"]["difference"]["mean"] == pytest.approx(-8.0)  # half the lesions


def test_what_was_drawn_can_be_looked_at(work: Path, summary: dict[str, Any]) -> None:
    drawn = read_image(work / "evaluation/floors/pasted/b" / FOLLOWUP).array
    assert np.array_equal(drawn, labels(block(1, x=5), block(2, z=8)))  # lesion 2 at its propagated point
    text = (work / "evaluation/summary.md").read_text()
    assert (
        "| baseline mask warped by registration | 0.25 [0.25 to 0.25] | 0.75 [0.75 to 0.75] | 2, 0 |" in text
    )
    assert (work / "evaluation/floors/grown/lesions.csv").is_file()


@pytest.mark.slow
def test_stdout_is_json_alone(
    work: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)  # as the command line logs
    logging.getLogger().addHandler(handler)
    try:
        _evaluate(work, "--json")
    finally:
        logging.getLogger().removeHandler(handler)
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["floors"]) == 3 and "drawing the floor (2/2)" in captured.err


@pytest.mark.slow
def test_a_floor_that_lacks_a_case_gets_the_worst_score(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        *("--reference", work / "truth", "--prediction", work / "out", "--baseline", work / "in", "--json"),
        *("--floor", work / "in/a", "--backend", "identity", "-o", work / "one"),
    )
    summary = json.loads(capsys.readouterr().out)
    assert _floor(summary, "pasted")["metrics"]["dice"]["mean"] == 0.5
    assert any("all but 1 scans" in warning for warning in summary["warnings"])


class FailingBackend:
    """Stands in for `LazyBackend`: no pair of scans can be registered."""

    def __init__(self, name: str | None) -> None:
        pass

    def load(self) -> None:
        pass

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        raise ValueError("no overlap")


def test_a_floor_that_can_be_drawn_for_no_case_gets_the_worst_score(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.floor.floor_cases.LazyBackend", FailingBackend)
    clicks = work / "in/a"  # with clicks of all lesions, only the warped floor needs a registration
    command(
        *("--reference", work / "truth/a", "--prediction", work / "out/a", "--floor", clicks),
        *("-o", work / "none"),
    )
    summary = json.loads((work / "none/summary.json").read_text())
    assert _floor(summary, "warped")["metrics"]["dice"]["mean"] == 0.0
    assert _floor(summary, "pasted")["metrics"]["dice"]["mean"] == 1.0
    assert any("no overlap" in warning for warning in summary["warnings"])


def _with_two_cases(work: Path, folder: Path) -> tuple[str | Path, ...]:
    """Copy the input of both cases; returns the options that evaluate them."""
    shutil.copytree(work / "in", folder)
    given = ("--reference", work / "truth", "--prediction", work / "out", "--floor", folder)
    return *given, "--backend", "identity"


@pytest.mark.slow
def test_a_case_that_cannot_be_read_is_left_out_with_a_warning(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _with_two_cases(work, tmp_path / "in")
    damaged = tmp_path / "in/a/input/images/primary-followup-ct/ct.mha"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    command(*options, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert sum(str(damaged) in warning for warning in summary["warnings"]) == 1
    # The run is scored on both cases, the floors on the readable one: not as if they had missed the other.
    assert summary["steps"][0]["metrics"]["dice"]["lesions"] == 2
    dice = _floor(summary, "pasted")["metrics"]["dice"]
    assert (dice["mean"], dice["lesions"]) == (1.0, 1)
    compared = {m["metric"]: m for m in _floor(summary, "pasted")["comparison"]["metrics"]}
    assert compared["dice"]["difference"]["lesions"] == 1


@pytest.mark.slow
def test_floors_that_need_a_mask_are_left_out_without_one(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _with_two_cases(work, tmp_path / "in")
    shutil.rmtree((tmp_path / "in/a/input" / MASK).parent)
    command(*options, "--baseline", work / "in", "--json")
    summary = json.loads(capsys.readouterr().out)
    lesions = {floor["name"]: floor["metrics"]["dice"]["lesions"] for floor in summary["floors"]}
    assert lesions == {"pasted": 1, "warped": 1, "grown": 2}
    assert sum("a/input: has no baseline mask" in warning for warning in summary["warnings"]) == 1
    assert any("warped by registration: its row" in warning for warning in summary["warnings"])

    shutil.rmtree((tmp_path / "in/b/input" / MASK).parent)
    command(*options, "--baseline", work / "in", "--json")
    summary = json.loads(capsys.readouterr().out)
    assert [floor["name"] for floor in summary["floors"]] == ["grown"]
    assert any("pasted at the point: has no row" in warning for warning in summary["warnings"])


@pytest.mark.slow
def test_cases_without_a_reference_are_not_drawn(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = _with_two_cases(work, tmp_path / "in")
    (tmp_path / "in/b").rename(tmp_path / "in/c")
    shutil.copytree(work / "in/b", tmp_path / "in/b")
    command(*options, "--json")
    summary = json.loads(capsys.readouterr().out)
    without = [warning for warning in summary["warnings"] if "has no reference" in warning]
    assert len(without) == 1 and without[0].startswith("c/images/primary-followup")
    assert "drawing the floor (2/2)" in caplog.text and "in/c/input: drawing" not in caplog.text

    shutil.rmtree(tmp_path / "in/a")
    shutil.rmtree(tmp_path / "in/b")
    shutil.copytree(tmp_path / "in/c", tmp_path / "in/d")
    with pytest.raises(InputError, match="none of its labelmaps"):
        command(*options, "-o", tmp_path / "early")
    assert not (tmp_path / "early/floors").exists()


def test_wrong_paths_are_found_before_the_floors_are_drawn(work: Path) -> None:
    with pytest.raises(InputError, match="nowhere: does not exist"):
        command(
            *("--reference", work / "nowhere", "--prediction", work / "out", "--floor", work / "in"),
            *("--backend", "identity", "-o", work / "early"),
        )
    assert not (work / "early/floors").exists()


def test_floors_do_not_replace_what_is_evaluated(work: Path) -> None:
    drawn = work / "kept/floors/pasted"
    for patient in "ab":
        write(drawn / patient / FOLLOWUP, block(1))
    with pytest.raises(InputError, match="pasted: lies in .* which is replaced"):
        command(
            *("--reference", work / "truth", "--prediction", drawn, "--floor", work / "in"),
            *("--backend", "identity", "-o", work / "kept"),
        )
    assert (drawn / "a" / FOLLOWUP).is_file()


@pytest.mark.slow
def test_labelmaps_of_an_earlier_call_are_not_scored_again(work: Path) -> None:
    write(work / "again/floors/pasted/old" / FOLLOWUP, block(1))
    _evaluate(work, "-o", work / "again")
    assert not (work / "again/floors/pasted/old").exists()


def test_folders_of_cases_have_their_names(work: Path, tmp_path: Path) -> None:
    assert case_folders(work / "in") == {"a": work / "in/a/input", "b": work / "in/b/input"}
    assert case_folders(work / "in/a") == {"a": work / "in/a/input"}
    assert case_folders(work / "in/a/input") == {"input": work / "in/a/input"}
    with pytest.raises(InputError, match="holds no case of the interface"):
        case_folders(tmp_path)


def test_a_back_end_alone_is_refused(work: Path) -> None:
    with pytest.raises(InputError, match="--backend: is given without --floor"):
        command("--reference", work / "truth", "--prediction", work / "out", "--backend", "affine")
    with pytest.raises(InputError, match="registration back end 'nothing' is unknown"):
        _evaluate(work, "--backend", "nothing")
