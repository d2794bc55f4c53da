"""Checkpoints of a run, in the layout of the published ones.

`checkpoint_latest.pth` holds the full state to resume from; `checkpoint_best.pth` and `checkpoint_final.pth`
hold only the network. Files with anything but tensors and plain values are neither written nor read.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..case.atomic_files import atomic_write
from ..errors import WeightsError, one_line
from ..network.checkpoint_file import HEAT_MAP_KEY
from ..network.resenc_unet import ResEncUNet, canonical_state
from .config import TrainingConfig, from_plain, to_plain
from .training_network import MIRROR_AXES, published_state, trainer_name

LATEST, BEST, FINAL = "checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run after an epoch.

    Attributes:
        epochs_done: number of finished epochs.
        ema: exponential moving average of the validation Dice; None before the first one.
        best_ema: its best value so far.
        misses: epochs in a row below the health floor, see `HealthCheck`.
    """

    epochs_done: int = 0
    ema: float | None = None
    best_ema: float | None = None
    misses: int = 0


@dataclass(frozen=True, eq=False)
class Resumed:
    """The state that a run resumes from.

    ``average`` is that of the averaged weights, empty without them; ``data`` is the digest of the run's
    `RunIdentity`.
    """

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: dict[str, Any]
    progress: Progress
    config: TrainingConfig
    data: str


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The run that a checkpoint belongs to.

    Attributes:
        configuration: name of the plan's configuration.
        fold: name of the fold.
        data: digest of the fold's patients and lesions, see `data_digest`.
    """

    configuration: str
    fold: str
    data: str


def network_checkpoint(
    network: ResEncUNet, config: TrainingConfig, identity: RunIdentity, progress: Progress
) -> dict[str, Any]:
    """Build the checkpoint of a network alone, as published tools read it."""
    return {
        "network_weights": published_state(network),
        "trainer_name": trainer_name(config),
        "init_args": {"configuration": identity.configuration, "fold": identity.fold},
        "inference_allowed_mirroring_axes": MIRROR_AXES if config.mirror else (),
        HEAT_MAP_KEY: config.heat_map,
        "current_epoch": progress.epochs_done,
        "_best_ema": progress.best_ema,
        "training_config": to_plain(config),
    }


def full_checkpoint(
    network: ResEncUNet,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: AveragedModel | None,
    config: TrainingConfig,
    identity: RunIdentity,
    progress: Progress,
) -> dict[str, Any]:
    """Build the checkpoint to resume from: the network and all other state of the training."""
    return network_checkpoint(network, config, identity, progress) | {
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": scaler.state_dict(),
        "average_state": {} if average is None else average.state_dict(),
        "ema": progress.ema,
        "misses": progress.misses,
        "data": identity.data,
    }


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        OutputError: it cannot be written; an existing file is left unchanged.
    """
    with atomic_write(path, ".pth", one_line) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def read_latest(path: Path) -> Resumed:
    """Read the checkpoint to resume from.

    Raises:
        WeightsError: it is unreadable, refused as unsafe, or not a full checkpoint of this trainer.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
        return Resumed(
            network=canonical_state(raw["network_weights"]),
            optimizer=raw["optimizer_state"],
            scaler=raw["grad_scaler_state"],
            average=raw.get("average_state", {}),  # checkpoints of earlier versions have none
            progress=Progress(raw["current_epoch"], raw["ema"], raw["_best_ema"], raw["misses"]),
            config=from_plain(raw["training_config"]),
            data=raw["data"],
        )
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: is refused, it holds more than tensors and plain values; "
            "expected a checkpoint of this trainer"
        ) from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({one_line(error)[:120]}); expected a checkpoint of this trainer"
        ) from error
