"""Order of the steps, budget, continued calls, collapsed folds, failures, processes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from model.comparison import run_table as module
from model.comparison.inputs import ComparisonContext
from model.comparison.ledger import Ledger, read_ledger
from model.comparison.report_header import training_line
from model.comparison.run_folders import refreshed
from model.comparison.run_table import TableJob, TableRun, run_table, step_executor, threads_per_process
from model.comparison.steps import Step, TrainStep
from model.comparison.variants import ALL_ROWS, HEADLINE, ROWS, Row
from model.errors import InputError

from ...helpers.comparison_stand_ins import OVERRIDES, Clock, StepRunner, context_of, write_stage

TWO_ROWS = ROWS[:2]
POINT = tuple(row for row in ROWS if row.name == "point")
MakeJob = Callable[..., TableJob]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> MakeJob:
    """Makes jobs whose context is that of their step runner."""
    caplog.set_level(logging.INFO, module.log.name)

    def make(
        runner: StepRunner, minutes: float = 1e6, rows: tuple[Row, ...] = ALL_ROWS, jobs: int = 1
    ) -> TableJob:
        monkeypatch.setattr(module, "open_context", lambda *_: runner.context)
        data, clock = tmp_path / "data", runner.clock
        return TableJob(
            data, data, data, tmp_path, minutes, rows, jobs, OVERRIDES, run_step=runner, clock=clock
        )

    return make


def _run(job: TableJob, pool: Executor | None = None) -> TableRun:
    table_run = TableRun(job)
    table_run.run_steps(pool or ThreadPoolExecutor(1))
    return table_run


def test_rows_come_in_order_and_nothing_is_repeated(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(tmp_path)
    runner = StepRunner(context)
    table_run = _run(job(runner, rows=TWO_ROWS))
    assert runner.done[:3] == [f"{HEADLINE.name}: training of fold {n}" for n in range(3)]
    assert runner.done[3].startswith(
        f"{HEADLINE.name}: predictions of fold 0 for its held-out patients (propagated, g"
    )
    assert runner.done[6] == "longitudinal: training of fold 0"
    assert "predictions of the ensemble of 3 folds for the test patients" in " ".join(runner.done)
    assert not table_run.steps_left(TWO_ROWS) and len(runner.done) == len(set(runner.done))
    *lines, last = caplog.messages
    assert len(lines) == len(runner.done) and last == "all steps are done"
    assert lines[0] == f"[1/{len(lines)}] longitudinal-pretrained: training of fold 0: finished, 10.0 min"
    again = StepRunner(context)
    _run(job(again, rows=TWO_ROWS))
    assert again.done == []


@pytest.mark.slow
def test_the_ledger_is_rebuilt_from_the_folders(tmp_path: Path, job: MakeJob) -> None:
    context = context_of(tmp_path)
    _run(job(StepRunner(context), rows=TWO_ROWS))
    before = read_ledger(tmp_path / "ledger.json")
    (tmp_path / "ledger.json").unlink()
    rebuilt, again = refreshed(context, Ledger()), StepRunner(context)
    assert rebuilt.trainings == before.trainings
    assert {(e.key, e.state, e.score) for e in rebuilt.predictions} == {
        (e.key, e.state, e.score) for e in before.predictions
    }
    _run(job(again, rows=TWO_ROWS))
    assert again.done == []


@pytest.mark.slow
def test_the_budget_ends_a_call_and_the_next_goes_on(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(tmp_path)
    first = StepRunner(context, stopping=True)
    table_run = _run(job(first, 15, TWO_ROWS))
    assert first.done == [f"{HEADLINE.name}: training of fold {n}" for n in (0, 1)]
    stopped = "training of fold 1: stopped by the budget after 3 of 6 epochs, 10.0 min"
    assert caplog.messages[1].endswith(stopped)
    assert len(table_run.steps_left(TWO_ROWS)) > 10
    trainings = read_ledger(tmp_path / "ledger.json").trainings
    states = [entry.state for entry in trainings if entry.row == HEADLINE.name]
    assert states == ["finished", "begun", "not run"]
    second = StepRunner(context)
    assert not _run(job(second, rows=TWO_ROWS)).steps_left(TWO_ROWS)
    assert second.done[:2] == [f"{HEADLINE.name}: training of fold {n}" for n in (1, 2)]
    assert f"{HEADLINE.name}: training of fold 0" not in second.done


def test_without_budget_nothing_begins(tmp_path: Path, job: MakeJob) -> None:
    runner = StepRunner(context_of(tmp_path))
    assert len(_run(job(runner, 0, TWO_ROWS)).steps_left(TWO_ROWS)) > 10
    assert runner.done == []


@pytest.mark.slow
def test_a_collapsed_fold_stops_no_other(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(tmp_path)
    runner = StepRunner(context, collapsing=frozenset({(HEADLINE.name, "1"), ("longitudinal", "0")}))
    assert not _run(job(runner, rows=TWO_ROWS)).steps_left(TWO_ROWS)
    ensemble = (
        f"{HEADLINE.name}: predictions of the ensemble of 2 folds for the test patients (propagated, given)"
    )
    assert ensemble in runner.done
    assert not any("predictions of fold 1 " in step for step in runner.done if step.startswith(HEADLINE.name))
    collapsed = "training of fold 1: collapsed, 10.0 min (all background)"
    assert any(collapsed in line for line in caplog.messages)
    assert read_ledger(tmp_path / "ledger.json").training(TWO_ROWS[1], "0").state == "collapsed"
    again = StepRunner(context)
    _run(job(again, rows=TWO_ROWS))
    assert again.done == []


class _CollapsingPretraining(StepRunner):
    def __call__(self, step: Step, context: ComparisonContext, until: float) -> float:
        if not isinstance(step, TrainStep) or not step.row.is_pretrained:
            return super().__call__(step, context, until)
        self.done.append(str(step))
        config = context.configs[step.row.name].pretraining
        assert config is not None
        write_stage(context.folder.model(step.row) / "pretraining/fold_shared", config, 1, "collapsed")
        return 10.0


@pytest.mark.slow
def test_a_shared_pretraining_that_collapses_is_begun_once(tmp_path: Path, job: MakeJob) -> None:
    context = replace(context_of(tmp_path), shares_pretraining=True)
    runner = _CollapsingPretraining(context)
    assert not _run(job(runner, rows=TWO_ROWS)).steps_left(TWO_ROWS)
    assert [step for step in runner.done if HEADLINE.name in step] == [f"{HEADLINE.name}: training of fold 0"]
    ledger = read_ledger(tmp_path / "ledger.json")
    entries = [ledger.training(HEADLINE, fold) for fold in "012"]
    assert [entry.state for entry in entries] == ["collapsed"] * 3
    assert len({training_line(entry) for entry in entries}) == 1
    again = _CollapsingPretraining(context)
    _run(job(again, rows=TWO_ROWS))
    assert again.done == []


@pytest.mark.slow
def test_failed_lesions_are_predicted_again_by_the_next_call(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(tmp_path)
    runner = StepRunner(context, failed={1: "out of luck"})
    _run(job(runner, rows=TWO_ROWS))
    assert len(runner.done) == len(set(runner.done))
    line = next(
        line for line in caplog.messages if "longitudinal: predictions of fold 0 for its held-out" in line
    )
    assert "; 2 lesions could NOT BE PREDICTED, are scored as missed, and are predicted again by" in line
    assert "propagated, p0-1: lesion 1: out of luck; given, p0-1: lesion 1: out of luck" in line
    again = StepRunner(context)
    assert not _run(job(again, rows=TWO_ROWS)).steps_left(TWO_ROWS)
    assert again.done == [step for step in runner.done if "training" not in step]
    third = StepRunner(context)
    _run(job(third, rows=TWO_ROWS))
    assert third.done == []


@pytest.mark.slow
def test_minutes_of_predictions_are_kept_and_shared_by_settings(tmp_path: Path, job: MakeJob) -> None:
    context, row = context_of(tmp_path), TWO_ROWS[1]
    _run(job(StepRunner(context), rows=TWO_ROWS))
    ledger = refreshed(context, read_ledger(tmp_path / "ledger.json"))
    assert ledger.prediction(row, "held-out", "given", ("0",)).minutes == 5.0
    assert ledger.prediction(row, "held-out", "propagated-noise4", ("0",)).minutes == 2.5


@dataclass
class _SideBySide(StepRunner):
    """Notes which steps run at the same time; the first two wait for each other."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=60))
    running: list[Step] = field(default_factory=list)
    together: list[tuple[Step, ...]] = field(default_factory=list)
    begun: int = 0

    def __call__(self, step: Step, context: ComparisonContext, until: float) -> float:
        with self.lock:
            self.begun += 1
            is_first = self.begun <= 2
            self.running.append(step)
            self.together.append(tuple(self.running))
        if is_first:
            self.meeting.wait()
        with self.lock:
            try:
                return super().__call__(step, context, until)
            finally:
                self.running.remove(step)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_folds_run_side_by_side_unless_they_share_a_pretraining(
    tmp_path: Path, job: MakeJob, shared: bool
) -> None:
    runner = _SideBySide(replace(context_of(tmp_path), shares_pretraining=shared))
    with ThreadPoolExecutor(2) as pool:
        assert not _run(job(runner, rows=TWO_ROWS, jobs=2), pool).steps_left(TWO_ROWS)
    assert len(runner.done) == len(set(runner.done))
    rows = [[step.row for step in steps if isinstance(step, TrainStep)] for steps in runner.together]
    assert rows[1] == [HEADLINE, ROWS[1] if shared else HEADLINE]
    assert not shared or all(row.count(HEADLINE) < 2 for row in rows)


