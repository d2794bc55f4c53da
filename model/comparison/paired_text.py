"""Rows against each other as text: Markdown for people, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import fields

from ..evaluation.averages import Average
from .grid import NOT_RUN, NOTHING, Column, cell, grid, run_of
from .paired import PairedLine

PAIRED_WORDS = (
    "Paired by lesion, averaged as above, on the folds that both have; p by Wilcoxon's signed-rank test over "
    "patients, for one comparison alone."
)


def _points(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:+.2f}"


def _of_difference(show: Callable[[Average], str]) -> Callable[[PairedLine], str]:
    return lambda line: NOTHING if line.dice is None else show(line.dice)


def _difference_interval(dice: Average) -> str:
    return NOTHING if dice.low is None else f"{_points(dice.low)} to {_points(dice.high)}"


def _better(line: PairedLine) -> str:
    return NOTHING if line.dice is None else f"{line.better}, {line.worse}"


_PAIRED: tuple[Column[PairedLine], ...] = (
    Column("Setting", lambda line: line.title),
    Column("less", lambda line: line.other_title),
    Column("folds", lambda line: run_of(line.folds) or NOT_RUN),
    Column("Dice", _of_difference(lambda dice: _points(dice.mean))),
    Column("95 % interval", _of_difference(_difference_interval)),
    Column("lesions better, worse", _better),
    Column("p", lambda line: NOTHING if line.p_patients is None else f"{line.p_patients:.3f}"),
    Column("patients", _of_difference(lambda dice: str(dice.patients))),
)


def paired_grid(paired: Sequence[PairedLine]) -> str:
    """The Markdown table; differences in percent points."""
    return grid(paired, _PAIRED)


def paired_csv_text(paired: Sequence[PairedLine]) -> str:
    """The paired rows with all numbers as they are, differences of shares from -1 to 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    whose = [field.name for field in fields(PairedLine) if field.name != "dice"]
    what = [field.name for field in fields(Average)]
    writer.writerow([*whose, *(f"dice_{name}" for name in what)])
    for line in paired:
        found = [getattr(line.dice, name) if line.dice is not None else None for name in what]
        writer.writerow([cell(value) for value in (*(getattr(line, name) for name in whose), *found)])
    return text.getvalue()
