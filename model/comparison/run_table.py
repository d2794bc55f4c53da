"""The table from its first step to the last that the budget allows; called again, it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import LongilesionError
from ..training.job import Say
from .inputs import fitted, open_inputs
from .layout import Layout
from .ledger import Call, Ledger, read_ledger, write_ledger
from .paired import paired_lines
from .picture import draw_noise
from .pool import executor
from .progress import ComparisonContext, renewed
from .report import Table, write_table
from .report_header import heading_of
from .results import lines_of
from .scheduler import Schedule
from .step_execution import StepContext, Work, carry_out
from .steps import Step, steps_of
from .variants import ROWS, TWO_CORES, Row, TablePreset, stages_of


@dataclass(frozen=True, eq=False)
class TableJob:
    """What to compare, on what, and for how long.

    ``rows`` are the names of those that are worked on; None: all. The table shows all rows in any case.
    ``work`` and ``clock`` (seconds) are others in tests alone.
    """

    data: Path
    pretraining: Path | None
    test: Path | None
    output: Path
    budget_minutes: float
    rows: tuple[str, ...] | None = None
    jobs: int = 1
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    preset: TablePreset = TWO_CORES
    work: Work = carry_out
    clock: Callable[[], float] = time.monotonic


def run_table(job: TableJob, say: Say = print) -> Table:
    """Do what is not done yet, as far as the budget goes, and write the table.

    The budget ends a training after its epoch, and asking after a pair of scans; both go on at the next call.
    A fold that collapses stands so in the table, and a lesion without an answer, which the next call asks
    about again. Says whom the pretraining keeps out, and a line for each step, when it ends.

    Raises:
        InputError: data, settings or what is there already do not go together.
        LongilesionError: of a step that could not be done; what others have done is kept.
    """
    begun, start = datetime.now(UTC).isoformat(timespec="seconds"), job.clock()
    rows = [row for row in ROWS if job.rows is None or row.name in job.rows]
    stages = {row.name: stages_of(row, job.preset, job.overrides) for row in ROWS}
    layout = Layout(job.output)
    known = read_ledger(layout.ledger)
    inputs = open_inputs(job.data, job.pretraining, job.test, rows, stages, layout, say)
    for line in inputs.kept_out:
        say(line)
    site = ComparisonContext(layout, stages, inputs.pairs)
    ledger = renewed(site, fitted(known, inputs, layout))

    def keep(now: Ledger) -> Ledger:
        minutes = (job.clock() - start) / 60
        call = Call(begun=begun, budget_minutes=job.budget_minutes, minutes=minutes)
        kept = now.model_copy(update={"calls": (*known.calls, call)})
        write_ledger(layout.ledger, kept)
        return kept

    def scheduled(ledger: Ledger, rows: Sequence[Row]) -> Schedule:
        return Schedule(
            site=site,
            place=StepContext(
                layout, job.data, job.pretraining, inputs.pairs, job.preset, job.overrides, job.device
            ),
            ledger=ledger,
            steps=steps_of(rows, inputs.folds, job.test is not None),
            keep=keep,
            until=start + 60 * job.budget_minutes,
            work=job.work,
            shares_pretraining=inputs.shares_pretraining,
            clock=job.clock,
        )

    schedule = scheduled(ledger, rows)

    def written() -> Table:
        ledger = keep(renewed(site, schedule.ledger))
        lines = lines_of(ledger, layout, inputs.folds)
        left = scheduled(ledger, ROWS).left  # also of rows that this call was not to work on
        heading = heading_of(inputs, job.preset, job.overrides, stages, ledger, len(left))
        table = Table(lines, heading, paired_lines(ledger, layout, inputs.folds))
        write_table(table, layout)
        draw_noise(lines, layout.noise_picture)
        return table

    keep(ledger)
    if schedule.left:
        pool = executor(job.jobs)
        try:
            schedule.run(pool, job.jobs, say)
        except LongilesionError:
            written()  # with what was done before the step that failed
            raise
        finally:
            pool.shutdown(wait=False)  # nothing runs any more; processes take their time to end
    say(_last_line(scheduled(schedule.ledger, rows).left))
    return written()


def _last_line(left: Sequence[Step]) -> str:
    if not left:
        return "all steps are done"
    steps = "1 step is" if len(left) == 1 else f"{len(left)} steps are"
    return f"{steps} left, beginning with {left[0]}; the same command goes on"
