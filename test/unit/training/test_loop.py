"""Optimisation: learning, gradients, schedule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.training.config import TrainingConfig
from model.training.distributed import World
from model.training.health import HealthCheck
from model.training.loop import Trainer, run_epoch
from model.training.training_network import new_network, scales_of

from ...helpers.training_jobs import training_batches
from ...helpers.training_phantoms import config, plan

ALONE = World(0, 1, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [{"learning_rate": 0.01}, {"optimizer": "adamw", "learning_rate": 3e-3}]
)
def test_a_network_overfits_one_batch(optimizer: dict[str, Any]) -> None:
    settings = config(augment=False, iterations=1, epochs=1, momentum=0.99, **optimizer)
    batch = training_batches(settings)[0]
    trainer = Trainer(new_network(plan(), settings), settings, ALONE)
    dice = 0.0
    for _ in range(100):
        trainer.gradients(batch)
        trainer.update()
        with torch.no_grad():
            logits = scales_of(trainer.network(batch.channels))[0]
        predicted, target = logits[:, 1] > logits[:, 0], batch.target > 0
        dice = float(2 * (predicted & target).sum() / (predicted.sum() + target.sum()))
        if dice > 0.95:
            break
    assert target.any() and dice > 0.95


@pytest.mark.slow
def test_a_skipped_step_updates_no_weight_and_does_not_count_in_the_mean_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = config(epochs=1, iterations=2)
    trainer = Trainer(new_network(plan(features=4), settings), settings, ALONE)
    losses, updates = iter([math.inf, 0.5]), []
    monkeypatch.setattr(trainer.scaler, "is_enabled", lambda: True)
    monkeypatch.setattr(trainer, "gradients", lambda batch: next(losses))
    monkeypatch.setattr(trainer, "update", lambda: updates.append(1))
    record = run_epoch(trainer, iter(training_batches(settings)), settings, 0, HealthCheck(settings), None)
    assert record.training_loss == 0.5 and len(updates) == 1


def _gradient(weight: torch.Tensor) -> torch.Tensor:
    assert weight.grad is not None
    return weight.grad.clone()


@pytest.mark.slow
def test_gradients_accumulated_over_micro_batches_equal_those_of_the_batch() -> None:
    settings = config(batch_size=4, batch_dice=False)
    batch = training_batches(settings, (0, 1, 2, 3))[0]
    computed = []
    for micro in (0, 2, 1):
        trainer = Trainer(
            new_network(plan(features=4), settings), replace(settings, micro_batch=micro), ALONE
        )
        loss = trainer.gradients(batch)
        computed.append((loss, [_gradient(weight) for weight in trainer.network.parameters()]))
    for loss, gradients in computed[1:]:
        assert loss == pytest.approx(computed[0][0], abs=1e-5)
        for one, other in zip(computed[0][1], gradients, strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_the_learning_rate_follows_the_polynomial_schedule() -> None:
    settings = config(epochs=10)
    trainer = Trainer(new_network(plan(features=4), settings), settings, ALONE)
    rates = [trainer.set_epoch(epoch) for epoch in range(10)]
    assert rates == pytest.approx([0.01 * (1 - n / 10) ** 0.9 for n in range(10)])


def test_the_optimiser_is_the_published_one() -> None:
    settings = TrainingConfig(batch_size=2, batch_dice=True)
    optimizer = Trainer(new_network(plan(features=4), settings), settings, ALONE).optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    names = ("lr", "momentum", "nesterov", "weight_decay", "dampening")
    assert [group[name] for name in names] == [0.01, 0.99, True, 3e-5, 0]


def test_adamw_on_request() -> None:
    settings = config(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01)
    optimizer = Trainer(new_network(plan(features=4), settings), settings, ALONE).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [optimizer.param_groups[0][name] for name in ("lr", "weight_decay")] == [1e-3, 0.01]


@pytest.mark.parametrize(("size", "step"), [(500.0, 12.0), (13.0, 12.0), (5.0, 5.0)])
def test_gradient_norms_are_clipped_at_12(size: float, step: float) -> None:
    """The norm over all weights; smaller ones are left unchanged."""
    settings = config(learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    trainer = Trainer(new_network(plan(features=4), settings), settings, ALONE)
    weights = list(trainer.network.parameters())
    torch.manual_seed(0)
    gradients = [torch.randn_like(weight) for weight in weights]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    before = [weight.detach().clone() for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient * (size / norm)
    trainer.update()
    update = torch.cat([(old - new.detach()).flatten() for old, new in zip(before, weights, strict=True)])
    assert float(update.norm()) == pytest.approx(step, rel=1e-4)


def test_the_exported_weights_are_the_moving_average_of_the_trained_ones() -> None:
    settings = config(weight_average=0.75, learning_rate=0.05)
    batch = training_batches(settings)[0]
    trainer = Trainer(new_network(plan(features=4), settings), settings, ALONE)
    name = "encoder.stem.convs.0.conv.weight"
    expected = None
    for _ in range(3):
        trainer.gradients(batch)
        trainer.update()
        weight = trainer.network.state_dict()[name]
        expected = weight.clone() if expected is None else 0.75 * expected + 0.25 * weight
    assert expected is not None
    averaged = trainer.trained_network.state_dict()[name]
    assert torch.allclose(averaged, expected, atol=1e-6) and not torch.allclose(averaged, weight, atol=1e-6)
