"""What the run folders say."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from model.comparison import steps
from model.comparison.finished import training_of
from model.comparison.ledger import Ledger, PredictionEntry
from model.comparison.progress import ComparisonContext, renewed
from model.comparison.steps import MAIN_QUESTIONS, EvaluationPairs
from model.comparison.variants import HEADLINE, ROWS
from model.crossval.pairs import EvaluationPair
from model.errors import InputError
from model.evaluation.records import RECORDS_NAME

from ...helpers.comparison_stand_ins import (
    MINUTES_OF_EPOCH,
    asking,
    site,
    write_answers,
    write_fold,
    write_stage,
)

PLAIN = ROWS[1]
TESTING = steps.TestStep(HEADLINE, ("0",), MAIN_QUESTIONS)


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
    with pytest.raises(InputError, match="was finished, but its pretraining in .* is not"):
        renewed(where, Ledger())


def test_a_torn_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, PLAIN, "0", "begun", 2)
    log = where.layout.final(PLAIN.name, "0").parent / "log.csv"
    log.write_text(log.read_text() + "1,50,10\n2,8")
    found = training_of(where.layout, PLAIN, "0", where.stages[PLAIN.name])
    assert (found.state, found.epochs) == ("begun", 2)
    assert found.minutes == pytest.approx(MINUTES_OF_EPOCH + 1)


def _answer(where: ComparisonContext) -> PredictionEntry:
    answer = renewed(where, Ledger()).answer(PLAIN.name, "held-out", "given", ("0",))
    assert answer is not None
    return answer


def _with_test(where: ComparisonContext, pairs: tuple[EvaluationPair, ...] | None) -> ComparisonContext:
    return replace(where, pairs=EvaluationPairs(where.pairs.held_out, pairs))


def _tested(where: ComparisonContext, folds: tuple[str, ...] = ("0",)) -> PredictionEntry | None:
    return renewed(where, Ledger()).answer(HEADLINE.name, "test", "given", folds)


@pytest.fixture
def answered(tmp_path: Path) -> ComparisonContext:
    """Fold 0 of a row, which was asked and not scored."""
    where = site(tmp_path)
    write_fold(where, PLAIN, "0")
    assert _answer(where).state == "not run"
    write_answers(where, asking(PLAIN, "given", "0"))
    return where


def test_answers_that_are_all_there_are_scored(answered: ComparisonContext) -> None:
    """Also where the budget, or a signal, came between the last answer and the score."""
    records = answered.layout.held_out(PLAIN.name, "given", "0") / RECORDS_NAME
    assert not records.exists()
    answer = _answer(answered)
    assert (answer.state, answer.score.dice) == ("finished", pytest.approx(2 / 3))
    written = records.stat().st_mtime_ns
    assert _answer(answered).score == answer.score and records.stat().st_mtime_ns == written


def test_answers_are_those_of_the_weights_by_their_content(answered: ComparisonContext) -> None:
    final = answered.layout.final(PLAIN.name, "0")
    before = final.stat()
    os.utime(final, ns=(before.st_mtime_ns + 10**12,) * 2)  # copied
    assert _answer(answered).state == "finished"
    final.write_bytes(b"trained anew, and older than the answers")
    os.utime(final, ns=(before.st_mtime_ns,) * 2)
    assert _answer(answered).state == "not run"


def test_answers_are_those_about_the_files_as_they_are(answered: ComparisonContext) -> None:
    ((pair,), *_) = answered.pairs.held_out
    labels = pair.followup.labels
    assert labels is not None
    before = labels.read_bytes()
    labels.write_bytes(b"a corrected labelmap")
    assert _answer(answered).state == "begun"
    labels.write_bytes(before)
    os.utime(labels, ns=(1, 1))
    assert _answer(answered).state == "finished"
    for path in pair.files:
        path.unlink()  # nobody can tell
    assert _answer(answered).state == "finished"


def test_answers_are_those_to_the_points_as_they_are(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, HEADLINE, "0")
    write_answers(where, TESTING)
    assert _tested(where).state == "finished"
    assert _tested(_with_test(where, None)).state == "finished"  # nobody says that they are others
    (pair,) = where.pairs.test or ()
    moved = replace(pair.lesions[0], followup_point_xyz=(4.0, 4.0, 4.0))
    assert _tested(_with_test(where, (replace(pair, lesions=(moved,)),))).state == "begun"
    more = _with_test(where, (pair, replace(pair, name="another")))
    assert _tested(more).state == "begun"


def test_a_smaller_ensemble_is_another(tmp_path: Path) -> None:
    where, folds = site(tmp_path), ("0", "1", "2")
    for fold in folds:
        write_fold(where, HEADLINE, fold)
    write_answers(where, steps.TestStep(HEADLINE, folds, MAIN_QUESTIONS))
    write_fold(where, HEADLINE, "1", "collapsed")
    where.layout.final(HEADLINE.name, "1").unlink()
    assert _tested(where, folds) is None and _tested(where, ("0", "2")).state == "not run"
    write_answers(where, steps.TestStep(HEADLINE, ("0", "2"), MAIN_QUESTIONS))
    write_fold(where, HEADLINE, "1")
    (where.layout.final(HEADLINE.name, "1").parent / "health.json").unlink()
    assert _tested(where, folds).state == "finished"
    where.layout.final(HEADLINE.name, "1").write_bytes(b"trained anew")
    assert _tested(where, folds).state == "not run"


def test_lesions_without_an_answer_are_told(tmp_path: Path) -> None:
    where = site(tmp_path)
    write_fold(where, PLAIN, "0")
    write_answers(where, asking(PLAIN, "given", "0"), failed={1: "out of luck"})
    assert (_answer(where).state, _answer(where).failed) == ("finished", ("p0-1: lesion 1: out of luck",))
