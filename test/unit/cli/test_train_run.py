"""The command's options and how settings of both stages come about."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from model.cli import train_run as run_command
from model.cli.main import main
from model.errors import InputError
from test.helpers.paths import CHECKOUT

from ...helpers import training_phantoms as phantoms
from ..training.test_train_fold import two_processes


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
        capsys,
        "--pretrain",
        "synthetic",
        "variant=point",
        "epochs=3",
        "seed=5",
        "pretrain.epochs=7",
        "pretrain.seed=6",
    )
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


def test_settings_may_stand_on_both_sides_of_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run", "workers=0", "--fold", "0", "epochs=7", "--settings", "seed=3"]) == 0
    found = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert (found["workers"], found["epochs"], found["seed"]) == ("0", "7", "3")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["train", "run", "epochs=7", "--fold", "0", "much"], "much"),
        (["train", "run", "epochs=7", "--nothing=1", "seed=3"], "--nothing=1"),
        (["train", "prepare", "--data", "x", "-o", "y", "epochs=7"], "epochs=7"),
    ],
)
def test_what_is_no_setting_is_told(texts: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(texts)
    assert ended.value.code == 2
    assert f"error: unrecognized arguments: {told}\n" in capsys.readouterr().err


# As process.py and `-m model` end, but on data in memory.
_SCRIPT = """
import sys
from pathlib import Path
from model.cli.main import main
from model.training import prepared_data
from test.unit.training.test_train_fold import _ensemble
job = _ensemble(Path(sys.argv[1]), 2, 24)
sets = {"synthetic": job.pretraining, "real": job.data}
prepared_data.open_prepared = lambda folder, tables: sets[folder.name]
words = ["train", "run", "--data", "real", "--pretrain", "synthetic", "-o", sys.argv[2], "--device", "cpu"]
sys.exit(main([*words, *sys.argv[3:]]))
"""


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (("pretrain.batch_size=24",), "batch_size (the plan's): is 3 for 2 processes"),
        (("batch_size=2", "pretrain.batch_size=5"), "pretrain.batch_size: is 5 for 2 processes"),
    ],
)
def test_batches_that_do_not_divide_are_told_once_and_at_once(
    tmp_path: Path, settings: tuple[str, ...], line: str
) -> None:
    """By the first of all processes, with one line, before anything is written."""
    codes, said, errors = two_processes(_SCRIPT, tmp_path, tmp_path / "out", *settings)
    assert codes == [InputError.exit_code] * 2 and said == ["", ""]
    assert [one for one in errors[0].splitlines() if "expected" in one] == [
        f"{line}; expected a multiple of 2, as it counts for all of them together, or fewer processes"
    ]
    assert "batch_size" not in errors[1] and not (tmp_path / "out").exists()


def test_wrong_settings_are_told() -> None:
    with pytest.raises(InputError, match="epoch: is an unknown setting"):
        run_command.run(_parsed("epoch=3"))


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, model.cli.train_run; "
        "print([n for n in ('torch', 'numpy', 'SimpleITK') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("texts", "option"), [(["-o", "out"], "data"), (["--data", "data"], "output")])
def test_missing_folders_are_told(texts: list[str], option: str) -> None:
    with pytest.raises(InputError, match=f"--{option}: is missing; expected a folder"):
        run_command.run(_parsed(*texts))
