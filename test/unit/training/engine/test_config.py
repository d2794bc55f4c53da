"""Settings: defaults, presets, overrides with clear errors."""

from __future__ import annotations

import pytest

from model.errors import InputError
from model.training.engine.config import (
    PRESETS,
    TrainingConfig,
    first_difference,
    from_plain,
    to_plain,
    with_overrides,
)


def test_overrides_have_the_type_of_their_setting() -> None:
    config = with_overrides(TrainingConfig(), ["epochs=3", "variant=point", "augment=no", "momentum=0.9"])
    assert (config.epochs, config.variant, config.augment, config.momentum) == (3, "point", False, 0.9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "epochs: is no setting; expected key=value"),
        ("epoch=3", "epoch: is an unknown setting"),
        ("epochs=3.5", "epochs: is '3.5'; expected a whole number"),
        ("epochs=0", "epochs: is 0; expected 1 or more"),
        ("momentum=much", "momentum: is 'much'; expected a number"),
        ("momentum=nan", "expected a finite number"),
        ("momentum=2", "momentum: is 2.0; expected 0 to 1"),
        ("augment=perhaps", "expected true or false"),
        ("variant=triple", "expected one of longitudinal, mask-and-point, point"),
        ("scaling_low=1.2", "expected a range round 1"),
        ("learning_rate=0", "expected both above 0"),
    ],
)
def test_wrong_overrides_are_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_overrides(TrainingConfig(), [text])


def test_one_key_twice_is_told() -> None:
    with pytest.raises(InputError, match="epochs: is given twice"):
        with_overrides(TrainingConfig(), ["epochs=3", "epochs=4"])


def test_presets_are_the_papers() -> None:
    assert (PRESETS["scratch"].learning_rate, PRESETS["finetuning"].learning_rate) == (1e-2, 1e-3)
    assert PRESETS["pretraining"].sampling == "pretraining"
    assert (PRESETS["scratch"].epochs, PRESETS["scratch"].iterations) == (1000, 250)


def test_plain_values_make_the_same_settings() -> None:
    config = TrainingConfig(variant="point", epochs=7)
    assert from_plain(to_plain(config)) == config


def test_what_only_changes_the_speed_makes_no_other_run() -> None:
    assert first_difference(TrainingConfig(), TrainingConfig(workers=7)) is None
    assert first_difference(TrainingConfig(), TrainingConfig(seed=7)) == "seed"


def test_health_rules_follow_the_length_of_the_run() -> None:
    assert (TrainingConfig().warmup_epochs, TrainingConfig().patience_epochs) == (50, 20)
    short = TrainingConfig(epochs=20)
    assert (short.warmup_epochs, short.patience_epochs) == (5, 3)
    assert TrainingConfig(epochs=20, iterations=30).warmup_epochs == 34  # 1000 steps, more than there are
    assert TrainingConfig(epochs=20, iterations=30, health_warmup=2).warmup_epochs == 2
