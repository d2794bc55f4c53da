"""The rows and the settings of their runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.comparison.variants import HEADLINE, ROWS, Row, row_configs
from model.errors import InputError
from model.training.config import TrainingConfig, first_difference


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_settings_of_a_row_are_settings(row: Row) -> None:
    configs = row_configs(row)
    assert isinstance(configs.training, TrainingConfig)
    training = configs.training
    assert (training.epochs, training.iterations, training.batch_size) == (15, 100, 2)
    assert (training.precision, training.workers, training.sampling) == ("bf16", 1, "pairs")
    assert training.checkpoint_every == 1
    assert (configs.pretraining is not None) == row.is_pretrained
    if configs.pretraining is not None:
        assert (configs.pretraining.epochs, configs.pretraining.sampling) == (15, "pretraining")
        assert configs.pretraining.reverse_pairs and not configs.training.reverse_pairs
        assert configs.pretraining.variant == configs.training.variant
        assert configs.training.learning_rate < configs.pretraining.learning_rate


def test_rows_differ_in_one_respect() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    longitudinal = row_configs(_row("longitudinal")).training
    other = row_configs(_row("longitudinal-unit-volume")).training
    assert (longitudinal.heat_map, other.heat_map) == ("unit-peak", "unit-volume")
    assert first_difference(longitudinal, other) == "heat_map"
    assert row_configs(_row("point")).training.variant == "point"
    assert row_configs(_row("mask-and-point-pretrained")).training.variant == "mask-and-point"
    early, weighted = (
        row_configs(_row(f"{name}-pretrained")) for name in ("early-fusion", "difference-weighting")
    )
    for one, another in ((early.training, weighted.training), (early.pretraining, weighted.pretraining)):
        assert one is not None and another is not None
        assert replace(one, variant="difference-weighting") == another and one.variant == "early-fusion"
        assert one.drawn_points and one.shift_voxels == 0  # as published, not as the preset


def test_overrides_apply_to_all_rows_and_pretrain_ones_to_pretraining() -> None:
    overrides = ("epochs=3", "seed=5", "pretrain.epochs=7", "learning_rate=0.5")
    configs = row_configs(HEADLINE, overrides)
    assert configs.pretraining is not None
    assert (configs.training.epochs, configs.pretraining.epochs) == (3, 7)
    assert (configs.training.seed, configs.pretraining.seed) == (5, 5)
    assert (configs.training.learning_rate, configs.pretraining.learning_rate) == (0.5, 0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant=point", "variant: is set by the rows; expected another setting"),
        ("pretrain.heat_map=unit-peak", "heat_map: is set by the rows"),
        ("epoch=3", "epoch: is an unknown setting"),
        ("pretrain.epoch=3", "epoch: is an unknown setting"),
    ],
)
def test_wrong_settings_fail_for_every_row(text: str, message: str) -> None:
    for row in ROWS:
        with pytest.raises(InputError, match=message):
            row_configs(row, (text,))


def test_folds() -> None:
    assert HEADLINE.fold_names(5) == ("0", "1", "2", "3", "4")
    assert all(row.fold_names(5) == ("0", "1") for row in ROWS if row is not HEADLINE)
    assert ROWS[1].fold_names(1) == ("0",)
