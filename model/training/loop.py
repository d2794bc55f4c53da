"""Optimisation: training steps, validation and learning rate schedule.

See docs/model_recipe.md, Loss and optimiser.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..network.resenc_unet import ResEncUNet
from ..network.weights import LESION_CLASSES
from .config import TrainingConfig
from .distributed import World
from .health import CollapsedFoldError, HealthCheck
from .loader import Batch
from .logs import EpochRecord
from .loss import SegmentationLoss
from .pet_ct.organ_loss import organ_loss
from .training_network import scales_of

_HALF_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Validation:
    """Figures over all voxels of all validation samples; ``dice`` is NaN if they contain no lesion."""

    loss: float
    dice: float
    predicted_voxels: float
    reference_voxels: float


class Trainer:
    """A network with its optimiser, on the device of this process."""

    def __init__(self, network: ResEncUNet, config: TrainingConfig, world: World) -> None:
        """Move the network to the device and set up loss, optimiser and gradient scaler.

        Args:
            network: the network to train.
            config: complete settings, see `with_plan_defaults`.
            world: this process and the others.
        """
        # Convolutions of few channels are a third faster on the CPU with the channels last.
        on_cpu = world.device.type == "cpu"
        self._format = torch.channels_last_3d if on_cpu else torch.contiguous_format
        self.network, self._config, self._world = network.to(world.device), config, world
        self.network.to(memory_format=self._format)  # type: ignore[call-overload]  # torch's types lack it
        assert config.is_complete, "settings left to the plan have to be filled in before"
        self._loss = SegmentationLoss(config.batch_dice is True, config.dice_smooth, config.entropy_hardest)
        self.optimizer = _new_optimizer(self.network, config)
        precision = config.precision
        if precision == "auto":
            precision = "fp16" if world.device.type == "cuda" else "fp32"
        self._half = _HALF_TYPES.get(precision)
        scales = precision == "fp16" and world.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=scales)
        self._model: nn.Module = self._parallel(network)
        self.average = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.weight_average))
            if config.weight_average
            else None
        )

    @property
    def trained_network(self) -> ResEncUNet:
        """The network to validate and export: the moving average of its weights, if the settings have one."""
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, ResEncUNet)
        return network

    def _parallel(self, network: ResEncUNet) -> nn.Module:
        model: nn.Module = network
        if self._config.compile:
            model = torch.compile(network)  # type: ignore[assignment]
        if self._world.size == 1:
            return model
        ids = [self._world.device.index] if self._world.device.type == "cuda" else None
        # Without deep supervision the heads of the coarse scales do not contribute to the loss.
        has_unused_heads = not self._config.deep_supervision
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=has_unused_heads)

    def set_epoch(self, epoch: int) -> float:
        """Set the learning rate of an epoch (from 0) by the polynomial schedule, and return it."""
        config = self._config
        rate = config.learning_rate * float((1 - epoch / config.epochs) ** config.poly_exponent)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def gradients(self, batch: Batch) -> float:
        """Accumulate the gradients of one step over passes of `micro_batch` samples.

        Returns:
            The loss, averaged over all processes. Each pass has a batch Dice of its own.
        """
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        count = len(batch.channels)
        size = self._config.micro_batch or count
        total = 0.0
        for start in range(0, count, size):
            with self._synchronised(start + size >= count):
                loss, _, target = self._forward(self._model, batch, start, size)
                loss = loss * (len(target) / count)
                self.scaler.scale(loss).backward()
            total += float(loss.detach())
        return self._world.total([total])[0] / self._world.size

    def _synchronised(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Let processes exchange gradients only in the last pass of a step."""
        if isinstance(self._model, DistributedDataParallel) and not is_last:
            return self._model.no_sync()
        return contextlib.nullcontext()

    def _forward(
        self, model: nn.Module, batch: Batch, start: int, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, logits at full resolution and target of some samples of a batch."""
        channels, target, organs = (
            None if one is None else one[start : start + size].to(self._world.device, non_blocking=True)
            for one in (batch.channels, batch.target, batch.organs)
        )
        assert channels is not None and target is not None
        channels = channels.contiguous(memory_format=self._format)
        with torch.autocast(self._world.device.type, self._half, enabled=self._half is not None):
            scales = scales_of(model(channels))
        loss = self._loss([scale[:, :LESION_CLASSES] for scale in scales], target)
        if organs is not None:
            heads, config = [scale[:, LESION_CLASSES:] for scale in scales], self._config
            loss = loss + organ_loss(heads, organs, config.batch_dice is True, config.dice_smooth)
        return loss, scales[0], target

    def update(self) -> None:
        """Clip the gradients and take an optimiser step."""
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self._config.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch]) -> Validation:
        """Validate on the next batches of all processes."""
        self.trained_network.eval()
        sums = [0.0] * 4
        for _ in range(self._config.validation_iterations):
            values = self._counts(next(batches))
            sums = [one + other for one, other in zip(sums, values, strict=True)]
        losses, common, predicted, reference = self._world.total(sums)
        dice = 2 * common / (predicted + reference) if reference > 0 else math.nan
        batch_count = self._config.validation_iterations * self._world.size
        return Validation(losses / batch_count, dice, predicted, reference)

    def _counts(self, batch: Batch) -> list[float]:
        """Loss of a batch, and its numbers of common, predicted and reference voxels."""
        count = len(batch.channels)
        size = self._config.micro_batch or count
        sums = [0.0] * 4
        for start in range(0, count, size):
            loss, logits, target = self._forward(self.trained_network, batch, start, size)
            predicted, reference = logits[:, 1] > logits[:, 0], target > 0
            voxels = ((predicted & reference).sum(), predicted.sum(), reference.sum())
            values = (float(loss) * len(target) / count, *(float(number) for number in voxels))
            sums = [one + other for one, other in zip(sums, values, strict=True)]
        return sums


def _new_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
    return torch.optim.SGD(
        network.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
    )


def run_epoch(
    trainer: Trainer,
    batches: Iterator[Batch],
    config: TrainingConfig,
    epoch: int,
    health: HealthCheck,
    ema: float | None,
) -> EpochRecord:
    """Train and validate for one epoch.

    Args:
        trainer: the network with its optimiser.
        batches: of all epochs from this one on.
        config: settings of the run.
        epoch: its number, from 0.
        health: checks each loss.
        ema: moving average of the validation Dice so far; None before the first epoch.

    Raises:
        CollapsedFoldError: a loss is not finite, or too many in a row if a gradient scaler skips such steps.
    """
    rate, started = trainer.set_epoch(epoch), time.perf_counter()
    losses, waited = _train_steps(trainer, batches, config, epoch, health)
    trained = time.perf_counter()
    validation = trainer.validate(batches)
    return EpochRecord(
        epoch=epoch,
        learning_rate=rate,
        training_loss=sum(losses) / len(losses) if losses else math.nan,
        validation_loss=validation.loss,
        dice=validation.dice,
        ema_dice=_moving_average(validation.dice, ema, config.ema_momentum),
        predicted_voxels=validation.predicted_voxels,
        reference_voxels=validation.reference_voxels,
        training_seconds=trained - started,
        waiting_seconds=waited,
        validation_seconds=time.perf_counter() - trained,
        samples_per_second=config.iterations * config.batch_size / (trained - started),
    )


def _train_steps(
    trainer: Trainer, batches: Iterator[Batch], config: TrainingConfig, epoch: int, health: HealthCheck
) -> tuple[list[float], float]:
    """The losses of an epoch's steps, without skipped ones, and the seconds spent waiting for samples."""
    losses, waited = list[float](), 0.0
    for iteration in range(config.iterations):
        started = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - started
        loss = trainer.gradients(batch)
        verdict = health.loss(epoch, iteration, loss, trainer.scaler.is_enabled())
        if verdict.reason is not None:  # before the weights are updated
            raise CollapsedFoldError(verdict.reason)
        if math.isfinite(loss):
            trainer.update()
            losses.append(loss)
    return losses, waited


def _moving_average(dice: float, ema: float | None, momentum: float) -> float:
    """The average after an epoch; an epoch without a Dice (NaN) leaves it as it was."""
    if math.isnan(dice):
        return math.nan if ema is None else ema
    keep = momentum if ema is not None else 0.0
    return keep * (ema or 0.0) + (1 - keep) * dice
