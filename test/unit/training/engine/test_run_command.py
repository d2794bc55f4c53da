"""The command's options and how settings of both stages come about."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import InputError
from model.training import run_command

from . import phantoms


def _parsed(*texts: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return parser.parse_args([*texts])


def _settings(capsys: pytest.CaptureFixture[str], *texts: str) -> dict[str, str]:
    assert run_command.run(_parsed("--settings", *texts)) == 0
    return dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())


def test_settings_begin_with_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert _settings(capsys)["learning_rate"] == "0.01"
    assert _settings(capsys, "--initial", "x.pth")["learning_rate"] == "0.001"
    assert _settings(capsys, "--preset", "pretraining", "epochs=3")["sampling"] == "pretraining"


def test_stages_share_the_network_and_have_their_own_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    found = _settings(
        capsys, "--pretrain", "synthetic", "variant=point", "epochs=3", "seed=5", "pretrain.epochs=7",
        "pretrain.seed=6",
    )  # fmt: skip
    assert (found["variant"], found["pretrain.variant"]) == ("point", "point")
    assert (found["epochs"], found["pretrain.epochs"]) == ("3", "7")
    assert (found["learning_rate"], found["pretrain.learning_rate"]) == ("0.001", "0.01")
    assert (found["seed"], found["pretrain.seed"]) == ("5", "6")


def test_batches_are_those_of_the_plan_where_one_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantoms.write_plan(tmp_path, phantoms.plan())
    assert _settings(capsys)["batch_size"] == "0  # the plan's"
    found = _settings(capsys, "--data", str(tmp_path), "--pretrain", "synthetic", "pretrain.batch_size=7")
    assert (found["batch_size"], found["pretrain.batch_size"]) == ("3", "7")
    assert (found["batch_dice"], found["pretrain.batch_dice"]) == ("true", "true")


def test_wrong_settings_are_told() -> None:
    with pytest.raises(InputError, match="epoch: is an unknown setting"):
        run_command.run(_parsed("epoch=3"))


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, model.training.run_command; "
        "print([n for n in ('torch', 'numpy', 'SimpleITK') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[4]
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("texts", "option"), [(["-o", "out"], "data"), (["--data", "data"], "output")])
def test_missing_folders_are_told(texts: list[str], option: str) -> None:
    with pytest.raises(InputError, match=f"--{option}: is missing; expected a folder"):
        run_command.run(_parsed(*texts))
