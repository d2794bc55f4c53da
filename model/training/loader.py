"""Batches, built in advance by worker processes and identical for any number of them.

Each sample has a generator of its own, seeded only by the run's seed, the epoch, the step and the number of
the sample. So neither workers nor training processes nor an interruption change the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import LongilesionError
from .config import TrainingConfig
from .sample_sources import SampleSource

_TRAINING, _VALIDATION = 0, 1


@dataclass(frozen=True, slots=True)
class Step:
    """The position of a batch in the run."""

    validates: bool
    epoch: int
    iteration: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one step, in this process.

    Attributes:
        step: position in the run.
        channels: float32 [B, C, z, y, x].
        target: uint8 [B, z, y, x], 1 inside lesions.
        organs: uint8 [B, z, y, x], labels of organs; None if the network has no heads for them.
    """

    step: Step
    channels: Tensor
    target: Tensor
    organs: Tensor | None = None

    def pin_memory(self) -> Batch:
        """Copy to pinned memory, which is faster to copy to the GPU; called by torch."""
        organs = self.organs.pin_memory() if self.organs is not None else None
        return Batch(self.step, self.channels.pin_memory(), self.target.pin_memory(), organs)


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error passed on from a worker, so that users see it without the worker's traceback."""

    error: LongilesionError


def sample_rng(config: TrainingConfig, step: Step, number: int) -> np.random.Generator:
    """Return the generator of one sample. Validation has the same samples in every epoch.

    Args:
        config: holds the seed.
        step: position of the batch.
        number: of the sample in the batch, over all processes.
    """
    stage, epoch = (_VALIDATION, 0) if step.validates else (_TRAINING, step.epoch)
    return np.random.default_rng((config.seed, stage, epoch, step.iteration, number))


def schedule(config: TrainingConfig, first_epoch: int) -> Iterator[Step]:
    """List all batches from an epoch on: for each epoch those of training, then those of validation."""
    for epoch in range(first_epoch, config.epochs):
        yield from (Step(False, epoch, number) for number in range(config.iterations))
        yield from (Step(True, epoch, number) for number in range(config.validation_iterations))


class _Schedule(Sampler[Step]):
    def __init__(self, config: TrainingConfig, first_epoch: int) -> None:
        self._config, self._first_epoch = config, first_epoch

    def __iter__(self) -> Iterator[Step]:
        return schedule(self._config, self._first_epoch)


class _Batches(Dataset[Batch | _Failure]):
    """Builds this process's share of any batch."""

    def __init__(
        self, training: SampleSource, validation: SampleSource, config: TrainingConfig, numbers: Sequence[int]
    ) -> None:
        self._sources = {False: training, True: validation}
        self._config, self._numbers = config, numbers

    def __getitem__(self, step: Step) -> Batch | _Failure:
        try:
            return self._build(step)
        except LongilesionError as error:
            return _Failure(error)

    def _build(self, step: Step) -> Batch:
        samples = []
        for number in self._numbers:
            rng = sample_rng(self._config, step, number)
            augmented = self._config.augment and not step.validates
            samples.append(self._sources[step.validates].sample(rng, augmented))
        channels = torch.from_numpy(np.stack([sample.channels for sample in samples]))
        target = torch.from_numpy(np.stack([sample.target for sample in samples]))
        labels = [sample.organs for sample in samples if sample.organs is not None]
        organs = torch.from_numpy(np.stack(labels)) if labels else None
        return Batch(step, channels, target, organs)


def batches(
    training: SampleSource,
    validation: SampleSource,
    config: TrainingConfig,
    first_epoch: int,
    numbers: Sequence[int],
    pinned: bool,
) -> Iterator[Batch]:
    """Iterate over all batches of a run in the order of `schedule`.

    Args:
        training: draws the training samples.
        validation: draws the validation samples.
        config: settings of the run.
        first_epoch: epoch to begin with.
        numbers: the samples of each batch that this process computes.
        pinned: copy batches to pinned memory, for CUDA.

    Raises:
        LongilesionError: a sample cannot be built.
    """
    loader = DataLoader(
        _Batches(training, validation, config, numbers),
        sampler=_Schedule(config, first_epoch),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pinned,
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch
