"""What the run folders say."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import InputError
from model.training.table.ledger import Ledger
from model.training.table.record import renewed
from model.training.table.rows import HEADLINE, ROWS
from model.training.table.steps import MAIN_QUESTIONS, AskStep, answer_folders
from model.training.table.survey import is_answered, training_of

from .stand_ins import MINUTES_OF_EPOCH, record, site, write_answers, write_fold, write_stage

PLAIN = ROWS[1]


def test_a_fold_trained_by_any_command_is_finished(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, PLAIN, "0")
    found = training_of(where.layout, PLAIN, "0", where.stages[PLAIN.name])
    assert (found.state, found.epochs, found.of_epochs) == ("finished", 4, 4)
    assert found.minutes == pytest.approx(4 * MINUTES_OF_EPOCH)
    assert training_of(where.layout, PLAIN, "1", where.stages[PLAIN.name]).state == "not run"


def test_pretraining_counts_as_well(tmp_path: Path) -> None:
    where = site(tmp_path)
    stages = where.stages[HEADLINE.name]
    write_fold(where, HEADLINE, "0", "begun", 0)
    found = training_of(where.layout, HEADLINE, "0", stages)
    assert (found.state, found.epochs, found.of_epochs) == ("begun", 2, 6)
    assert found.pretraining_minutes == pytest.approx(2 * MINUTES_OF_EPOCH)
    assert not found.shares_pretraining


def test_a_shared_pretraining_is_found(tmp_path: Path) -> None:
    where = site(tmp_path)
    stages = where.stages[HEADLINE.name]
    assert stages.pretraining is not None
    write_stage(where.layout.run(HEADLINE.name) / "pretraining/fold_shared", stages.pretraining, 2)
    assert training_of(where.layout, HEADLINE, "1", stages).shares_pretraining


def test_a_collapsed_fold_is_told_with_its_reason(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, PLAIN, "0", "collapsed", 3)
    found = training_of(where.layout, PLAIN, "0", where.stages[PLAIN.name])
    assert (found.state, found.reason, found.epochs) == ("collapsed", "all background", 3)


def test_a_collapsed_pretraining_is_told(tmp_path: Path) -> None:
    where = site(tmp_path)
    stages = where.stages[HEADLINE.name]
    assert stages.pretraining is not None
    write_stage(where.layout.run(HEADLINE.name) / "pretraining/fold_0", stages.pretraining, 1, "collapsed")
    found = training_of(where.layout, HEADLINE, "0", stages)
    assert (found.state, found.reason) == ("collapsed", "in pretraining: all background")


def test_other_settings_are_refused_but_not_those_that_change_nothing(tmp_path: Path) -> None:
    where = site(tmp_path)
    config = where.stages[PLAIN.name].config
    folder = where.layout.final(PLAIN.name, "0").parent
    write_stage(folder, replace(config, workers=7), 4)
    assert renewed(where, Ledger()).training(PLAIN.name, "0").state == "finished"
    write_stage(folder, replace(config, learning_rate=0.5), 4)
    with pytest.raises(InputError, match=r"config.json: was trained with learning_rate=0.5, not 0.01; expec"):
        renewed(where, Ledger())


def test_a_pretrained_row_needs_its_pretraining(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_stage(where.layout.final(HEADLINE.name, "0").parent, where.stages[HEADLINE.name].config, 4)
    with pytest.raises(InputError, match="was finished without a pretraining"):
        renewed(where, Ledger())


def test_a_torn_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, PLAIN, "0", "begun", 2)
    log = where.layout.final(PLAIN.name, "0").parent / "log.csv"
    log.write_text(log.read_text() + "1,50,10\n2,8")
    found = training_of(where.layout, PLAIN, "0", where.stages[PLAIN.name])
    assert (found.state, found.epochs) == ("begun", 2)
    assert found.minutes == pytest.approx(MINUTES_OF_EPOCH + 1)


def test_answers_of_older_weights_are_no_answers(tmp_path: Path) -> None:
    where, step = site(tmp_path), AskStep(PLAIN, "0", MAIN_QUESTIONS)
    write_fold(where, PLAIN, "0")
    assert not is_answered(step, where.layout)
    for _, folder in answer_folders(step, where.layout):
        write_answers(folder, [record("p")])
    assert is_answered(step, where.layout)
    answer = renewed(where, Ledger()).answer(PLAIN.name, "held-out", "given", ("0",))
    assert answer is not None and answer.score is not None
    assert answer.score.dice == pytest.approx(2 / 3)
    later = os.stat(folder / "lesions.csv").st_mtime_ns + 10**9
    os.utime(where.layout.final(PLAIN.name, "0"), ns=(later, later))
    assert not is_answered(step, where.layout)
    assert renewed(where, Ledger()).answer(PLAIN.name, "held-out", "given", ("0",)).state == "begun"
