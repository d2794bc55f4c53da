"""The command weights: its texts, its JSON, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model.cli.main import main
from test.helpers.paths import GOLDEN_MODEL

from ...helpers.checkpoints import FOLD, small_model


def test_models_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model(tmp_path / "good")
    assert main(["weights", "list", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in (str(tmp_path / "good"), "longitudinal (5 channels)", "32 x 64 x 64", "folds     0, 1 ("):
        assert part in shown
    shutil.copytree(tmp_path / "good", tmp_path / "worse")
    (tmp_path / "worse" / "plans.json").write_text("{}")
    assert main(["weights", "list", "--json", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    good, worse = json.loads(captured.out)
    assert good["folds"] == [0, 1] and "plans.json" in worse["problem"]
    assert captured.err.startswith(str(tmp_path / "worse" / "plans.json"))


@pytest.mark.parametrize(("name", "code"), [("nowhere", 2), (".", 3)])
def test_no_models(name: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list", str(tmp_path / name)]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_model_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(tmp_path / "m")
    assert main(["weights", "verify", str(model)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok"] * 3
    (model / "fold_1" / FOLD.name).write_bytes(b"")
    assert main(["weights", "verify", "--json", str(model)]) == 3
    captured = capsys.readouterr()
    problems = [file["problem"] is not None for file in json.loads(captured.out)]
    assert problems == [False, False, True] and "fold_1" in captured.err


def test_packed_and_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "packed"
    assert main(["weights", "pack", str(GOLDEN_MODEL), str(packed), "--dtype", "fp16"]) == 0
    archive = shutil.make_archive(str(tmp_path / "download"), "zip", packed)
    assert main(["weights", "import", archive, str(tmp_path / "imported")]) == 0
    assert "folds     0, 1, 2, 3, 4" in capsys.readouterr().out
    assert main(["weights", "verify", str(tmp_path / "imported")]) == 0
    assert capsys.readouterr().out.count("as recorded") == 7