class _Failing(StepRunner):
    failing = "training of fold 1"

    def __call__(self, step: Step, context: ComparisonContext, until: float) -> float:
        minutes = super().__call__(step, context, until)
        if self.failing in str(step):
            raise InputError("scan.nii.gz: is missing; expected a CT")
        return minutes


class _FailingRow(_Failing):
    failing = "mask-and-point"


def test_an_error_ends_the_call_and_keeps_earlier_results(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    runner = _Failing(context_of(tmp_path))
    with pytest.raises(InputError, match="scan.nii.gz: is missing; expected a CT"):
        _run(job(runner, rows=TWO_ROWS))
    assert len(runner.done) == 2
    failed = "training of fold 1: failed: scan.nii.gz: is missing; expected a CT"
    assert caplog.messages[-1].endswith(failed)
    assert read_ledger(tmp_path / "ledger.json").training(HEADLINE, "0").state == "finished"


@pytest.mark.slow
def test_results_before_an_error_are_in_the_table(tmp_path: Path, job: MakeJob) -> None:
    with pytest.raises(InputError, match="is missing; expected a CT"):
        run_table(job(_FailingRow(context_of(tmp_path))))
    rows = (tmp_path / "table.md").read_text().split("## Rows")[1].splitlines()
    assert "not run" not in next(row for row in rows if "Pretrained Synth. Longitudinal" in row)
    assert "not run" in next(row for row in rows if "Cross Sectional + Mask" in row)


@pytest.mark.slow
def test_calls_go_on_until_the_table_is_complete(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    context, clock = context_of(tmp_path), Clock()
    first = StepRunner(context, clock)
    table = run_table(job(first, 155))
    assert len(first.done) == 9 + 7  # the floors of three folds come first
    assert caplog.messages[-1].endswith("the same command continues") and len(caplog.messages) == 17
    assert [line.score is None for line in table.section("rows")] == [False] * (6 + 2) + [True] * (
        len(ROWS) - 1
    )
    text = (tmp_path / "table.md").read_text()
    assert "160 minutes by the clock, in 1 call:" in text and "not run" in text
    second = StepRunner(context, clock)
    table = run_table(job(second))
    assert caplog.messages[-1] == "all steps are done" and not set(first.done) & set(second.done)
    assert all(line.score is not None for line in table.lines)
    assert "not run" not in (tmp_path / "table.md").read_text().split("## Rows")[1]
    assert [call.budget_minutes for call in read_ledger(tmp_path / "ledger.json").calls] == [155, 1e6]
    third = StepRunner(context, clock)
    assert run_table(job(third, 0)).lines == table.lines and not third.done


def test_rows_can_be_chosen_and_all_are_shown(tmp_path: Path, job: MakeJob) -> None:
    runner = StepRunner(context_of(tmp_path))
    table = run_table(job(runner, rows=POINT))
    assert runner.done and all(step.startswith("point: ") for step in runner.done)
    assert {line.row for line in table.section("rows")} == {row.name for row in ALL_ROWS}
    assert "everything was run" not in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_failed_lesions_are_in_the_table(
    tmp_path: Path, job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(tmp_path)
    runner = StepRunner(context, failed={1: "out of luck"})
    table = run_table(job(runner, rows=POINT))
    assert all(line.score is not None for line in table.section("rows") if line.row == "point")
    text = (tmp_path / "table.md").read_text()
    assert "**point: fold 0 could not predict 1 lesion** (held-out, propagated), scored as missed" in text
    assert "predicted again by the next call: p0-1: lesion 1: out of luck." in text
    assert caplog.messages[-1].startswith("2 steps are left, beginning with point: predictions of fold 0")
    again = StepRunner(context, runner.clock)
    run_table(job(again, rows=POINT))
    assert len(again.done) == 2 and "could not predict" not in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_a_collapsed_fold_is_in_the_table(tmp_path: Path, job: MakeJob) -> None:
    table = run_table(job(StepRunner(context_of(tmp_path), collapsing=frozenset({(HEADLINE.name, "2")}))))
    text = (tmp_path / "table.md").read_text()
    assert f"**{HEADLINE.name}: fold 2 has collapsed** after 5 of 6 epochs: all background." in text
    assert "0, 1 (2 collapsed)" in text
    score = table.section("collapsed")[0].score
    assert score is not None and score.patients == 3  # no other network has fold 2, but the floors have
    assert all(line.score is not None for line in table.section("rows"))


def test_processes_have_their_share_of_the_cores_and_leave_ctrl_c_to_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pools: list[tuple[int, int, bool]] = []

    def pool(workers: int, threads: int, ignore_interrupt: bool) -> None:
        pools.append((workers, threads, ignore_interrupt))

    monkeypatch.setattr(module, "process_pool", pool)
    step_executor(2)
    assert pools == [(2, threads_per_process(2), True)]


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 5)
    assert [threads_per_process(jobs) for jobs in (1, 2, 5, 9)] == [5, 2, 1, 1]
