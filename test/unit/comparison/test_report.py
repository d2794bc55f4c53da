"""Markdown, CSV and noise curves of lines made by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from model.comparison.ledger import Ledger
from model.comparison.report import (
    Table,
    folds_text,
    noise_curves,
    paired_csv,
    table_csv,
    table_markdown,
    write_report,
)
from model.comparison.results import ResultLine, Results
from model.comparison.run_folders import refreshed
from model.comparison.variants import ALL_ROWS, HEADLINE, PAIRED_ROWS, ROWS
from model.crossval.scores import Score

from ...helpers.comparison_stand_ins import context_of, held_out_step, write_fold, write_predictions

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
LINE = ResultLine(
    "rows", HEADLINE.name, "Final", "propagated", ("0", "1", "2"), ("4",), ("3",), 120.2, 61.6, SCORE
)


def _cells(text: str, title: str) -> list[str]:
    """The cells of the first line of a Markdown table that begins with a title."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_line_has_the_columns_of_the_paper() -> None:
    text = table_markdown(Table((LINE,), ("# Title", "- a fact")))
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


def test_folds_that_were_not_run_or_collapsed_say_so() -> None:
    empty = replace(LINE, folds=(), not_run=("0",), collapsed=(), score=None, minutes=None)
    assert _cells(table_markdown(Table((empty,))), "Final")[1:3] == ["0 not run", "not run"]
    collapsed = replace(empty, not_run=(), collapsed=("0",))
    assert _cells(table_markdown(Table((collapsed,))), "Final")[1:3] == ["0 collapsed", "collapsed"]


def test_the_csv_has_every_number() -> None:
    empty = replace(LINE, folds=(), not_run=("0", "1"), collapsed=(), score=None, minutes=None)
    rows = list(csv.DictReader(io.StringIO(table_csv([LINE, empty]))))
    assert (rows[0]["dice"], rows[0]["dice_high"], rows[0]["folds"]) == ("0.63714", "", "0 1 2")
    assert (rows[0]["minutes"], rows[0]["failed"], rows[0]["collapsed"]) == ("61.6", "1", "3")
    assert (rows[1]["dice"], rows[1]["not_run"], rows[1]["lesions"]) == ("", "0 1", "")


@pytest.mark.slow
def test_files_and_curves(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, HEADLINE, "0")
    for name, common in (("propagated", 100), ("propagated-noise2", 50)):
        write_predictions(context, held_out_step(HEADLINE, name, "0"), common)
    table = Table(tuple(Results(context, refreshed(context, Ledger())).lines()))
    (points,) = noise_curves(table).values()
    assert points[0] == (0, 1.0)
    assert points[-1][0] == 2 and points[-1][1] == pytest.approx(2 / 3)
    write_report(table, tmp_path)
    assert (tmp_path / "table.md").read_text() == table_markdown(table)
    assert (tmp_path / "table.csv").read_text() == table_csv(table.lines)


def test_paired_rows_have_a_table_and_a_csv(tmp_path: Path) -> None:
    context, rows = context_of(tmp_path), {row.name: row for row in ROWS}
    for name, common in (("longitudinal", 100), ("mask-and-point", 50)):
        write_fold(context, rows[name], "0")
        write_predictions(context, held_out_step(rows[name], "propagated", "0"), common)
    table = Table((), (), tuple(Results(context, refreshed(context, Ledger())).paired_lines()))
    write_report(table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert text == table_markdown(table) and "## Rows against each other" in text
    (line,) = (line for line in text.splitlines() if "+33.33" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][:6] == [
        "Longitudinal + Mask + Point",
        "Cross Sectional + Mask",
        "0",
        "+33.33",
        "–",
        "1, 0",
    ]
    assert text.split("## Rows less")[0].count("not run") == len(PAIRED_ROWS) - 1
    lines = list(csv.DictReader(io.StringIO((tmp_path / "paired.csv").read_text())))[: len(PAIRED_ROWS)]
    assert (tmp_path / "paired.csv").read_text() == paired_csv(table.paired)
    assert [(line["row"], line["other"]) for line in lines] == list(PAIRED_ROWS)
    (known,) = (line for line in lines if line["dice_mean"])
    assert float(known["dice_mean"]) == pytest.approx(1 / 3) and known["folds"] == "0"
    assert list(lines[0])[4:10] == ["question", "folds", "better", "worse", "p_patients", "dice_mean"]


def test_rows_are_shown_beside_each_floor(tmp_path: Path) -> None:
    """The network finds 100 of 100 voxels, the pasted mask 50 (Dice 2/3), the grown region 25 (0.4)."""
    context, rows = context_of(tmp_path), {row.name: row for row in ALL_ROWS}
    write_fold(context, rows["longitudinal"], "0")
    for name, common in (("longitudinal", 100), ("floor-pasted", 50), ("floor-grown", 25)):
        write_predictions(context, held_out_step(rows[name], "propagated", "0"), common)
    results = Results(context, refreshed(context, Ledger()))
    text = table_markdown(Table(tuple(results.lines()), (), tuple(results.paired_lines())))
    less = text.split("## Rows less the floor")[1]
    assert _cells(less, "Longitudinal + Mask + Point")[2:] == ["+33.33", "–", "+60.00"]
    changes = text.split("## What happened to lesions")[1]
    assert _cells(changes, "Floor: baseline mask pasted at the point")[4:6] == ["0 of 0", "1 of 1"]
    floor = _cells(text, "Floor: region growing at the point")
    assert floor[1] == "0 (1, 2 not run)" and floor[2] == "40.00" and floor[-1] == "–"


def test_the_csv_keeps_its_columns() -> None:
    header = table_csv([]).splitlines()[0].split(",")
    assert header[:9] == [
        "section",
        "row",
        "title",
        "question",
        "folds",
        "not_run",
        "collapsed",
        "pretraining_minutes",
        "minutes",
    ]
