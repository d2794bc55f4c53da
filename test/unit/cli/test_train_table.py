"""Options of the command ``train table``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from model.cli import train_table
from model.comparison import run_table as run_module
from model.comparison.report import Table
from model.comparison.run_table import TableJob
from model.comparison.variants import ALL_ROWS
from model.errors import InputError
from test.helpers.paths import CHECKOUT

CALL = ["--data", "d", "-o", "o", "--budget-minutes", "1"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    train_table.add_arguments(parser)
    return parser


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget-minutes", "-1", "--budget-minutes: is -1.0; expected a number from 0 on"),
        ("--budget-minutes", "nan", "--budget-minutes: is nan; expected"),
        ("--jobs", "0", "--jobs: is 0; expected a whole number from 1 on"),
        ("--rows", "points", "--rows: points is unknown; expected some of floor-pasted, floor-warped, fl"),
    ],
)
def test_options_that_make_no_sense(option: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_table.run(_parser().parse_args([*CALL, option, value]))


@pytest.mark.slow
def test_pretrained_rows_need_their_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the output folder is relative
    with pytest.raises(
        InputError, match="--pretrain: is missing; expected prepared synthetic follow-ups for long"
    ):
        train_table.run(_parser().parse_args(CALL))


def test_settings_may_follow_the_names_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[TableJob] = []

    def run(job: TableJob) -> Table:
        jobs.append(job)
        return Table(())

    monkeypatch.setattr(run_module, "run_table", run)
    parser = _parser()
    texts = [*CALL, "--rows", "point", "longitudinal", "epochs=3"]
    assert train_table.run(parser.parse_args(texts)) == 0
    assert train_table.run(parser.parse_args([*CALL, "epochs=3"])) == 0
    assert [({row.name for row in job.rows}, job.overrides) for job in jobs] == [
        ({"point", "longitudinal"}, ("epochs=3",)),
        ({row.name for row in ALL_ROWS}, ("epochs=3",)),
    ]


def test_the_table_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run_module, "run_table", lambda job: Table((), ("# Title",)))
    train_table.run(_parser().parse_args(CALL))
    assert capsys.readouterr().out == "\n# Title\n"


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, model.cli.train_table; "
        "print([n for n in ('torch', 'numpy', 'SimpleITK') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr
