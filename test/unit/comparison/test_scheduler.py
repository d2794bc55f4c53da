"""Order, budget, what goes on and what is not repeated."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from model.comparison.ledger import Ledger, read_ledger, write_ledger
from model.comparison.pool import SerialExecutor, executor, threads_of
from model.comparison.progress import ComparisonContext, renewed
from model.comparison.report_header import _trained
from model.comparison.scheduler import Schedule
from model.comparison.step_execution import Outcome, StepContext
from model.comparison.steps import Step, TrainStep, steps_of
from model.comparison.variants import HEADLINE, ROWS, Row
from model.errors import InputError

from ...helpers.comparison_stand_ins import Worker, place, site, write_stage

TWO_ROWS = ROWS[:2]


def _run(
    where: ComparisonContext,
    worker: Worker,
    minutes: float,
    rows: tuple[Row, ...] = TWO_ROWS,
    pool: Executor | None = None,
    jobs: int = 1,
    shared: bool = False,
    said: list[str] | None = None,
) -> Schedule:
    path = where.layout.ledger
    schedule = Schedule(
        where,
        place(where),
        renewed(where, read_ledger(path)),
        steps_of(rows, where.folds, has_test=True),
        lambda now: write_ledger(path, now),
        worker.clock() + 60 * minutes,
        worker,
        shared,
        worker.clock,
    )
    schedule.run(pool or SerialExecutor(), jobs, (said if said is not None else []).append)
    return schedule


def test_rows_come_in_order_and_nothing_is_repeated(tmp_path: Path) -> None:
    where, said = site(tmp_path), list[str]()
    worker = Worker(where)
    schedule = _run(where, worker, 1e6, said=said)
    assert worker.done[:3] == [f"{HEADLINE.name}: training of fold {n}" for n in range(3)]
    assert worker.done[3].startswith(
        f"{HEADLINE.name}: fold 0 asked about its held-out patients (propagated, g"
    )
    assert worker.done[6] == "longitudinal: training of fold 0"
    assert "ensemble of 3 folds asked about the test patients" in " ".join(worker.done)
    assert not schedule.left and len(said) == len(worker.done) == len(set(worker.done))
    assert said[0] == f"[1/{len(said)}] longitudinal-pretrained: training of fold 0: finished, 10.0 min"
    again = Worker(where)
    _run(where, again, 1e6)
    assert again.done == []


def test_the_ledger_is_rebuilt_from_the_folders(tmp_path: Path) -> None:
    where = site(tmp_path)
    _run(where, Worker(where), 1e6)
    before = read_ledger(where.layout.ledger)
    where.layout.ledger.unlink()
    rebuilt, again = renewed(where, Ledger()), Worker(where)
    assert rebuilt.trainings == before.trainings
    assert {(a.key, a.state, a.score) for a in rebuilt.answers} == {
        (a.key, a.state, a.score) for a in before.answers
    }
    _run(where, again, 1e6)
    assert again.done == []


def test_the_budget_ends_a_call_and_the_next_goes_on(tmp_path: Path) -> None:
    where, said = site(tmp_path), list[str]()
    first = Worker(where, stopping=True)
    schedule = _run(where, first, 15, said=said)
    assert first.done == [f"{HEADLINE.name}: training of fold {n}" for n in (0, 1)]
    assert said[1].endswith("training of fold 1: stopped by the budget after 3 of 6 epochs, 10.0 min")
    assert len(schedule.left) > 10
    states = [
        entry.state for entry in read_ledger(where.layout.ledger).trainings if entry.row == HEADLINE.name
    ]
    assert states == ["finished", "begun", "not run"]
    second = Worker(where)
    assert not _run(where, second, 1e6).left
    assert second.done[:2] == [f"{HEADLINE.name}: training of fold {n}" for n in (1, 2)]
    assert f"{HEADLINE.name}: training of fold 0" not in second.done


def test_without_budget_nothing_begins(tmp_path: Path) -> None:
    where = site(tmp_path)
    worker = Worker(where)
    assert len(_run(where, worker, 0).left) > 10
    assert worker.done == []


def test_a_collapsed_fold_stops_no_other(tmp_path: Path) -> None:
    where, said = site(tmp_path), list[str]()
    worker = Worker(where, collapsing=frozenset({(HEADLINE.name, "1"), ("longitudinal", "0")}))
    schedule = _run(where, worker, 1e6, said=said)
    assert not schedule.left
    assert (
        f"{HEADLINE.name}: ensemble of 2 folds asked about the test patients (propagated, given)"
        in worker.done
    )
    assert not any("fold 1 asked" in step for step in worker.done if step.startswith(HEADLINE.name))
    assert any(
        "training of fold 1: collapsed, 10.0 min (fold has collapsed: all background)" in s for s in said
    )
    ledger = read_ledger(where.layout.ledger)
    assert ledger.training("longitudinal", "0").state == "collapsed"
    again = Worker(where)
    _run(where, again, 1e6)
    assert again.done == []


def test_a_pretraining_of_all_folds_that_collapses_is_begun_once(tmp_path: Path) -> None:
    where, said = site(tmp_path), list[str]()

    class _Collapsing(Worker):
        def __call__(self, step: Step, place: StepContext, until: float) -> Outcome:
            if not isinstance(step, TrainStep) or not step.row.is_pretrained:
                return super().__call__(step, place, until)
            self.done.append(str(step))
            config = where.stages[step.row.name].pretraining
            assert config is not None
            shared = where.layout.run(step.row.name) / "pretraining" / "fold_shared"
            write_stage(shared, config, 1, "collapsed")
            return Outcome("collapsed", 10.0, "fold shared has collapsed: all background")

    worker = _Collapsing(where)
    schedule = _run(where, worker, 1e6, shared=True, said=said)
    assert not schedule.left
    assert [step for step in worker.done if HEADLINE.name in step] == [f"{HEADLINE.name}: training of fold 0"]
    ledger = read_ledger(where.layout.ledger)
    assert [ledger.training(HEADLINE.name, fold).state for fold in "012"] == ["collapsed"] * 3
    assert len({_trained(ledger.training(HEADLINE.name, fold)) for fold in "012"}) == 1
    again = _Collapsing(where)
    _run(where, again, 1e6, shared=True)
    assert again.done == []


def test_lesions_without_an_answer_are_asked_about_by_the_next_call(tmp_path: Path) -> None:
    where, said = site(tmp_path), list[str]()
    worker = Worker(where, failed={1: "out of luck"})
    _run(where, worker, 1e6, said=said)
    assert len(worker.done) == len(set(worker.done))
    line = next(line for line in said if "longitudinal: fold 0 asked about its held-out" in line)
    assert "; 2 lesions have NO ANSWER, get the worst score, and are asked about again by" in line
    assert "propagated, p0-1: lesion 1: out of luck; given, p0-1: lesion 1: out of luck" in line
    again = Worker(where)
    assert not _run(where, again, 1e6).left
    assert again.done == [step for step in worker.done if "training" not in step]
    third = Worker(where)
    _run(where, third, 1e6)
    assert third.done == []


def test_minutes_of_answers_are_kept_and_summed(tmp_path: Path) -> None:
    where = site(tmp_path)
    _run(where, Worker(where), 1e6)
    ledger = renewed(where, read_ledger(where.layout.ledger))
    assert ledger.answer("longitudinal", "held-out", "given", ("0",)).minutes == 5.0
    assert ledger.answer("longitudinal", "held-out", "propagated-noise4", ("0",)).minutes == 2.5


@dataclass
class _SideBySide(Worker):
    """Notes which steps run at the same time; the first two wait for each other."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=60))
    running: list[Step] = field(default_factory=list)
    together: list[tuple[Step, ...]] = field(default_factory=list)
    begun: int = 0

    def __call__(self, step: Step, place: StepContext, until: float) -> Outcome:
        with self.lock:
            self.begun += 1
            is_first = self.begun <= 2
            self.running.append(step)
            self.together.append(tuple(self.running))
        if is_first:
            self.meeting.wait()
        with self.lock:
            try:
                return super().__call__(step, place, until)
            finally:
                self.running.remove(step)


