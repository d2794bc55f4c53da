"""Lines and how they are written, against records and lines made by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from model.comparison import steps
from model.comparison.grid import NOT_RUN
from model.comparison.ledger import Ledger
from model.comparison.picture import _curves
from model.comparison.progress import ComparisonContext, renewed
from model.comparison.report import Table, csv_text, folds_text, markdown, write_table
from model.comparison.results import Line, Section, lines_of, undrawn
from model.comparison.steps import MAIN_QUESTIONS
from model.comparison.variants import HEADLINE, ROWS
from model.crossval.scores import Score

from ...helpers.comparison_stand_ins import MINUTES_OF_EPOCH, asking, record, site, write_answers, write_fold

PLAIN = ROWS[1]
SCORE = Score(
    dice=0.63714,
    dice_low=0.5,
    dice_high=None,
    recall=0.7,
    precision=0.6,
    nsd=None,
    fn_voxels=343.4,
    fp_voxels=144.0,
    fn_ml=3.434,
    fp_ml=1.44,
    lesions=40,
    vanished=3,
    vanished_found=2,
    scans=9,
    patients=8,
    failed=1,
)
LINE = Line("rows", HEADLINE.name, "Final", "propagated", ("0", "1", "2"), ("4",), ("3",), SCORE, 61.6, 120.2)


def _cells(text: str, title: str) -> list[str]:
    """The cells of the first line of a Markdown table that begins with a title."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_line_is_written_as_in_the_paper() -> None:
    text = markdown(Table((LINE,), ("# Title", "- a fact")))
    assert text.startswith("# Title\n\n- a fact\n\n## Rows\n\n| Setting ")
    assert _cells(text, "Setting") == [
        "Setting",
        "folds",
        "Dice ↑",
        "95 % interval",
        "FNvol ↓ (voxels)",
        "FPvol ↓ (voxels)",
        "FNvol ↓ (ml)",
        "FPvol ↓ (ml)",
        "lesions",
        "patients",
        "minutes trained",
    ]
    assert _cells(text, "Final") == [
        "Final",
        "0-2 (3 collapsed; 4 not run)",
        "63.71",
        "–",
        "343",
        "144",
        "3.43",
        "1.44",
        "40",
        "8",
        "120 + 62",
    ]
    assert "2 of 3" in text and "Ensemble" not in text


@pytest.mark.parametrize(
    ("folds", "not_run", "collapsed", "text"),
    [
        ("01234", "", "", "0-4"),
        ("01", "", "", "0, 1"),
        ("", "01", "", "0, 1 not run"),
        ("0", "", "1", "0 (1 collapsed)"),
        ("024", "3", "1", "0, 2, 4 (1 collapsed; 3 not run)"),
        ("", "", "01", "0, 1 collapsed"),
        ("", "", "", "–"),
    ],
)
def test_folds_in_words(folds: str, not_run: str, collapsed: str, text: str) -> None:
    line = replace(LINE, folds=tuple(folds), not_run=tuple(not_run), collapsed=tuple(collapsed))
    assert folds_text(line) == text


def test_what_was_not_reached_says_so() -> None:
    empty = replace(LINE, folds=(), not_run=("0",), collapsed=(), score=None, minutes=None)
    assert _cells(markdown(Table((empty,))), "Final")[1:3] == ["0 not run", NOT_RUN]
    collapsed = replace(empty, not_run=(), collapsed=("0",))
    assert _cells(markdown(Table((collapsed,))), "Final")[1:3] == ["0 collapsed", "collapsed"]


def test_the_csv_has_every_number() -> None:
    empty = replace(LINE, folds=(), not_run=("0", "1"), collapsed=(), score=None, minutes=None)
    rows = list(csv.DictReader(io.StringIO(csv_text(Table((LINE, empty))))))
    assert (rows[0]["dice"], rows[0]["dice_high"], rows[0]["folds"]) == ("0.63714", "", "0 1 2")
    assert (rows[0]["minutes"], rows[0]["failed"], rows[0]["collapsed"]) == ("61.6", "1", "3")
    assert (rows[1]["dice"], rows[1]["not_run"], rows[1]["lesions"]) == ("", "0 1", "")


def _answer(where: ComparisonContext, question: str, fold: str, common: int, row: int = 0) -> None:
    write_answers(where, asking(ROWS[row], question, fold), common)


