"""Rules by which a fold counts as collapsed."""

from __future__ import annotations

import math

from model.training.health import HealthCheck

from ...helpers.training_phantoms import config


def test_collapse_rules() -> None:
    check = HealthCheck(config(epochs=100, health_warmup=2, health_patience=2))
    assert [check.epoch(n, 0.0, 0, 9).is_sound for n in range(3)] == [True, True, True]
    assert check.epoch(3, 0.5, 9, 9).misses == 0
    assert check.epoch(4, math.nan, 5, 0).misses == 0  # no lesion in the validation
    check.epoch(5, 0.001, 5, 9)
    verdict = check.epoch(6, 0.001, 5, 9)
    assert verdict.reason == "validation was Dice below 0.01 for 2 epochs in a row, up to epoch 6"
    assert not check.end(9, 0.001).is_sound and check.end(9, 0.2).is_sound
    assert check.end(1, 0.001).is_sound  # within the warm-up


def test_a_gradient_scaler_may_skip_a_few_steps_with_a_loss_that_is_not_finite() -> None:
    check = HealthCheck(config())
    assert all(check.loss(0, n, math.inf, is_scaled=True).is_sound for n in range(10))
    assert not check.loss(0, 10, math.nan, is_scaled=True).is_sound
    assert check.loss(0, 11, 0.5, is_scaled=True).is_sound
    assert check.loss(0, 12, math.nan, is_scaled=True).is_sound
    assert not check.loss(0, 13, math.nan).is_sound