@pytest.mark.parametrize("shared", [False, True])
def test_folds_run_side_by_side_unless_they_share_a_pretraining(tmp_path: Path, shared: bool) -> None:
    where = site(tmp_path)
    worker = _SideBySide(where)
    with ThreadPoolExecutor(2) as pool:
        assert not _run(where, worker, 1e6, pool=pool, jobs=2, shared=shared).left
    assert len(worker.done) == len(set(worker.done))
    rows = [[step.row for step in steps if isinstance(step, TrainStep)] for steps in worker.together]
    assert rows[1] == [HEADLINE, ROWS[1] if shared else HEADLINE]
    assert not shared or all(row.count(HEADLINE) < 2 for row in rows)


class _Failing(Worker):
    def __call__(self, step: Step, place: StepContext, until: float) -> Outcome:
        outcome = super().__call__(step, place, until)
        if str(step).endswith("training of fold 1"):
            raise InputError("scan.nii.gz: is missing; expected a CT")
        return outcome


def test_an_error_ends_the_call_and_keeps_what_was_done(tmp_path: Path) -> None:
    where, said = site(tmp_path), list[str]()
    worker = _Failing(where)
    with pytest.raises(InputError, match="scan.nii.gz: is missing; expected a CT"):
        _run(where, worker, 1e6, said=said)
    assert len(worker.done) == 2
    assert said[-1].endswith("training of fold 1: failed: scan.nii.gz: is missing; expected a CT")
    assert read_ledger(where.layout.ledger).training(HEADLINE.name, "0").state == "finished"


def test_a_ledger_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text("{")
    with pytest.raises(InputError, match=r"ledger.json: cannot be read .*; expected the ledger of the table"):
        read_ledger(tmp_path / "ledger.json")


def test_processes_have_their_share_of_the_cores() -> None:
    with executor(2) as pool:
        assert pool.submit(torch.get_num_threads).result(timeout=600) == threads_of(2)


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert [threads_of(jobs) for jobs in (1, 2, 5, 9)] == [5, 2, 1, 1]
