"""The table as Markdown, for people, and as CSV, a line for each line of it; paired rows have their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, fields

from ..case.atomic_files import write_text
from ..crossval.scores import Score
from .grid import NOT_RUN, NOTHING, Column, cell, grid, run_of
from .layout import Layout
from .paired import PairedLine
from .paired_text import PAIRED_WORDS, paired_csv_text, paired_grid
from .results import Line, Section
from .variants import HEAT_MAP_ROWS


@dataclass(frozen=True, slots=True)
class Table:
    """The lines, and what is said of them: ``heading`` are paragraphs above them."""

    lines: tuple[Line, ...]
    heading: tuple[str, ...] = ()
    paired: tuple[PairedLine, ...] = ()

    def of(self, section: Section) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.section == section)


def _of_score(show: Callable[[Score], str]) -> Callable[[Line], str]:
    return lambda line: NOTHING if line.score is None else show(line.score)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.2f}"


def _number(decimals: int) -> Callable[[float | None], str]:
    return lambda value: NOTHING if value is None else f"{value:.{decimals}f}"


_voxels, _ml = _number(0), _number(2)


def _interval(score: Score) -> str:
    if score.dice_low is None or score.dice_high is None:
        return NOTHING
    return f"{_percent(score.dice_low)} to {_percent(score.dice_high)}"


def _dice(line: Line) -> str:
    if line.score is not None:
        return _percent(line.score.dice)
    return "collapsed" if line.collapsed and not line.not_run else NOT_RUN


def _minutes(line: Line) -> str:
    if line.minutes is None:
        return NOTHING
    first = f"{line.pretraining_minutes:.0f} + " if line.pretraining_minutes else ""
    return f"{first}{line.minutes:.0f}"


def folds_text(line: Line) -> str:
    """Such as "0-4", or "0, 2 (1 collapsed; 3, 4 not run)"."""
    missing = [
        f"{run_of(names)} {what}"
        for names, what in ((line.collapsed, "collapsed"), (line.not_run, NOT_RUN))
        if names
    ]
    if not line.folds:
        return "; ".join(missing) or NOTHING
    return run_of(line.folds) + (f" ({'; '.join(missing)})" if missing else "")


_SCORES = (
    Column("Dice ↑", _dice),
    Column("95 % interval", _of_score(_interval)),
    Column("FNvol ↓ (voxels)", _of_score(lambda score: _voxels(score.fn_voxels))),
    Column("FPvol ↓ (voxels)", _of_score(lambda score: _voxels(score.fp_voxels))),
    Column("FNvol ↓ (ml)", _of_score(lambda score: _ml(score.fn_ml))),
    Column("FPvol ↓ (ml)", _of_score(lambda score: _ml(score.fp_ml))),
)
_COUNTS = (
    Column("lesions", _of_score(lambda score: str(score.lesions))),
    Column("patients", _of_score(lambda score: str(score.patients))),
)
_SETTING: Column[Line] = Column("Setting", lambda line: line.title)
_FOLDS = Column("folds", folds_text)
_MORE = (
    Column("recall", _of_score(lambda score: _percent(score.recall))),
    Column("precision", _of_score(lambda score: _percent(score.precision))),
    Column("NSD 2 mm", _of_score(lambda score: _percent(score.nsd))),
    Column("vanished found", _of_score(lambda score: f"{score.vanished_found} of {score.vanished}")),
    Column("failed", _of_score(lambda score: str(score.failed))),
)
_TRAINED = Column("minutes trained", _minutes)
_QUESTION: Column[Line] = Column("points", lambda line: line.question)
_ASKED = (_SETTING, _FOLDS, _QUESTION, *_SCORES, *_COUNTS)


def markdown(table: Table) -> str:
    """All sections; those that nothing belongs to are left out."""
    full = (_SETTING, _FOLDS, *_SCORES, *_COUNTS)
    maps = tuple(line for line in table.of("points") if line.row in HEAT_MAP_ROWS)
    sections = (
        ("Rows", "", table.of("rows"), (*full, _TRAINED)),
        ("Rows with collapsed folds", _COLLAPSED, table.of("collapsed"), full),
        ("More of the same rows", "", table.of("rows"), (_SETTING, _FOLDS, *_MORE)),
        ("Single folds", "", table.of("folds"), (*full, _TRAINED)),
        ("Propagated against given points", _POINTS, table.of("points"), _ASKED),
        ("Noise of the follow-up point", _NOISE, table.of("noise"), _ASKED),
        ("Gaussians of unit peak against unit volume", "", maps, _ASKED),
        ("Ensemble against single folds", _TEST, table.of("ensemble"), (_SETTING, _QUESTION, *full[2:])),
    )
    parts = [*table.heading]
    for title, words, lines, columns in sections:
        if lines:
            parts += [f"## {title}", *([words] if words else []), grid(lines, columns)]
        if title == "Rows" and table.paired:
            parts += ["## Rows against each other", PAIRED_WORDS, paired_grid(table.paired)]
    return "\n\n".join(parts) + "\n"


_COLLAPSED = (
    "As above, but folds that have collapsed count as if they had drawn nothing. Above they are left out."
)
_POINTS = (
    "A propagated point comes from a registration of both scans, a given one is the true one. A lesion "
    "without the one is asked by the other."
)
_NOISE = (
    "The propagated point is moved along each axis by a whole number of voxels of the network's grid, "
    "uniform from -n to n."
)
_TEST = "About patients who are in no fold and no pretraining."


_OF_LINE = (
    "section",
    "row",
    "title",
    "question",
    "folds",
    "not_run",
    "collapsed",
    "pretraining_minutes",
    "minutes",
)


def csv_text(table: Table) -> str:
    """All lines with all numbers as they are: shares from 0 to 1, empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [field.name for field in fields(Score)]
    writer.writerow([*_OF_LINE, *scores])
    for line in table.lines:
        found = [getattr(line.score, name) if line.score is not None else None for name in scores]
        writer.writerow([cell(value) for value in (*(getattr(line, name) for name in _OF_LINE), *found)])
    return text.getvalue()


def write_table(table: Table, layout: Layout) -> None:
    """Write all files.

    Raises:
        OutputError: one cannot be written.
    """
    write_text(layout.markdown, markdown(table))
    write_text(layout.csv, csv_text(table))
    write_text(layout.paired_csv, paired_csv_text(table.paired))
