"""Rows against each other, lesion by lesion, on the held-out patients that both were asked about.

Patients differ by more than networks do: intervals of two rows overlap where the difference is plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..crossval.scores import DEFINITION
from ..evaluation.averages import Average
from ..evaluation.compare_runs import MetricComparison, compare_runs
from ..evaluation.metrics import Metric
from ..evaluation.records import RECORDS_NAME, LesionRecord, Scope, read_records
from .layout import Layout
from .ledger import Ledger
from .steps import MAIN_QUESTIONS
from .variants import PAIRED_ROWS, ROWS, folds_of


@dataclass(frozen=True, slots=True)
class PairedLine:
    """A row less the ``other`` one; titles are those of the rows, ``question`` is what both were asked.

    ``folds`` are those of both, ``dice`` is None where there are none. ``better`` and ``worse`` count
    lesions. ``p_patients`` is that of Wilcoxon's signed-rank test over patients, two-sided.
    """

    row: str
    title: str
    other: str
    other_title: str
    question: str
    folds: tuple[str, ...]
    dice: Average | None = None
    better: int | None = None
    worse: int | None = None
    p_patients: float | None = None


def paired_lines(ledger: Ledger, layout: Layout, fold_count: int) -> tuple[PairedLine, ...]:
    """A line for each of `PAIRED_ROWS`, from the ledger and the records of the answers."""
    return tuple(_lines(ledger, layout, fold_count))


def _lines(ledger: Ledger, layout: Layout, fold_count: int) -> Iterator[PairedLine]:
    rows, question = {row.name: row for row in ROWS}, MAIN_QUESTIONS[0].name
    for name, other in PAIRED_ROWS:
        folds = tuple(
            fold
            for fold in folds_of(rows[name], fold_count)
            if all(_is_sound(ledger, one, question, fold) for one in (name, other))
        )
        line = PairedLine(name, rows[name].title, other, rows[other].title, question, folds)
        yield _compared(line, layout) if folds else line


def _is_sound(ledger: Ledger, row: str, question: str, fold: str) -> bool:
    answer, training = ledger.answer(row, "held-out", question, (fold,)), ledger.training(row, fold)
    return (
        answer is not None and answer.state == "finished" and getattr(training, "state", None) != "collapsed"
    )


def _compared(line: PairedLine, layout: Layout) -> PairedLine:
    mine, theirs = (_records(layout, row, line) for row in (line.row, line.other))
    found = _dice(compare_runs(mine, theirs, Path(line.other), DEFINITION).metrics)
    return PairedLine(
        line.row,
        line.title,
        line.other,
        line.other_title,
        line.question,
        line.folds,
        found.difference,
        found.better,
        found.worse,
        found.p_patients,
    )


def _records(layout: Layout, row: str, line: PairedLine) -> list[LesionRecord]:
    folders = (layout.held_out(row, line.question, fold) for fold in line.folds)
    return [record for folder in folders for record in read_records(folder / RECORDS_NAME)]


def _dice(metrics: tuple[MetricComparison, ...]) -> MetricComparison:
    return next(m for m in metrics if m.metric is Metric.DICE and m.scope is Scope.LESION)
