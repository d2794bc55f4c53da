"""The folder of a fold: checks against an earlier run, checkpoints and records."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..case.atomic_files import atomic_write
from ..case.lesion_json import write_json
from ..errors import InputError, OutputError, one_line
from ..network.plan import PLANS_FILE, read_training_plan
from .checkpoint import (
    BEST,
    FINAL,
    LATEST,
    Progress,
    Resumed,
    RunIdentity,
    full_checkpoint,
    network_checkpoint,
    read_latest,
    write_checkpoint,
)
from .config import TrainingConfig, first_difference, to_plain
from .job import (
    CONFIG_FILE,
    DATASET_FILE,
    HEALTH_FILE,
    FoldJob,
    data_digest,
    saved_config,
    trained_data_digest,
)
from .loop import Trainer


class FoldFolder:
    """Reads and writes the files of one fold.

    Files: `checkpoint_latest.pth`, `checkpoint_best.pth`, `checkpoint_final.pth`, `config.json` and
    `health.json`; in the model folder `plans.json` and `dataset.json`.
    """

    def __init__(self, job: FoldJob) -> None:
        self._job = job
        digest = data_digest(job.plan, job.training, job.validation, job.pet)
        self._identity = RunIdentity(job.plan.configuration, job.fold, digest)
        self.final, self._latest = job.folder / FINAL, job.folder / LATEST

    @property
    def is_finished(self) -> bool:
        """True if the fold is finished and the job does not restart it."""
        return self.final.is_file() and not self._job.restart

    @property
    def is_resumable(self) -> bool:
        """True if there is a checkpoint to resume from and the job does not restart the fold."""
        return self._latest.is_file() and not self._job.restart

    def check_plan(self) -> None:
        """Check that the model folder has the job's plan: all folds belong to one network.

        Raises:
            InputError: it has another plan, and the job does not restart the fold.
        """
        job = self._job
        path = job.output / PLANS_FILE
        is_kept = path.is_file() and not job.restart
        if is_kept and read_training_plan(path, job.plan.configuration) != (job.plan, job.pet):
            raise InputError(
                f"{path}: differs from {job.plan_file}; expected the same plan, another output folder, "
                "or --restart"
            )

    def check_finished(self) -> None:
        """Check that a finished fold was trained with the job's settings and data.

        Raises:
            InputError: it was not.
        """
        saved = saved_config(self._job.folder)
        if saved is None:
            return  # a model folder may have been packed or moved without the records
        self._check_settings(self._job.folder / CONFIG_FILE, saved)
        if trained_data_digest(self._job.folder) not in (None, self._identity.data):
            raise _other_data(self.final)

    def begin(self) -> None:
        """Create the folder, remove files of an earlier run, and write plan and settings.

        Raises:
            OutputError: it cannot be written.
        """
        job = self._job
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            for name in (LATEST, BEST, FINAL, HEALTH_FILE):
                (job.folder / name).unlink(missing_ok=True)
            for name in (PLANS_FILE, DATASET_FILE):
                source, target = job.plan_file.parent / name, job.output / name
                source = job.plan_file if name == PLANS_FILE else source
                if source.is_file() and source.resolve() != target.resolve():
                    # Another fold may begin at the same time and must not read a partial file.
                    with atomic_write(target) as temporary:
                        shutil.copyfile(source, temporary)
        except OSError as error:
            raise OutputError(
                f"{job.folder}: cannot be written ({one_line(error)}); expected a writable folder"
            ) from error
        write_json(job.folder / CONFIG_FILE, to_plain(job.config), decimals=None)

    def read_latest(self) -> Resumed:
        """Read the checkpoint to resume from.

        Raises:
            InputError: it was trained with other settings or on other data.
            WeightsError: it cannot be used.
        """
        saved = read_latest(self._latest)
        self._check_settings(self._latest, saved.config)
        if saved.data != self._identity.data:
            raise _other_data(self._latest)
        return saved

    def write_latest(self, trainer: Trainer, progress: Progress) -> None:
        """Write the checkpoint to resume from."""
        checkpoint = full_checkpoint(
            trainer.network,
            trainer.optimizer,
            trainer.scaler,
            trainer.average,
            self._job.config,
            self._identity,
            progress,
        )
        write_checkpoint(self._latest, checkpoint)

    def write_best(self, trainer: Trainer, progress: Progress) -> None:
        """Write the network with the best moving average of the validation Dice."""
        self._write_network(self._job.folder / BEST, trainer, progress)

    def write_final(self, trainer: Trainer, progress: Progress) -> None:
        """Write the trained network."""
        self._write_network(self.final, trainer, progress)

    def write_health(self, reason: str | None) -> None:
        """Record the end of the run.

        Args:
            reason: why the fold has collapsed; None if it is sound.
        """
        state = "sound" if reason is None else "collapsed"
        document = {"state": state, "reason": reason, "data": self._identity.data}
        write_json(self._job.folder / HEALTH_FILE, document)

    def _write_network(self, path: Path, trainer: Trainer, progress: Progress) -> None:
        checkpoint = network_checkpoint(trainer.trained_network, self._job.config, self._identity, progress)
        write_checkpoint(path, checkpoint)

    def _check_settings(self, path: Path, saved: TrainingConfig) -> None:
        name = first_difference(saved, self._job.config)
        if name is not None:
            raise InputError(
                f"{path}: was trained with {name}={getattr(saved, name)}, not "
                f"{getattr(self._job.config, name)}; expected the same settings, or --restart"
            )


def _other_data(path: Path) -> InputError:
    return InputError(
        f"{path}: was trained on other patients, scans or lesions, or with another plan; expected the same, "
        "or --restart"
    )
