"""Batches in time: made by other processes in advance, and the same whatever their number.

The sample with a number in a step of an epoch is drawn from a generator that these three and the seed make
alone. So neither workers nor processes nor an interruption change what is learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import LongilesionError
from .augment import make_sample
from .config import TrainingConfig
from .sampler import Sampler as LesionSampler

_TRAINING, _VALIDATION = 0, 1


@dataclass(frozen=True, slots=True)
class Step:
    """A batch by its place in the run."""

    validates: bool
    epoch: int
    iteration: int


@dataclass(frozen=True, eq=False)
class Batch:
    """``channels`` float32 [B, C, *patch], ``target`` uint8 [B, *patch]."""

    step: Step
    channels: Tensor
    target: Tensor

    def pin_memory(self) -> Batch:
        """For a faster way to the GPU; called by torch."""
        return Batch(self.step, self.channels.pin_memory(), self.target.pin_memory())


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error that the user is to see as it is, without a worker's trace round it."""

    error: LongilesionError


def sample_rng(config: TrainingConfig, step: Step, number: int) -> np.random.Generator:
    """The generator of one sample. Validation has the same samples in every epoch."""
    stage, epoch = (_VALIDATION, 0) if step.validates else (_TRAINING, step.epoch)
    return np.random.default_rng((config.seed, stage, epoch, step.iteration, number))


def schedule(config: TrainingConfig, first_epoch: int) -> Iterator[Step]:
    """All batches from an epoch on, training and validation in turn."""
    for epoch in range(first_epoch, config.epochs):
        yield from (Step(False, epoch, number) for number in range(config.iterations))
        yield from (Step(True, epoch, number) for number in range(config.validation_iterations))


class _Schedule(Sampler[Step]):
    def __init__(self, config: TrainingConfig, first_epoch: int) -> None:
        self._config, self._first_epoch = config, first_epoch

    def __iter__(self) -> Iterator[Step]:
        return schedule(self._config, self._first_epoch)


class _Batches(Dataset[Batch | _Failure]):
    """Makes this process's share of any batch."""

    def __init__(
        self,
        training: LesionSampler,
        validation: LesionSampler,
        config: TrainingConfig,
        numbers: Sequence[int],
    ) -> None:
        self._samplers = {False: training, True: validation}
        self._config, self._numbers = config, numbers

    def __getitem__(self, step: Step) -> Batch | _Failure:
        try:
            return self._made(step)
        except LongilesionError as error:
            return _Failure(error)

    def _made(self, step: Step) -> Batch:
        samples = []
        for number in self._numbers:
            rng = sample_rng(self._config, step, number)
            draw = self._samplers[step.validates].draw(rng)
            augmented = self._config.augment and not step.validates
            samples.append(make_sample(draw, self._config, rng, augmented))
        channels = np.stack([sample.channels for sample in samples])
        target = np.stack([sample.target for sample in samples])
        return Batch(step, torch.from_numpy(channels), torch.from_numpy(target))


def batches(
    training: LesionSampler,
    validation: LesionSampler,
    config: TrainingConfig,
    first_epoch: int,
    numbers: Sequence[int],
    pinned: bool,
) -> Iterator[Batch]:
    """All batches of a run in the order of `schedule`.

    Args:
        numbers: of the batch's samples those that this process has.
        pinned: for CUDA.
    """
    loader = DataLoader(
        _Batches(training, validation, config, numbers),
        sampler=_Schedule(config, first_epoch),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pinned,
    )
    for made in loader:
        if isinstance(made, _Failure):
            raise made.error
        yield made
