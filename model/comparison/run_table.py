"""Run a comparison within a budget and write the table; a repeated call continues."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..case.atomic_files import remove_partial_files
from ..case.folder_lock import locked_folder
from ..case.machine_limits import usable_cores
from ..data.workers import process_pool
from ..errors import LongilesionError, MemoryExhaustedError, one_line
from ..training.checkpoint import FINAL
from ..training.stages import SHARED
from .inputs import open_context
from .ledger import LEDGER_FILE, Call, Ledger, read_ledger, with_digests, write_ledger
from .report import Table, write_report
from .report_header import report_header
from .results import Results
from .run_folders import refreshed
from .steps import RunStep, Step, TrainStep, all_steps, run_step, steps_left
from .variants import ALL_ROWS, Row

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TableJob:
    """The data to compare variants on, and the budget.

    ``rows`` are the rows to work on; the table shows all rows in any case. Only tests replace ``run_step``
    and ``clock`` (seconds).
    """

    data: Path
    pretraining: Path | None
    test: Path | None
    output: Path
    budget_minutes: float
    rows: tuple[Row, ...] = ALL_ROWS
    jobs: int = 1
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    run_step: RunStep = run_step
    clock: Callable[[], float] = time.monotonic


def run_table(job: TableJob) -> Table:
    """Run the unfinished steps within the budget, and write ledger and table.

    The budget ends a training after its epoch, and predictions after a pair of scans; the next call continues
    them. Collapsed folds and failed lesions appear in the table; failed lesions are predicted again by the
    next call. Logs a line for each step that ends.

    Raises:
        InputError: data, settings and existing runs do not fit each other.
        OutputError: a file cannot be written, or another run writes into the folder.
        LongilesionError: a step failed; the results of the others are kept.
    """
    with locked_folder(job.output):
        remove_partial_files(job.output)
        return _run_table(job)


def _run_table(job: TableJob) -> Table:
    table_run, pool = TableRun(job), step_executor(job.jobs)
    try:
        table_run.run_steps(pool)
    except LongilesionError:
        table_run.write_table()  # with the results of the other steps
        raise
    finally:
        pool.shutdown(wait=False)  # nothing runs any more; processes take their time to end
    return table_run.write_table()


class TableRun:
    """One call of the command: runs steps in order, several at a time, and keeps the ledger up to date."""

    def __init__(self, job: TableJob) -> None:
        self._begun, self._start = datetime.now(UTC).isoformat(timespec="seconds"), job.clock()
        self._job, self._until = job, self._start + 60 * job.budget_minutes
        earlier = read_ledger(job.output / LEDGER_FILE)
        self._earlier_calls = earlier.calls
        self._context = open_context(
            job.data, job.pretraining, job.test, job.output, job.rows, job.overrides, job.device
        )
        self.ledger = refreshed(self._context, with_digests(earlier, self._context))
        self._save()
        self._total, self._started, self._ended = len(self.steps_left(job.rows)), set[Step](), 0

    def steps_left(self, rows: Sequence[Row]) -> list[Step]:
        """The steps of some rows that are not done."""
        steps = all_steps(rows, self._context.fold_count, self._context.tested is not None)
        return steps_left(steps, self.ledger)

    def run_steps(self, pool: Executor) -> None:
        """Run all steps that can begin. After an error no further step begins, and running ones are awaited.

        Raises:
            MemoryExhaustedError: a process was killed.
            LongilesionError: the error of the first step that failed.
        """
        running: dict[Future[float], Step] = {}
        failure: LongilesionError | None = None
        while True:
            while (
                failure is None and len(running) < self._job.jobs and (step := self._next(running.values()))
            ):
                running[pool.submit(self._job.run_step, step, self._context, self._until)] = step
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                try:
                    self._finish(step, future)
                except LongilesionError as error:
                    log.info("%s: failed: %s", step, one_line(error))
                    failure = failure or error
        if failure is not None:
            raise failure
        left = self.steps_left(self._job.rows)
        steps = "1 step is" if len(left) == 1 else f"{len(left)} steps are"
        todo = f"{steps} left, beginning with {left[0]}; the same command continues" if left else ""
        log.info(todo or "all steps are done")

    def write_table(self) -> Table:
        """Write ledger and table from the contents of the run folders."""
        self.ledger = refreshed(self._context, self.ledger)
        self._save()
        left = len(self.steps_left(ALL_ROWS))  # also of rows that this call does not work on
        results = Results(self._context, self.ledger)
        header = report_header(self._context, self._job.overrides, self.ledger, left)
        table = Table(tuple(results.lines()), header, tuple(results.paired_lines()))
        write_report(table, self._job.output)
        return table

    def _save(self) -> None:
        minutes = (self._job.clock() - self._start) / 60
        call = Call(begun=self._begun, budget_minutes=self._job.budget_minutes, minutes=minutes)
        self.ledger = self.ledger.model_copy(update={"calls": (*self._earlier_calls, call)})
        write_ledger(self._job.output / LEDGER_FILE, self.ledger)

    def _next(self, running: Iterable[Step]) -> Step | None:
        """Start the first step that can begin now; each starts once in a call."""
        if self._job.clock() >= self._until:
            return None
        for step in self.steps_left(self._job.rows):
            if step not in self._started and self._can_begin(step, running):
                self._started.add(step)
                return step
        return None

    def _can_begin(self, step: Step, running: Iterable[Step]) -> bool:
        if not isinstance(step, TrainStep):
            return step.row.floor is not None or all(
                self.ledger.training(step.row, fold).state == "finished" for fold in step.folds
            )
        if not (step.row.is_pretrained and self._context.shares_pretraining):
            return True
        # Only one fold trains the shared pretraining; the others wait for it.
        is_running = any(isinstance(one, TrainStep) and one.row is step.row for one in running)
        return not is_running or (self._context.folder.pretraining(step.row, SHARED) / FINAL).is_file()

    def _finish(self, step: Step, future: Future[float]) -> None:
        try:
            minutes = future.result()
        except BrokenProcessPool as error:
            raise MemoryExhaustedError(
                f"{step}: its process was killed, probably for lack of memory; expected fewer --jobs, or "
                "more memory (the same command continues)"
            ) from error
        self.ledger = refreshed(self._context, self.ledger, step, minutes)
        self._save()
        self._ended += 1
        summary = _summary(step, self.ledger, minutes)
        log.info("[%d/%d] %s: %s", self._ended, self._total, step, summary)


def _summary(step: Step, ledger: Ledger, minutes: float) -> str:
    if isinstance(step, TrainStep):
        entry = ledger.training(step.row, step.fold)
        after = f"stopped by the budget after {entry.epochs} of {entry.of_epochs} epochs"
        state = entry.state if entry.state in ("finished", "collapsed") else after
        return f"{state}, {minutes:.1f} min" + (f" ({entry.reason})" if entry.reason else "")
    entries = step.entries(ledger)
    is_finished = all(entry.state == "finished" for entry in entries)
    text = f"{'finished' if is_finished else 'stopped by the budget'}, {minutes:.1f} min"
    if failed := [f"{entry.setting}, {line}" for entry in entries for line in entry.failed]:
        text += f"; {len(failed)} lesions could NOT BE PREDICTED, are scored as missed, and are predicted "
        text += f"again by the next call: {'; '.join(failed)}"
    return text


def step_executor(jobs: int) -> Executor:
    """An executor for steps: processes that share the cores, or a thread of this process for a single job."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return process_pool(jobs, threads_per_process(jobs), ignore_interrupt=True)


def threads_per_process(jobs: int) -> int:
    """The number of torch threads for each of ``jobs`` processes."""
    return max(1, usable_cores() // jobs)
