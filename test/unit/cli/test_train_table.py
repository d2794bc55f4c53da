"""The command, from its options to its files, with a stand-in for training and asking."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from model.cli import train_table as table_command
from model.comparison import inputs as inputs_module
from model.comparison import run_table as run_module
from model.comparison.inputs import DataSet, Inputs, fitted
from model.comparison.layout import Layout
from model.comparison.ledger import Ledger, read_ledger
from model.comparison.report import Table
from model.comparison.run_table import TableJob, run_table
from model.comparison.step_execution import Outcome, StepContext
from model.comparison.steps import Step
from model.comparison.variants import HEADLINE, ROWS
from model.errors import InputError
from test.helpers.paths import CHECKOUT

from ...helpers.comparison_stand_ins import SETTINGS, Clock, Worker, site
from ...helpers.training_phantoms import plan

DATA = DataSet(Path("real"), 5, 6, 30, "d1")


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    pretraining, test = DataSet(Path("syn"), 1, 1, 1, "p1"), DataSet(Path("x"), 1, 1, 2, "t1")
    found = Inputs(plan(), DATA, pretraining, test, site(tmp_path).pairs, False)
    monkeypatch.setattr(run_module, "open_inputs", lambda *_: found)
    return found


def _job(folder: Path, minutes: float, worker: Worker, rows: tuple[str, ...] | None = None) -> TableJob:
    data = folder / "data"
    return TableJob(
        data, data, data, folder, minutes, rows, overrides=SETTINGS, work=worker, clock=worker.clock
    )


def test_calls_go_on_until_the_table_is_whole(tmp_path: Path, inputs: Inputs) -> None:
    where, said, clock = site(tmp_path), list[str](), Clock()
    first = Worker(where, clock)
    table = run_table(_job(tmp_path, 65, first), said.append)
    assert len(first.done) == 7
    assert said[-1].endswith("the same command goes on") and len(said) == 8
    assert [line.score is None for line in table.of("rows")] == [False, False] + [True] * 6
    text = (tmp_path / "table.md").read_text()
    assert "70 minutes by the clock, in 1 call:" in text and "not run" in text
    second = Worker(where, clock)
    table = run_table(_job(tmp_path, 1e6, second), said.append)
    assert said[-1] == "all steps are done" and not set(first.done) & set(second.done)
    assert all(line.score is not None for line in table.lines)
    assert "not run" not in (tmp_path / "table.md").read_text().split("## Rows")[1]
    assert [call.budget_minutes for call in read_ledger(tmp_path / "ledger.json").calls] == [65, 1e6]
    third = Worker(where, clock)
    assert run_table(_job(tmp_path, 0, third), said.append).lines == table.lines and not third.done


def test_rows_can_be_chosen_and_all_are_shown(tmp_path: Path, inputs: Inputs) -> None:
    worker = Worker(site(tmp_path))
    table = run_table(_job(tmp_path, 1e6, worker, ("point",)), lambda _: None)
    assert worker.done and all(step.startswith("point: ") for step in worker.done)
    assert {line.row for line in table.of("rows")} == {row.name for row in ROWS}
    assert "everything was run" not in (tmp_path / "table.md").read_text()


def test_lesions_without_an_answer_stand_in_the_table(tmp_path: Path, inputs: Inputs) -> None:
    where, said = site(tmp_path), list[str]()
    worker = Worker(where, failed={1: "out of luck"})
    table = run_table(_job(tmp_path, 1e6, worker, ("point",)), said.append)
    assert all(line.score is not None for line in table.of("rows") if line.row == "point")
    text = (tmp_path / "table.md").read_text()
    assert "**point: fold 0 left 1 lesion without an answer** (held-out, propagated), with the worst" in text
    assert "asked about again by the next call: p0-1: lesion 1: out of luck." in text
    assert said[-1].startswith("2 steps are left, beginning with point: fold 0 asked")
    again = Worker(where, worker.clock)
    run_table(_job(tmp_path, 1e6, again, ("point",)), said.append)
    assert len(again.done) == 2 and "without an answer" not in (tmp_path / "table.md").read_text()


def test_whom_the_pretraining_keeps_out_is_told_once(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("fold 0: pretraining keeps out A, on whom the fold is validated",)
    monkeypatch.setattr(run_module, "open_inputs", lambda *_: replace(inputs, kept_out=lines))
    said: list[str] = []
    run_table(_job(tmp_path, 1e6, Worker(site(tmp_path))), said.append)
    assert said[0] == lines[0] and said.count(lines[0]) == 1


class _Failing(Worker):
    def __call__(self, step: Step, place: StepContext, until: float) -> Outcome:
        if str(step).startswith("mask-and-point"):
            raise InputError("scan.nii.gz: is missing; expected a CT")
        return super().__call__(step, place, until)


def test_what_was_done_before_an_error_is_in_the_table(tmp_path: Path, inputs: Inputs) -> None:
    with pytest.raises(InputError, match="is missing; expected a CT"):
        run_table(_job(tmp_path, 1e6, _Failing(site(tmp_path))), lambda _: None)
    rows = (tmp_path / "table.md").read_text().split("## Rows")[1].splitlines()
    assert "not run" not in next(row for row in rows if "Pretrained Synth. Longitudinal" in row)
    assert "not run" in next(row for row in rows if "Cross Sectional + Mask" in row)


def test_a_collapsed_fold_is_in_the_table(tmp_path: Path, inputs: Inputs) -> None:
    worker = Worker(site(tmp_path), collapsing=frozenset({(HEADLINE.name, "2")}))
    table = run_table(_job(tmp_path, 1e6, worker), lambda _: None)
    text = (tmp_path / "table.md").read_text()
    assert f"**{HEADLINE.name}: fold 2 has collapsed** after 5 of 6 epochs: all background." in text
    assert "0, 1 (2 collapsed)" in text
    assert table.of("collapsed")[0].score is None  # no other row has fold 2
    assert all(line.score is not None for line in table.of("rows"))


def test_the_ledger_of_other_data_is_refused(tmp_path: Path, inputs: Inputs) -> None:
    layout = Layout(tmp_path)
    ledger = fitted(Ledger(), inputs, layout)
    assert (ledger.data, ledger.pretraining, ledger.test) == ("d1", "p1", "t1")
    assert fitted(ledger, replace(inputs, test=None), layout).test == "t1"
    with pytest.raises(
        InputError, match=r"ledger.json: is that of another data set than syn; expected the same"
    ):
        fitted(ledger, replace(inputs, pretraining=DataSet(Path("syn"), 1, 1, 1, "p2")), layout)


def test_pretrained_rows_need_their_data(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="--pretrain: is missing; expected prepared synthetic follow-ups for long"
    ):
        inputs_module.open_inputs(tmp_path, None, None, ROWS, {}, Layout(tmp_path), lambda _: None)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget-minutes", "-1", "--budget-minutes: is -1.0; expected a number from 0 on"),
        ("--budget-minutes", "nan", "--budget-minutes: is nan; expected"),
        ("--jobs", "0", "--jobs: is 0; expected a whole number from 1 on"),
        ("--rows", "points", "--rows: points is unknown; expected some of longitudinal-pretrained, longi"),
    ],
)
def test_options_that_make_no_sense(option: str, value: str, message: str) -> None:
    parser = argparse.ArgumentParser()
    table_command.add_arguments(parser)
    with pytest.raises(InputError, match=message):
        table_command.run(
            parser.parse_args(["--data", "d", "-o", "o", "--budget-minutes", "1", option, value])
        )


def test_settings_may_follow_the_names_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[TableJob] = []
    monkeypatch.setattr(run_module, "run_table", lambda job, say: jobs.append(job) or Table(()))
    parser = argparse.ArgumentParser()
    table_command.add_arguments(parser)
    texts = ["--data", "d", "-o", "o", "--budget-minutes", "1", "--rows", "point", "longitudinal", "epochs=3"]
    assert table_command.run(parser.parse_args(texts)) == 0
    assert table_command.run(parser.parse_args([*texts[:6], "epochs=3"])) == 0
    assert [(job.rows, job.overrides) for job in jobs] == [
        (("point", "longitudinal"), ("epochs=3",)),
        (None, ("epochs=3",)),
    ]


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, model.cli.train_table; "
        "print([n for n in ('torch', 'numpy', 'SimpleITK') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr
