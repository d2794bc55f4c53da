"""Settings: defaults, presets, overrides with clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.errors import InputError, WeightsError
from model.training.config import (
    PRESETS,
    TrainingConfig,
    first_difference,
    from_plain,
    setting_lines,
    to_plain,
    with_overrides,
    with_plan_defaults,
)

from ...helpers.training_phantoms import plan, write_plan


def test_overrides_have_the_type_of_their_setting() -> None:
    config = with_overrides(TrainingConfig(), ["epochs=3", "variant=point", "augment=no", "momentum=0.9"])
    assert (config.epochs, config.variant, config.augment, config.momentum) == (3, "point", False, 0.9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "epochs: is not a setting; expected key=value"),
        ("epoch=3", "epoch: is an unknown setting"),
        ("epochs=3.5", "epochs: is '3.5'; expected a whole number"),
        ("epochs=0", "epochs: is 0; expected 1 or more"),
        ("momentum=much", "momentum: is 'much'; expected a number"),
        ("momentum=nan", "expected a finite number"),
        ("momentum=2", "momentum: is 2.0; expected 0 to 1"),
        ("augment=perhaps", "expected true or false"),
        ("batch_dice=perhaps", "batch_dice: is 'perhaps'; expected auto, or true or false"),
        ("batch_size=-1", "batch_size: is -1; expected 0 or more"),
        ("variant=triple", "expected one of longitudinal, mask-and-point, point"),
        ("scaling_low=1.2", "expected a range around 1"),
        ("learning_rate=0", "expected both above 0"),
    ],
)
def test_invalid_overrides_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_overrides(TrainingConfig(), [text])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="epochs: is given twice"):
        with_overrides(TrainingConfig(), ["epochs=3", "epochs=4"])


@pytest.mark.parametrize("variant", ["early-fusion", "difference-weighting"])
def test_a_variant_brings_its_published_sampling_unless_that_is_set_too(variant: str) -> None:
    config = with_overrides(PRESETS["pretraining"], [f"variant={variant}"])
    assert (config.drawn_points, config.shift_voxels, config.sampling) == (True, 0, "pretraining")
    config = with_overrides(TrainingConfig(), ["shift_voxels=3", f"variant={variant}", "drawn_points=no"])
    assert (config.drawn_points, config.shift_voxels) == (False, 3)
    other = with_overrides(TrainingConfig(), ["variant=point"])
    assert (other.drawn_points, other.shift_voxels) == (False, 4)


def test_presets_are_the_published_ones() -> None:
    assert (PRESETS["scratch"].learning_rate, PRESETS["finetuning"].learning_rate) == (1e-2, 1e-3)
    assert PRESETS["pretraining"].sampling == "pretraining"
    assert (PRESETS["scratch"].epochs, PRESETS["scratch"].iterations) == (1000, 250)


def test_defaults_are_the_published_ones() -> None:
    """The values of [Kirchhoff2025] and its published code."""
    expected = {
        "variant": "longitudinal",
        "heat_map": "unit-peak",
        "draw": "patients",
        "sampling": "pairs",
        "propagated_fraction": 0.5,
        "shift_voxels": 4,
        "drawn_points": False,
        "reverse_pairs": False,
        "epochs": 1000,
        "iterations": 250,
        "validation_iterations": 50,
        "checkpoint_every": 50,
        "learning_rate": 1e-2,
        "poly_exponent": 0.9,
        "momentum": 0.99,
        "weight_decay": 3e-5,
        "gradient_clip": 12.0,
        "dice_smooth": 1e-5,
        "deep_supervision": True,
        "ema_momentum": 0.9,
        "batch_size": 0,
        "batch_dice": "auto",
        "precision": "auto",
        "initial_heads": False,
        "augment": True,
        "mirror": True,
        "intensity": True,
        "rotation_probability": 0.2,
        "rotation_degrees": 30.0,
        "scaling_probability": 0.2,
        "scaling_low": 0.7,
        "scaling_high": 1.4,
    }
    for preset, own in (
        ("scratch", {}),
        ("pretraining", {"sampling": "pretraining"}),
        ("finetuning", {"learning_rate": 1e-3}),
    ):
        values = to_plain(PRESETS[preset])
        assert {name: values[name] for name in expected} == expected | own
    assert TrainingConfig() == PRESETS["scratch"]


def test_settings_survive_conversion_to_plain_values() -> None:
    config = TrainingConfig(variant="point", epochs=7)
    assert from_plain(to_plain(config)) == config


def test_settings_that_only_affect_speed_do_not_make_another_run() -> None:
    assert first_difference(TrainingConfig(), TrainingConfig(workers=7)) is None
    assert first_difference(TrainingConfig(), TrainingConfig(seed=7)) == "seed"


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("true", True), ("no", False)])
def test_batch_dice_is_auto_or_a_truth_value(text: str, value: object) -> None:
    assert with_overrides(TrainingConfig(), [f"batch_dice={text}"]).batch_dice == value


def _plan(folder: Path, **changes: object) -> Path:
    path = write_plan(folder, plan())
    document = json.loads(path.read_text())
    document["configurations"]["3d_fullres"] |= changes
    document["configurations"]["large"] = {"inherits_from": "3d_fullres", "batch_size": 24}
    path.write_text(json.dumps(document))
    return path


def test_missing_batch_settings_are_taken_from_the_plan(tmp_path: Path) -> None:
    path = _plan(tmp_path, batch_size=5, batch_dice=False)
    config = TrainingConfig(epochs=7)
    filled = with_plan_defaults(config, path, "3d_fullres")
    assert (filled.batch_size, filled.batch_dice, filled.epochs) == (5, False, 7)
    assert not config.is_complete and filled.is_complete
    large = with_plan_defaults(config, path, "large")
    assert (large.batch_size, large.batch_dice) == (24, False)
    own = with_plan_defaults(TrainingConfig(batch_size=4, batch_dice="auto"), path, "3d_fullres")
    assert (own.batch_size, own.batch_dice) == (4, False)
    assert with_plan_defaults(TrainingConfig(batch_dice=True), path, "3d_fullres").batch_dice is True
    whole = TrainingConfig(batch_size=4, batch_dice=True)
    assert with_plan_defaults(whole, tmp_path / "gone.json", "3d_fullres") == whole


def test_a_plan_without_batch_size_is_refused(tmp_path: Path) -> None:
    path = _plan(tmp_path, batch_size=0)
    with pytest.raises(WeightsError, match=r"plans\.json: batch_size: .*; expected a plan"):
        with_plan_defaults(TrainingConfig(), path, "3d_fullres")


def test_settings_left_to_the_plan_do_not_make_another_run() -> None:
    one = TrainingConfig(batch_size=4, batch_dice=False)
    assert first_difference(one, TrainingConfig()) is None
    assert first_difference(TrainingConfig(), one) is None
    assert first_difference(one, TrainingConfig(batch_size=5, batch_dice=False)) == "batch_size"
    assert first_difference(one, TrainingConfig(batch_size=4, batch_dice=True)) == "batch_dice"


def test_settings_are_listed_as_they_are_passed() -> None:
    lines = dict(line.split("=", 1) for line in setting_lines(TrainingConfig()))
    assert (lines["batch_size"], lines["batch_dice"]) == ("0  # the plan's", "auto  # the plan's")
    assert (lines["augment"], lines["epochs"]) == ("true", "1000")
    given = TrainingConfig(batch_size=3, batch_dice=False)
    assert not any("#" in line for line in setting_lines(given))
    assert with_overrides(TrainingConfig(), setting_lines(given)) == given


def test_health_rules_follow_the_length_of_the_run() -> None:
    assert (TrainingConfig().warmup_epochs, TrainingConfig().patience_epochs) == (50, 20)
    short = TrainingConfig(epochs=20)
    assert (short.warmup_epochs, short.patience_epochs) == (5, 3)
    assert TrainingConfig(epochs=20, iterations=30).warmup_epochs == 34  # 1000 steps, longer than the run
    assert TrainingConfig(epochs=20, iterations=30, health_warmup=2).warmup_epochs == 2