def _lines(where: ComparisonContext, section: Section, row: int = 0) -> list[Line]:
    lines = lines_of(renewed(where, Ledger()), where.layout, where.folds)
    return [line for line in lines if line.section == section and line.row == ROWS[row].name]


def test_a_row_of_all_folds_stands_there_with_those_of_the_others_too(tmp_path: Path) -> None:
    where = site(tmp_path)
    for fold, common in (("0", 100), ("1", 50), ("2", 0)):
        write_fold(where, HEADLINE, fold)
        _answer(where, "propagated", fold, common)
    whole, few = _lines(where, "rows")
    assert (whole.folds, few.folds) == (("0", "1", "2"), ("0", "1"))
    assert whole.score is not None and few.score is not None
    assert whole.score.dice == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert whole.score.fn_voxels == pytest.approx(100 / 3)
    assert few.score.dice == pytest.approx((1 + 2 / 3) / 2)
    assert (few.score.lesions, few.score.patients) == (2, 2)
    assert whole.minutes == pytest.approx(12 * MINUTES_OF_EPOCH)
    assert whole.pretraining_minutes == pytest.approx(6 * MINUTES_OF_EPOCH)
    assert [line.score is not None for line in _lines(where, "folds")] == [True] * 3
    assert len(_lines(where, "rows", 1)) == 1 and _lines(where, "rows", 1)[0].not_run == ("0", "1")
    assert len(_lines(where, "noise")) == 10 and len(_lines(where, "points")) == 4
    assert _lines(where, "noise")[0].score == whole.score  # without noise it is the same question


def test_collapsed_folds_are_left_out_and_counted_beside(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, PLAIN, "0")
    write_fold(where, PLAIN, "1", "collapsed")
    _answer(where, "propagated", "0", 100, row=1)
    (line,) = _lines(where, "rows", 1)
    assert (line.folds, line.collapsed, line.score.dice) == (("0",), ("1",), 1.0)
    assert _lines(where, "collapsed", 1)[0].score is None  # nobody told yet which lesions the fold has
    write_fold(where, HEADLINE, "1")
    _answer(where, "propagated", "1", 50)
    (counted,) = _lines(where, "collapsed", 1)
    assert (counted.score.dice, counted.score.fn_voxels) == (0.5, 50.0)
    text = markdown(Table(lines_of(renewed(where, Ledger()), where.layout, 3)))
    assert "## Rows with collapsed folds" in text and "0 (1 collapsed)" in text


def test_a_network_that_draws_nothing_misses_every_lesion_and_finds_the_vanished() -> None:
    there, gone, drawn = record("p"), record("p", 2, reference=0), record("p", 3, reference=0)
    empty = undrawn([there, gone, replace(drawn, existed=False)])
    assert [r.lesion for r in empty] == ["1", "2"]
    assert [(r.prediction_voxels, r.fn_voxels, r.fp_voxels, r.nsd_2mm) for r in empty] == [
        (0, 100, 0, None),
        (0, 0, 0, None),
    ]


def test_the_ensemble_stands_beside_its_folds(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, HEADLINE, "0")
    write_fold(where, HEADLINE, "1")
    write_fold(where, HEADLINE, "2", "collapsed")
    for folds in (("0",), ("0", "1")):
        write_answers(where, steps.TestStep(HEADLINE, folds, MAIN_QUESTIONS[:1]))
    lines = [line for line in _lines(where, "ensemble") if line.question == "propagated"]
    assert [line.title for line in lines] == ["Fold 0", "Fold 1", "Fold 2", "Ensemble of 2"]
    assert [line.score is not None for line in lines] == [True, False, False, True]
    assert lines[1].not_run == ("1",) and lines[2].collapsed == ("2",)


def test_files_and_curves(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, HEADLINE, "0")
    for name in ("propagated", "propagated-noise2"):
        _answer(where, name, "0", 100 if name == "propagated" else 50)
    lines = lines_of(renewed(where, Ledger()), where.layout, 3)
    (points,) = _curves(lines).values()
    assert points[:1] == [(0, 1.0)] and points[-1] == (2, pytest.approx(2 / 3))
    write_table(Table(lines), where.layout)
    assert where.layout.markdown.read_text() == markdown(Table(lines))
    assert where.layout.csv.read_text() == csv_text(Table(lines))
