"""One fold from its first step to a file that inference loads; stopped at any time, it goes on."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch

from ..case.atomic_files import atomic_write
from ..case.lesion_json import write_json
from ..errors import InputError, OutputError, one_line
from ..network.plan import PLANS_FILE, read_plan
from .augment import VARIANTS
from .checkpoint import (
    BEST,
    FINAL,
    LATEST,
    Progress,
    RunIdentity,
    full_checkpoint,
    network_checkpoint,
    read_latest,
    write_checkpoint,
)
from .config import TrainingConfig, first_difference, to_plain
from .distributed import World, joined
from .health import CollapsedFoldError, HealthCheck, Verdict
from .initial_weights import load_initial
from .job import (
    CONFIG_FILE,
    DATASET_FILE,
    HEALTH_FILE,
    BudgetSpentError,
    FoldJob,
    FoldResult,
    Say,
    data_digest,
    saved_config,
    trained_data_digest,
)
from .loader import Batch, batches
from .logs import EpochLog, EpochRecord
from .loop import Trainer, run_epoch
from .sampler import Sampler
from .training_network import new_network

# Epochs may last long: by time, too, is saved what would be lost.
_SAVE_SECONDS = 600.0


def train_fold(job: FoldJob, say: Say = print) -> FoldResult:
    """Train a fold, or what is left of it.

    Files of the fold's folder: `checkpoint_latest.pth`, `_best` and `_final`, `log.csv`, `curve.png`,
    `config.json`, `health.json`.

    Raises:
        InputError: data or settings cannot be used, or differ from those of the run to go on from.
        WeightsError: initial weights or the checkpoint to go on from cannot be used.
        OutputError: something cannot be written.
        CollapsedFoldError: the fold does not learn; `health.json` says why.
        BudgetSpentError: the job's time is over, and epochs are left; the same job goes on after them.
    """
    with joined(job.device) as world:
        quiet: Say = say if world.is_first else _silence
        _settle(job.config)
        return _FoldRun(job, world, quiet).run()


def _silence(line: str) -> None:
    pass


def _settle(config: TrainingConfig) -> None:
    """How torch computes: repeatably, or as fast as it can on this shape of patches."""
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.backends.cudnn.deterministic = config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


class _FoldRun:
    """The run of one process."""

    def __init__(self, job: FoldJob, world: World, say: Say) -> None:
        self._job, self._world, self._say, self._config = job, world, say, job.config
        self._identity = RunIdentity(
            job.plan.configuration, job.fold, data_digest(job.plan, job.training, job.validation)
        )
        self._saved = time.monotonic()
        self._numbers = world.share(job.config.batch_size)
        patch = job.plan.patch_size_zyx
        self._training = Sampler(job.training, patch, job.config)
        self._validation = Sampler(job.validation, patch, job.config)

    def run(self) -> FoldResult:
        job, final = self._job, self._job.folder / FINAL
        self._check_plan()
        if final.is_file() and not job.restart:
            self._check_finished(job.folder / CONFIG_FILE)
            self._say(f"fold {job.fold}: finished before, {final}")
            return FoldResult(job.fold, 0, None, final)
        if self._is_over():
            raise BudgetSpentError(
                f"{job.folder}: no time is left for fold {job.fold}; expected another call, which trains it"
            )
        network = new_network(job.plan, self._config)
        latest = job.folder / LATEST
        goes_on = latest.is_file() and not job.restart
        if not goes_on and job.initial is not None:
            channels = VARIANTS[self._config.variant].channels
            for line in load_initial(network, job.initial, channels, self._config.initial_heads):
                self._say(f"fold {job.fold}: initial weights: {line}")
        trainer = Trainer(network, self._config, self._world)
        progress = self._resumed(trainer, latest) if goes_on else Progress()
        if self._world.is_first and not goes_on:
            self._begin()
        self._world.wait()
        before = progress.epochs_done
        progress = self._epochs(trainer, progress)
        if self._world.is_first:
            write_checkpoint(
                final, network_checkpoint(trainer.network, self._config, self._identity, progress)
            )
            self._say(f"fold {job.fold}: finished, {final}")
        self._world.wait()
        return FoldResult(job.fold, self._config.epochs - before, progress.best_ema, final)

    def _check_plan(self) -> None:
        """All folds of a model folder are one network's; only what begins anew may bring another plan."""
        path = self._job.output / PLANS_FILE
        is_kept = path.is_file() and not self._job.restart
        if is_kept and read_plan(path, self._job.plan.configuration) != self._job.plan:
            raise InputError(
                f"{path}: is another plan than {self._job.plan_file}; expected the same, another output "
                "folder, or --restart"
            )
        self._world.wait()  # the first process writes this file next

    def _check_finished(self, path: Path) -> None:
        """A fold that was finished with other settings is no answer to what is asked for now."""
        saved = saved_config(path.parent)
        if saved is None:
            return  # a model folder may have been packed or moved without it
        self._check_same(path, saved)
        if trained_data_digest(self._job.folder) not in (None, self._identity.data):
            raise self._other_data(path.parent / FINAL)

    def _check_same(self, path: Path, saved: TrainingConfig) -> None:
        name = first_difference(saved, self._config)
        if name is not None:
            raise InputError(
                f"{path}: was trained with {name}={getattr(saved, name)}, not "
                f"{getattr(self._config, name)}; expected the same settings, or --restart"
            )

    def _begin(self) -> None:
        """Make the model folder, without what an earlier run left of this fold."""
        job = self._job
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            for name in (LATEST, BEST, FINAL, HEALTH_FILE):
                (job.folder / name).unlink(missing_ok=True)
            for name in (PLANS_FILE, DATASET_FILE):
                source, target = job.plan_file.parent / name, job.output / name
                source = job.plan_file if name == PLANS_FILE else source
                if source.is_file() and source.resolve() != target.resolve():
                    # Another fold may begin at the same time, and must not read half of it.
                    with atomic_write(target) as temporary:
                        shutil.copyfile(source, temporary)
        except OSError as error:
            raise OutputError(
                f"{job.folder}: cannot be written ({one_line(error)}); expected a writable folder"
            ) from error
        write_json(job.folder / CONFIG_FILE, to_plain(self._config), decimals=None)

    def _resumed(self, trainer: Trainer, path: Path) -> Progress:
        """Put everything back as it was after the last checkpoint."""
        saved = read_latest(path)
        self._check_same(path, saved.config)
        if saved.data != self._identity.data:
            raise self._other_data(path)
        trainer.network.load_state_dict(saved.network)
        trainer.optimizer.load_state_dict(saved.optimizer)
        if saved.scaler:
            trainer.scaler.load_state_dict(saved.scaler)
        self._say(f"fold {self._job.fold}: goes on after {saved.progress.epochs_done} epochs")
        return saved.progress

    @staticmethod
    def _other_data(path: Path) -> InputError:
        return InputError(
            f"{path}: was trained on other patients, scans, lesions, or by another plan; expected the same, "
            "or --restart"
        )

    def _epochs(self, trainer: Trainer, progress: Progress) -> Progress:
        config, first = self._config, progress.epochs_done
        health = HealthCheck(config, progress.misses)
        log = EpochLog(self._job.folder, first) if self._world.is_first else None
        pinned = self._world.device.type == "cuda"
        stream = batches(self._training, self._validation, config, first, self._numbers, pinned)
        try:
            for epoch in range(first, config.epochs):
                progress = self._epoch(trainer, stream, epoch, health, progress, log)
                if epoch + 1 < config.epochs and self._is_over():
                    self._stop(trainer, progress)
            self._judge(health.end(config.epochs - 1, progress.best_ema))
        except CollapsedFoldError as error:
            self._report(one_line(error))
            raise CollapsedFoldError(
                f"{self._job.folder}: fold {self._job.fold} has collapsed: {one_line(error)}; "
                "expected a fold that learns (--restart with another seed, learning rate or batch size)"
            ) from error
        finally:
            if log is not None:
                log.close()
        self._report(None)
        return progress

    def _epoch(
        self,
        trainer: Trainer,
        stream: Iterator[Batch],
        epoch: int,
        health: HealthCheck,
        progress: Progress,
        log: EpochLog | None,
    ) -> Progress:
        """One epoch, with all that is written after it."""
        record = run_epoch(trainer, stream, self._config, epoch, health, progress.ema)
        if log is not None:
            log.add(record)
        self._say(_line(self._job.fold, record, self._config.epochs))
        verdict = health.epoch(epoch, record.dice, record.predicted_voxels, record.reference_voxels)
        ema = None if math.isnan(record.ema_dice) else record.ema_dice
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
                checkpoint = network_checkpoint(trainer.network, self._config, self._identity, progress)
                write_checkpoint(self._job.folder / BEST, checkpoint)
            is_due = (epoch + 1) % self._config.checkpoint_every == 0 or epoch + 1 == self._config.epochs
            if is_due or time.monotonic() - self._saved >= _SAVE_SECONDS:
                self._save(trainer, progress)
        self._judge(verdict)
        return progress

    def _save(self, trainer: Trainer, progress: Progress) -> None:
        checkpoint = full_checkpoint(
            trainer.network, trainer.optimizer, trainer.scaler, self._config, self._identity, progress
        )
        write_checkpoint(self._job.folder / LATEST, checkpoint)
        self._saved = time.monotonic()

    def _is_over(self) -> bool:
        """Whether the time is over, for any of the processes: they stop together."""
        until = self._job.until
        return until is not None and self._world.total([float(time.monotonic() >= until)])[0] > 0

    def _stop(self, trainer: Trainer, progress: Progress) -> NoReturn:
        if self._world.is_first:
            self._save(trainer, progress)
        self._world.wait()
        raise BudgetSpentError(
            f"{self._job.folder}: the time for fold {self._job.fold} is over after {progress.epochs_done} of "
            f"{self._config.epochs} epochs; expected another call, which goes on from there"
        )

    @staticmethod
    def _judge(verdict: Verdict) -> None:
        if verdict.reason is not None:
            raise CollapsedFoldError(verdict.reason)

    def _report(self, reason: str | None) -> None:
        if self._world.is_first:
            state = "sound" if reason is None else "collapsed"
            document = {"state": state, "reason": reason, "data": self._identity.data}
            write_json(self._job.folder / HEALTH_FILE, document)


def _line(fold: str, record: EpochRecord, epochs: int) -> str:
    seconds = record.training_seconds + record.validation_seconds
    return (
        f"fold {fold}: epoch {record.epoch + 1}/{epochs}: loss {record.training_loss:.4f}, "
        f"validation {record.validation_loss:.4f}, Dice {record.dice:.4f} (average {record.ema_dice:.4f}), "
        f"{record.samples_per_second:.2f} samples/s, {seconds:.1f} s"
    )
