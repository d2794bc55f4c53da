"""Rows against each other, against records made by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from model.comparison.grid import NOT_RUN
from model.comparison.ledger import Ledger
from model.comparison.paired import PairedLine, paired_lines
from model.comparison.paired_text import paired_csv_text
from model.comparison.progress import ComparisonContext, renewed
from model.comparison.report import Table, markdown, write_table
from model.comparison.variants import PAIRED_ROWS, ROWS

from ...helpers.comparison_stand_ins import asking, site, write_answers, write_fold

BY_NAME = {row.name: row for row in ROWS}


def _answered(where: ComparisonContext, row: str, fold: str, common: int) -> None:
    """Of the fold's one lesion of 100 voxels so many are found: Dice 2 c / (100 + c)."""
    write_fold(where, BY_NAME[row], fold)
    write_answers(where, asking(BY_NAME[row], "propagated", fold), common)


def _line(where: ComparisonContext, row: str, other: str) -> PairedLine:
    lines = paired_lines(renewed(where, Ledger()), where.layout, where.folds)
    return next(line for line in lines if (line.row, line.other) == (row, other))


def test_a_difference_is_that_of_the_same_lesions(tmp_path: Path) -> None:
    where = site(tmp_path)
    for row, first, second in (("longitudinal", 100, 50), ("mask-and-point", 50, 60)):
        _answered(where, row, "0", first)
        _answered(where, row, "1", second)
    line = _line(where, "longitudinal", "mask-and-point")
    assert line.folds == ("0", "1") and line.dice is not None
    assert line.dice.mean == pytest.approx(((1 - 2 / 3) + (2 / 3 - 3 / 4)) / 2)
    assert (line.better, line.worse, line.dice.lesions, line.dice.patients) == (1, 1, 2, 2)
    assert _line(where, "longitudinal", "longitudinal-unit-volume").folds == ()


def test_folds_that_one_of_them_lacks_are_left_out(tmp_path: Path) -> None:
    where = site(tmp_path)
    _answered(where, "longitudinal", "0", 100)
    _answered(where, "longitudinal", "1", 0)
    _answered(where, "mask-and-point", "0", 50)
    write_fold(where, BY_NAME["mask-and-point"], "1", "collapsed")
    line = _line(where, "longitudinal", "mask-and-point")
    assert line.folds == ("0",) and line.dice is not None
    assert line.dice.mean == pytest.approx(1 / 3) and line.dice.low is None  # of one patient no interval
    assert (line.better, line.worse) == (1, 0)


def test_the_text_has_a_line_for_each_pair_of_rows(tmp_path: Path) -> None:
    where = site(tmp_path)
    for row, common in (("longitudinal", 100), ("mask-and-point", 50)):
        _answered(where, row, "0", common)
    table = Table((), (), paired_lines(renewed(where, Ledger()), where.layout, where.folds))
    write_table(table, where.layout)
    text = where.layout.markdown.read_text()
    assert text == markdown(table) and "## Rows against each other" in text
    (line,) = (line for line in text.splitlines() if "+33.33" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][:6] == [
        "Longitudinal + Mask + Point",
        "Cross Sectional + Mask",
        "0",
        "+33.33",
        "–",
        "1, 0",
    ]
    assert text.count(NOT_RUN) == len(PAIRED_ROWS) - 1
    rows = list(csv.DictReader(io.StringIO(where.layout.paired_csv.read_text())))
    assert where.layout.paired_csv.read_text() == paired_csv_text(table.paired)
    assert [(row["row"], row["other"]) for row in rows] == list(PAIRED_ROWS)
    (known,) = (row for row in rows if row["dice_mean"])
    assert float(known["dice_mean"]) == pytest.approx(1 / 3) and known["folds"] == "0"


def test_each_pair_of_rows_exists() -> None:
    assert {name for pair in PAIRED_ROWS for name in pair} <= BY_NAME.keys()
