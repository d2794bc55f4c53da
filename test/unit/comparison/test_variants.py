"""The rows and the settings of their runs."""

from __future__ import annotations

import pytest

from model.comparison.variants import HEADLINE, ROW_NAMES, ROWS, TWO_CORES, Row, folds_of, stages_of
from model.errors import InputError
from model.training.config import TrainingConfig, first_difference


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


@pytest.mark.parametrize("row", ROWS, ids=ROW_NAMES)
def test_settings_of_a_row_are_settings(row: Row) -> None:
    stages = stages_of(row, TWO_CORES)
    assert isinstance(stages.config, TrainingConfig)
    assert (stages.config.epochs, stages.config.iterations, stages.config.batch_size) == (15, 100, 2)
    assert (stages.config.precision, stages.config.workers, stages.config.sampling) == ("bf16", 1, "pairs")
    assert stages.config.checkpoint_every == 1
    assert (stages.pretraining is not None) == row.is_pretrained
    if stages.pretraining is not None:
        assert (stages.pretraining.epochs, stages.pretraining.sampling) == (15, "pretraining")
        assert stages.pretraining.reverse_pairs and not stages.config.reverse_pairs
        assert stages.pretraining.variant == stages.config.variant
        assert stages.config.learning_rate < stages.pretraining.learning_rate


def test_rows_differ_in_what_they_are_about_alone() -> None:
    assert len(set(ROW_NAMES)) == len(ROWS)
    longitudinal = stages_of(_row("longitudinal"), TWO_CORES).config
    other = stages_of(_row("longitudinal-unit-volume"), TWO_CORES).config
    assert (longitudinal.heat_map, other.heat_map) == ("unit-peak", "unit-volume")
    assert first_difference(longitudinal, other) == "heat_map"
    assert stages_of(_row("point"), TWO_CORES).config.variant == "point"
    assert stages_of(_row("mask-and-point-pretrained"), TWO_CORES).config.variant == "mask-and-point"


def test_overrides_hold_for_all_rows_and_pretrain_for_their_first_stage() -> None:
    overrides = ("epochs=3", "seed=5", "pretrain.epochs=7", "learning_rate=0.5")
    stages = stages_of(HEADLINE, TWO_CORES, overrides)
    assert stages.pretraining is not None
    assert (stages.config.epochs, stages.pretraining.epochs) == (3, 7)
    assert (stages.config.seed, stages.pretraining.seed) == (5, 5)
    assert (stages.config.learning_rate, stages.pretraining.learning_rate) == (0.5, 0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant=point", "variant: is what the rows differ by; expected another setting"),
        ("pretrain.heat_map=unit-peak", "heat_map: is what the rows differ by"),
        ("epoch=3", "epoch: is an unknown setting"),
        ("pretrain.epoch=3", "epoch: is an unknown setting"),
    ],
)
def test_wrong_settings_are_told_for_every_row(text: str, message: str) -> None:
    for row in ROWS:
        with pytest.raises(InputError, match=message):
            stages_of(row, TWO_CORES, (text,))


def test_folds() -> None:
    assert folds_of(HEADLINE, 5) == ("0", "1", "2", "3", "4")
    assert all(folds_of(row, 5) == ("0", "1") for row in ROWS if row is not HEADLINE)
    assert folds_of(ROWS[1], 1) == ("0",)
