"""Ledger entries read from run folders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from model.comparison.inputs import ComparisonContext
from model.comparison.ledger import Ledger, PredictionEntry, TrainingEntry
from model.comparison.run_folders import refreshed, training_entry
from model.comparison.steps import MAIN_SETTINGS, PredictStep
from model.comparison.variants import HEADLINE, ROWS
from model.errors import InputError
from model.evaluation.records import RECORDS_NAME

from ...helpers.comparison_stand_ins import (
    MINUTES_PER_EPOCH,
    context_of,
    held_out_step,
    write_fold,
    write_predictions,
    write_stage,
)

PLAIN = ROWS[1]
GIVEN = held_out_step(PLAIN, "given", "0")
TESTING = PredictStep(HEADLINE, ("0",), "test", MAIN_SETTINGS)


def test_a_fold_trained_by_any_command_is_finished(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, PLAIN, "0")
    entry = training_entry(context, PLAIN, "0")
    assert (entry.state, entry.epochs, entry.of_epochs) == ("finished", 4, 4)
    assert entry.minutes == pytest.approx(4 * MINUTES_PER_EPOCH)
    assert training_entry(context, PLAIN, "1").state == "not run"


def test_pretraining_counts_as_well(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, HEADLINE, "0", "begun", 0)
    entry = training_entry(context, HEADLINE, "0")
    assert (entry.state, entry.epochs, entry.of_epochs) == ("begun", 2, 6)
    assert entry.pretraining_minutes == pytest.approx(2 * MINUTES_PER_EPOCH)
    assert not entry.shares_pretraining


def _write_pretraining(context: ComparisonContext, folder: str, epochs: int, state: str = "finished") -> None:
    config = context.configs[HEADLINE.name].pretraining
    assert config is not None
    write_stage(context.folder.model(HEADLINE) / "pretraining" / folder, config, epochs, state)


def test_a_shared_pretraining_is_recognised(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    _write_pretraining(context, "fold_shared", 2)
    assert training_entry(context, HEADLINE, "1").shares_pretraining


def test_a_collapsed_fold_has_its_reason(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, PLAIN, "0", "collapsed", 3)
    entry = training_entry(context, PLAIN, "0")
    assert (entry.state, entry.reason, entry.epochs) == ("collapsed", "all background", 3)


def test_a_collapsed_pretraining_has_its_reason(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    _write_pretraining(context, "fold_0", 1, "collapsed")
    entry = training_entry(context, HEADLINE, "0")
    assert (entry.state, entry.reason) == ("collapsed", "in pretraining: all background")


def test_other_settings_are_refused_but_not_those_that_change_nothing(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    config, folder = context.configs[PLAIN.name].training, context.folder.final(PLAIN, "0").parent
    write_stage(folder, replace(config, workers=7), 4)
    assert refreshed(context, Ledger()).training(PLAIN, "0").state == "finished"
    write_stage(folder, replace(config, learning_rate=0.5), 4)
    with pytest.raises(InputError, match=r"config.json: was trained with learning_rate=0.5, not 0.01; expec"):
        refreshed(context, Ledger())


def test_a_pretrained_row_needs_its_pretraining(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_stage(context.folder.final(HEADLINE, "0").parent, context.configs[HEADLINE.name].training, 4)
    with pytest.raises(InputError, match="is finished, but its pretraining in .* is not"):
        refreshed(context, Ledger())


def test_a_torn_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, PLAIN, "0", "begun", 2)
    log = context.folder.final(PLAIN, "0").parent / "log.csv"
    header, *lines = log.read_text().splitlines()
    repeated = lines[1].replace("80.0", "50.0")
    log.write_text("\n".join((header, *lines, repeated, "2,8")))
    entry = training_entry(context, PLAIN, "0")
    assert (entry.state, entry.epochs) == ("begun", 2)
    assert entry.minutes == pytest.approx(2 * MINUTES_PER_EPOCH - 0.5)


def test_trainings_are_read_again_after_each_step(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    before = refreshed(context, Ledger())
    write_fold(context, PLAIN, "0")
    write_fold(context, PLAIN, "1", "begun", 1)
    after = refreshed(context, before, GIVEN, 3.0)
    states = [after.training(PLAIN, fold).state for fold in "01"]
    assert states == ["finished", "begun"] and after.training(HEADLINE, "0") == TrainingEntry(
        row=HEADLINE.name, fold="0", of_epochs=6
    )
    assert [entry.minutes for entry in after.predictions if entry.minutes] == [3.0]


def _entry(context: ComparisonContext) -> PredictionEntry:
    (entry,) = GIVEN.entries(refreshed(context, Ledger()))
    return entry


def _test_entry(context: ComparisonContext, folds: tuple[str, ...] = ("0",)) -> PredictionEntry:
    return refreshed(context, Ledger()).prediction(HEADLINE, "test", "given", folds)


@pytest.fixture
def predicted(tmp_path: Path) -> ComparisonContext:
    """Fold 0 of a row, with predictions that are not scored yet."""
    context = context_of(tmp_path)
    write_fold(context, PLAIN, "0")
    assert _entry(context).state == "not run"
    write_predictions(context, GIVEN)
    return context


def test_complete_predictions_are_scored_once(predicted: ComparisonContext) -> None:
    """Also if the budget, or a signal, came between the last prediction and the score."""
    records = predicted.folder.predictions(PLAIN, "held-out", "given", ("0",)) / RECORDS_NAME
    assert not records.exists()
    entry = _entry(predicted)
    assert entry.state == "finished" and entry.score is not None
    assert entry.score.dice == pytest.approx(2 / 3)
    written = records.stat().st_mtime_ns
    assert _entry(predicted).score == entry.score and records.stat().st_mtime_ns == written


def test_predictions_belong_to_the_content_of_the_weights(predicted: ComparisonContext) -> None:
    final = predicted.folder.final(PLAIN, "0")
    before = final.stat()
    os.utime(final, ns=(before.st_mtime_ns + 10**12,) * 2)  # copied
    assert _entry(predicted).state == "finished"
    final.write_bytes(b"trained anew, and older than the predictions")
    os.utime(final, ns=(before.st_mtime_ns,) * 2)
    assert _entry(predicted).state == "not run"


def test_predictions_belong_to_the_present_files(predicted: ComparisonContext) -> None:
    ((pair,), *_) = predicted.held_out
    labels = pair.followup.labels
    assert labels is not None
    before = labels.read_bytes()
    labels.write_bytes(b"a corrected labelmap")
    assert _entry(predicted).state == "begun"
    labels.write_bytes(before)
    os.utime(labels, ns=(1, 1))
    assert _entry(predicted).state == "finished"
    for path in pair.files:
        path.unlink()  # missing files count as unchanged
    assert _entry(predicted).state == "finished"


def test_predictions_belong_to_the_present_points(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, HEADLINE, "0")
    write_predictions(context, TESTING)
    assert _test_entry(context).state == "finished"
    assert _test_entry(replace(context, tested=None)).state == "finished"  # nothing shows another test set
    (pair,) = context.tested or ()
    moved = replace(pair.lesions[0], followup_point_xyz=(4.0, 4.0, 4.0))
    assert _test_entry(replace(context, tested=(replace(pair, lesions=(moved,)),))).state == "begun"
    assert _test_entry(replace(context, tested=(pair, replace(pair, name="another")))).state == "begun"


def test_without_a_test_set_unscored_predictions_count_as_begun(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, HEADLINE, "0")
    write_predictions(context, TESTING)
    assert _test_entry(replace(context, tested=None)).state == "begun"


def test_an_ensemble_without_a_collapsed_fold_has_its_own_predictions(tmp_path: Path) -> None:
    context, folds = context_of(tmp_path), ("0", "1", "2")
    for fold in folds:
        write_fold(context, HEADLINE, fold)
    write_predictions(context, PredictStep(HEADLINE, folds, "test", MAIN_SETTINGS))
    write_fold(context, HEADLINE, "1", "collapsed")
    context.folder.final(HEADLINE, "1").unlink()
    assert all(entry.folds != folds for entry in refreshed(context, Ledger()).predictions)
    assert _test_entry(context, ("0", "2")).state == "not run"
    write_predictions(context, PredictStep(HEADLINE, ("0", "2"), "test", MAIN_SETTINGS))
    write_fold(context, HEADLINE, "1")
    (context.folder.final(HEADLINE, "1").parent / "health.json").unlink()
    assert _test_entry(context, folds).state == "finished"
    context.folder.final(HEADLINE, "1").write_bytes(b"trained anew")
    assert _test_entry(context, folds).state == "not run"


def test_lesions_without_a_prediction_are_listed(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    write_fold(context, PLAIN, "0")
    write_predictions(context, GIVEN, failed={1: "out of luck"})
    entry = _entry(context)
    assert (entry.state, entry.failed) == ("finished", ("p0-1: lesion 1: out of luck",))
