"""Command ``interactive-eval``: exit codes and messages; `test/golden/petct` holds a run with networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.cli import main as cli
from model.errors import ExitCode
from model.protocol.protocol_network import ProtocolNetwork, Segment
from test.helpers.golden_pet_ct import PET_CT_MODEL
from test.helpers.protocol_cases_on_disk import CubesAtClicks, write_protocol_case


def _run(data: Path, *options: str) -> int:
    arguments = ["interactive-eval", "--data", str(data), "--weights", str(PET_CT_MODEL)]
    return cli.main([*arguments, "-o", str(data / "out"), *options])


def _replace_network(monkeypatch: pytest.MonkeyPatch, segment: Segment) -> None:
    monkeypatch.setattr(ProtocolNetwork, "load", lambda _self: segment)


@pytest.mark.slow
def test_one_case_fails_and_the_other_one_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_protocol_case(tmp_path, name)
    _replace_network(monkeypatch, CubesAtClicks(broken=("a", 2)))
    assert _run(tmp_path, "--steps", "0,2") == ExitCode.FAULT
    output = capfd.readouterr()
    assert "| 2 | 0." in output.out and "dice 0 to 1" in output.out
    assert output.err.splitlines()[-1] == "cases that failed: a (out of luck); all others are complete"
    _replace_network(monkeypatch, CubesAtClicks())
    assert _run(tmp_path, "--steps", "0,2") == ExitCode.SUCCESS
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["cases"] == 2 and summary["failed"] == {}
    settings = json.loads((tmp_path / "out" / "protocol.json").read_text())
    assert len(settings["weights"][0]) == 5 and settings["seed"] == 42 and settings["kind"] == "clicks"


def test_without_a_complete_case_the_code_is_that_of_the_first_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_protocol_case(tmp_path, "a")
    (tmp_path / "labelsTr" / "a.nii.gz").unlink()
    _replace_network(monkeypatch, CubesAtClicks())
    assert _run(tmp_path) == ExitCode.INPUT
    assert "no case is complete" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--scribbles", "random", "--published-clicks"), "--published-clicks: is given with --scribbles"),
        (("--scribbles", "random", "--clicks", "folder"), "--clicks: is given with --scribbles"),
        (("--scribbles", "in-turn", "--steps", "0,3"), "--steps: leaves out scribbles"),
    ],
)
def test_scribbles_do_not_go_with_options_of_clicks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], part: str
) -> None:
    assert _run(tmp_path, *options) == ExitCode.INPUT
    assert part in capfd.readouterr().err


@pytest.mark.parametrize("steps", ["3,0", "0,0", "a", "1,,2", ""])
def test_steps_must_ascend(tmp_path: Path, steps: str) -> None:
    with pytest.raises(SystemExit) as end:
        _run(tmp_path, "--steps", steps)
    assert end.value.code == 2
