"""Train one fold from its first step to a checkpoint that inference loads; interrupted runs resume."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import NoReturn

import torch

from ..case.atomic_files import remove_partial_files
from ..case.folder_lock import locked_folder
from ..errors import one_line
from .augment import VARIANTS
from .checkpoint import Progress
from .config import TrainingConfig
from .distributed import World, joined
from .fold_folder import FoldFolder
from .health import CollapsedFoldError, HealthCheck, Verdict
from .initial_weights import load_initial
from .job import BudgetSpentError, FoldJob, FoldResult
from .loader import Batch, batches
from .logs import EpochLog, EpochRecord
from .loop import Trainer, run_epoch
from .sample_sources import sample_source
from .training_network import new_network

log = logging.getLogger(__name__)

# Epochs may be long: checkpoints are also written when this much time has passed.
_SAVE_SECONDS = 600.0


def train_fold(job: FoldJob) -> FoldResult:
    """Train a fold, or the rest of it.

    The fold's folder receives the files of `FoldFolder` and `EpochLog`.

    Raises:
        InputError: data or settings cannot be used, or differ from those of the run to resume.
        WeightsError: the initial weights or the checkpoint to resume from cannot be used.
        OutputError: a file cannot be written, or another run trains this fold.
        CollapsedFoldError: the fold does not learn; `health.json` has the reason.
        BudgetSpentError: the job's time is over before the last epoch; the same job resumes from there.
    """
    with joined(job.device) as world:
        _configure_torch(job.config)
        return _FoldRun(job, world).run()


def _configure_torch(config: TrainingConfig) -> None:
    """Let torch compute deterministically, or as fast as it can for this shape of patches."""
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.backends.cudnn.deterministic = config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


class _FoldRun:
    """The run of one process."""

    def __init__(self, job: FoldJob, world: World) -> None:
        self._job, self._world, self._config = job, world, job.config
        self._files = FoldFolder(job)
        self._saved = time.monotonic()
        self._numbers = world.share(job.config.batch_size)
        patch = job.plan.patch_size_zyx
        self._training = sample_source(job.training, patch, job.config)
        self._validation = sample_source(job.validation, patch, job.config)

    def run(self) -> FoldResult:
        job, files = self._job, self._files
        files.check_plan()
        self._world.wait()  # the first process writes the plan next
        if files.is_finished:
            files.check_finished()
            self._log(f"finished before, {files.final}")
            return FoldResult(job.fold, 0, None, files.final)
        if self._is_over():
            raise BudgetSpentError(
                f"{job.folder}: no time is left for fold {job.fold}; expected another call, which trains it"
            )
        # Other folds may be trained beside this one, by other runs.
        with locked_folder(job.folder) if self._world.is_first else nullcontext():
            return self._run()

    def _run(self) -> FoldResult:
        job, files = self._job, self._files
        if self._world.is_first:
            remove_partial_files(job.folder)
        trainer, progress = self._start()
        self._world.wait()
        epochs_before = progress.epochs_done
        progress = self._train(trainer, progress)
        if self._world.is_first:
            files.write_final(trainer, progress)
            self._log(f"finished, {files.final}")
        self._world.wait()
        return FoldResult(job.fold, self._config.epochs - epochs_before, progress.best_ema, files.final)

    def _start(self) -> tuple[Trainer, Progress]:
        """The network as it was at the last checkpoint, or with its initial weights in an empty folder."""
        job, files = self._job, self._files
        resumes = files.is_resumable
        network = new_network(job.plan, self._config)
        if not resumes and job.initial is not None:
            channels = VARIANTS[self._config.variant].stem_meaning
            for line in load_initial(network, job.initial, channels, self._config.initial_heads):
                self._log(f"initial weights: {line}")
        trainer = Trainer(network, self._config, self._world)
        if resumes:
            return trainer, self._resume(trainer)
        if self._world.is_first:
            files.begin()
        return trainer, Progress()

    def _resume(self, trainer: Trainer) -> Progress:
        saved = self._files.read_latest()
        trainer.network.load_state_dict(saved.network)
        trainer.optimizer.load_state_dict(saved.optimizer)
        if saved.scaler:
            trainer.scaler.load_state_dict(saved.scaler)
        if trainer.average is not None:
            trainer.average.load_state_dict(saved.average)
        self._log(f"resumes after {saved.progress.epochs_done} epochs")
        return saved.progress

    def _train(self, trainer: Trainer, progress: Progress) -> Progress:
        """All epochs that are left."""
        config, first = self._config, progress.epochs_done
        health = HealthCheck(config, progress.misses)
        record = EpochLog(self._job.folder, first) if self._world.is_first else None
        pinned = self._world.device.type == "cuda"
        stream = batches(self._training, self._validation, config, first, self._numbers, pinned)
        try:
            for epoch in range(first, config.epochs):
                progress = self._epoch(trainer, stream, epoch, health, progress, record)
                if epoch + 1 < config.epochs and self._is_over():
                    self._stop(trainer, progress)
            self._raise_if_collapsed(health.end(config.epochs - 1, progress.best_ema))
        except CollapsedFoldError as error:
            self._write_health(one_line(error))
            raise CollapsedFoldError(
                f"{self._job.folder}: fold {self._job.fold} has collapsed: {one_line(error)}; "
                "expected a fold that learns (--restart with another seed, learning rate or batch size)"
            ) from error
        finally:
            if record is not None:
                record.close()
        self._write_health(None)
        return progress

    def _epoch(
        self,
        trainer: Trainer,
        stream: Iterator[Batch],
        epoch: int,
        health: HealthCheck,
        progress: Progress,
        record: EpochLog | None,
    ) -> Progress:
        """One epoch, with everything that is written after it."""
        figures = run_epoch(trainer, stream, self._config, epoch, health, progress.ema)
        if record is not None:
            record.add(figures)
        self._log(_epoch_line(figures, self._config.epochs))
        verdict = health.epoch(epoch, figures.dice, figures.predicted_voxels, figures.reference_voxels)
        ema = None if math.isnan(figures.ema_dice) else figures.ema_dice
        is_best = ema is not None and (progress.best_ema is None or ema > progress.best_ema)
        progress = replace(
            progress,
            epochs_done=epoch + 1,
            ema=ema,
            best_ema=ema if is_best else progress.best_ema,
            misses=verdict.misses,
        )
        if self._world.is_first:
            if is_best:
                self._files.write_best(trainer, progress)
            is_due = (epoch + 1) % self._config.checkpoint_every == 0 or epoch + 1 == self._config.epochs
            if is_due or time.monotonic() - self._saved >= _SAVE_SECONDS:
                self._save(trainer, progress)
        self._raise_if_collapsed(verdict)
        return progress

    def _save(self, trainer: Trainer, progress: Progress) -> None:
        self._files.write_latest(trainer, progress)
        self._saved = time.monotonic()

    def _is_over(self) -> bool:
        """True if the time is over for any of the processes: they stop together."""
        until = self._job.until
        return until is not None and self._world.total([float(time.monotonic() >= until)])[0] > 0

    def _stop(self, trainer: Trainer, progress: Progress) -> NoReturn:
        if self._world.is_first:
            self._save(trainer, progress)
        self._world.wait()
        raise BudgetSpentError(
            f"{self._job.folder}: the time for fold {self._job.fold} is over after {progress.epochs_done} of "
            f"{self._config.epochs} epochs; expected another call, which resumes from there"
        )

    @staticmethod
    def _raise_if_collapsed(verdict: Verdict) -> None:
        if verdict.reason is not None:
            raise CollapsedFoldError(verdict.reason)

    def _write_health(self, reason: str | None) -> None:
        if self._world.is_first:
            self._files.write_health(reason)

    def _log(self, line: str) -> None:
        self._world.log(log, "fold %s: %s", self._job.fold, line)


def _epoch_line(record: EpochRecord, epochs: int) -> str:
    seconds = record.training_seconds + record.validation_seconds
    return (
        f"epoch {record.epoch + 1}/{epochs}: loss {record.training_loss:.4f}, "
        f"validation {record.validation_loss:.4f}, Dice {record.dice:.4f} (average {record.ema_dice:.4f}), "
        f"{record.samples_per_second:.2f} samples/s, {seconds:.1f} s"
    )
