"""The command `train run`: its options, and the settings of both stages."""

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
from ...helpers.training_jobs import run_two_processes


def _parsed(*texts: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return parser.parse_args([*texts])


def _settings(capsys: pytest.CaptureFixture[str], *texts: str) -> dict[str, str]:
    assert run_command.run(_parsed("--settings", *texts)) == 0
    return dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())


def test_settings_start_from_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert _settings(capsys)["learning_rate"] == "0.01"
    assert _settings(capsys, "--initial", "x.pth")["learning_rate"] == "0.001"
    assert _settings(capsys, "--preset", "pretraining", "epochs=3")["sampling"] == "pretraining"


def test_both_stages_share_network_settings_but_not_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    values = _settings(
        capsys,
        "--pretrain",
        "synthetic",
        "variant=point",
        "epochs=3",
        "seed=5",
        "pretrain.epochs=7",
        "pretrain.seed=6",
    )
    assert (values["variant"], values["pretrain.variant"]) == ("point", "point")
    assert (values["epochs"], values["pretrain.epochs"]) == ("3", "7")
    assert (values["learning_rate"], values["pretrain.learning_rate"]) == ("0.001", "0.01")
    assert (values["seed"], values["pretrain.seed"]) == ("5", "6")


def test_batch_settings_are_those_of_the_plan_if_data_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantoms.write_plan(tmp_path, phantoms.plan())
    assert _settings(capsys)["batch_size"] == "0  # the plan's"
    values = _settings(capsys, "--data", str(tmp_path), "--pretrain", "synthetic", "pretrain.batch_size=7")
    assert (values["batch_size"], values["pretrain.batch_size"]) == ("3", "7")
    assert (values["batch_dice"], values["pretrain.batch_dice"]) == ("true", "true")


def test_settings_may_precede_and_follow_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run", "workers=0", "--fold", "0", "epochs=7", "--settings", "seed=3"]) == 0
    values = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert (values["workers"], values["epochs"], values["seed"]) == ("0", "7", "3")


@pytest.mark.parametrize(
    ("texts", "unknown"),
    [
        (["train", "run", "epochs=7", "--fold", "0", "much"], "much"),
        (["train", "run", "epochs=7", "--nothing=1", "seed=3"], "--nothing=1"),
        (["train", "prepare", "--data", "x", "-o", "y", "epochs=7"], "epochs=7"),
    ],
)
def test_arguments_that_are_not_settings_are_refused(
    texts: list[str], unknown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(texts)
    assert ended.value.code == 2
    assert f"error: unrecognized arguments: {unknown}\n" in capsys.readouterr().err


# As `python -m model`, but on data in memory.
_SCRIPT = """
import sys
from pathlib import Path
from model.cli.main import main
from model.training import prepared_data
from test.helpers.training_jobs import two_stage_job
job = two_stage_job(Path(sys.argv[1]), 2, 24)
sets = {"synthetic": job.pretraining, "real": job.data}
prepared_data.open_prepared = lambda folder, tables: sets[folder.name]
words = ["train", "run", "--data", "real", "--pretrain", "synthetic", "-o", sys.argv[2], "--device", "cpu"]
sys.exit(main([*words, *sys.argv[3:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (("pretrain.batch_size=24",), "batch_size (the plan's): is 3 for 2 processes"),
        (("batch_size=2", "pretrain.batch_size=5"), "pretrain.batch_size: is 5 for 2 processes"),
    ],
)
def test_batch_sizes_that_cannot_be_divided_are_refused_once_and_before_training(
    tmp_path: Path, settings: tuple[str, ...], line: str
) -> None:
    """By one line of the first process, before anything is written."""
    codes, outputs, errors = run_two_processes(_SCRIPT, tmp_path, tmp_path / "out", *settings)
    assert codes == [InputError.exit_code] * 2 and outputs == ["", ""]
    assert [one for one in errors[0].splitlines() if "expected" in one] == [
        f"{line}; expected a multiple of 2, as it counts for all of them together, or fewer processes"
    ]
    assert "batch_size" not in errors[1] and not (tmp_path / "out").exists()


def test_unknown_settings_are_refused() -> None:
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
def test_missing_folders_are_refused(texts: list[str], option: str) -> None:
    with pytest.raises(InputError, match=f"--{option}: is missing; expected a folder"):
        run_command.run(_parsed(*texts))
