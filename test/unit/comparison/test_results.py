"""Lines and paired lines, from records made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.comparison.inputs import ComparisonContext
from model.comparison.ledger import Ledger
from model.comparison.report import Table, table_markdown
from model.comparison.results import PairedLine, ResultLine, Results, Section, empty_predictions
from model.comparison.run_folders import refreshed
from model.comparison.steps import MAIN_SETTINGS, PredictStep
from model.comparison.variants import HEADLINE, PAIRED_ROWS, ROWS

from ...helpers.comparison_stand_ins import (
    MINUTES_PER_EPOCH,
    context_of,
    held_out_step,
    record,
    write_fold,
    write_predictions,
)

PLAIN = ROWS[1]
BY_NAME = {row.name: row for row in ROWS}


def _predict(context: ComparisonContext, setting: str, fold: str, common: int, row: int = 0) -> None:
    write_predictions(context, held_out_step(ROWS[row], setting, fold), common)


def _results(context: ComparisonContext) -> Results:
    return Results(context, refreshed(context, Ledger()))


def _lines(context: ComparisonContext, section: Section, row: int = 0) -> list[ResultLine]:
    lines = _results(context).lines()
    return [line for line in lines if line.section == section and line.row == ROWS[row].name]


@pytest.mark.slow
def test_a_row_of_all_folds_is_also_shown_with_the_folds_of_the_others(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    for fold, common in (("0", 100), ("1", 50), ("2", 0)):
        write_fold(context, HEADLINE, fold)
        _predict(context, "propagated", fold, common)
    whole, few = _lines(context, "rows")
    assert (whole.folds, few.folds) == (("0", "1", "2"), ("0", "1"))
    assert whole.score is not None and few.score is not None
    assert whole.score.dice == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert whole.score.fn_voxels == pytest.approx(100 / 3)
    assert few.score.dice == pytest.approx((1 + 2 / 3) / 2)
    assert (few.score.lesions, few.score.patients) == (2, 2)
    assert whole.minutes == pytest.approx(12 * MINUTES_PER_EPOCH)
    assert whole.pretraining_minutes == pytest.approx(6 * MINUTES_PER_EPOCH)
    assert [line.score is not None for line in _lines(context, "folds")] == [True] * 3
    assert len(_lines(context, "rows", 1)) == 1 and _lines(context, "rows", 1)[0].not_run == ("0", "1")
    assert len(_lines(context, "noise")) == 10 and len(_lines(context, "points")) == 4
    assert _lines(context, "noise")[0].score == whole.score  # without noise it is the same point setting


@pytest.mark.slow
def test_collapsed_folds_are_left_out_and_counted_in_a_section_of_their_own(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, PLAIN, "0")
    write_fold(context, PLAIN, "1", "collapsed")
    _predict(context, "propagated", "0", 100, row=1)
    (line,) = _lines(context, "rows", 1)
    assert line.score is not None
    assert (line.folds, line.collapsed, line.score.dice) == (("0",), ("1",), 1.0)
    assert _lines(context, "collapsed", 1)[0].score is None  # the fold's lesions are not known yet
    write_fold(context, HEADLINE, "1")
    _predict(context, "propagated", "1", 50)
    (counted,) = _lines(context, "collapsed", 1)
    assert counted.score is not None
    assert (counted.score.dice, counted.score.fn_voxels) == (0.5, 50.0)
    text = table_markdown(Table(tuple(_results(context).lines())))
    assert "## Rows with collapsed folds" in text and "0 (1 collapsed)" in text


def test_empty_predictions_miss_every_lesion_and_find_the_vanished() -> None:
    present, vanished, drawn = record("p"), record("p", 2, reference=0), record("p", 3, reference=0)
    empty = empty_predictions([present, vanished, replace(drawn, existed=False)])
    assert [r.lesion for r in empty] == ["1", "2"]
    assert [(r.prediction_voxels, r.fn_voxels, r.fp_voxels, r.nsd_2mm) for r in empty] == [
        (0, 100, 0, None),
        (0, 0, 0, None),
    ]


def test_the_ensemble_is_shown_with_its_folds(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, HEADLINE, "0")
    write_fold(context, HEADLINE, "1")
    write_fold(context, HEADLINE, "2", "collapsed")
    for folds in (("0",), ("0", "1")):
        write_predictions(context, PredictStep(HEADLINE, folds, "test", MAIN_SETTINGS[:1]))
    lines = [line for line in _lines(context, "ensemble") if line.setting == "propagated"]
    assert [line.title for line in lines] == ["Fold 0", "Fold 1", "Fold 2", "Ensemble of 2"]
    assert [line.score is not None for line in lines] == [True, False, False, True]
    assert lines[1].not_run == ("1",) and lines[2].collapsed == ("2",)


def _predict_row(context: ComparisonContext, row: str, fold: str, common: int) -> None:
    """Of the fold's one lesion of 100 voxels so many are found: Dice 2 c / (100 + c)."""
    write_fold(context, BY_NAME[row], fold)
    write_predictions(context, held_out_step(BY_NAME[row], "propagated", fold), common)


def _paired(context: ComparisonContext, row: str, other: str) -> PairedLine:
    lines = _results(context).paired_lines()
    return next(line for line in lines if (line.row, line.other) == (row, other))


def test_a_paired_difference_is_that_of_the_same_lesions(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    for row, first, second in (("longitudinal", 100, 50), ("mask-and-point", 50, 60)):
        _predict_row(context, row, "0", first)
        _predict_row(context, row, "1", second)
    line = _paired(context, "longitudinal", "mask-and-point")
    assert line.folds == ("0", "1") and line.dice is not None
    assert line.dice.mean == pytest.approx(((1 - 2 / 3) + (2 / 3 - 3 / 4)) / 2)
    assert (line.better, line.worse, line.dice.lesions, line.dice.patients) == (1, 1, 2, 2)
    assert _paired(context, "longitudinal", "longitudinal-unit-volume").folds == ()


def test_folds_that_one_row_lacks_are_left_out_of_the_pair(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    _predict_row(context, "longitudinal", "0", 100)
    _predict_row(context, "longitudinal", "1", 0)
    _predict_row(context, "mask-and-point", "0", 50)
    write_fold(context, BY_NAME["mask-and-point"], "1", "collapsed")
    line = _paired(context, "longitudinal", "mask-and-point")
    assert line.folds == ("0",) and line.dice is not None
    assert line.dice.mean == pytest.approx(1 / 3) and line.dice.low is None  # no interval for one patient
    assert (line.better, line.worse) == (1, 0)


def test_each_row_of_a_pair_exists() -> None:
    assert {name for pair in PAIRED_ROWS for name in pair} <= BY_NAME.keys()
