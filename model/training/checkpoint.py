"""A run on disk: what it takes to go on as if it had never stopped, in the published checkpoints' layout.

`checkpoint_latest.pth` holds everything, `checkpoint_best.pth` and `checkpoint_final.pth` the network alone.
Only tensors and plain values are written, and nothing else is read.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..case.atomic_files import atomic_write
from ..errors import WeightsError, one_line
from ..network.checkpoint_file import HEAT_MAP_KEY
from ..network.resenc_unet import ResEncUNet, canonical_state
from .config import TrainingConfig, from_plain, to_plain
from .training_network import MIRROR_AXES, published_state, trainer_name

LATEST, BEST, FINAL = "checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after an epoch."""

    epochs_done: int = 0
    ema: float | None = None  # of the validation Dice
    best_ema: float | None = None
    misses: int = 0  # see `health`


@dataclass(frozen=True, eq=False)
class Resumed:
    """What a run goes on from."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    progress: Progress
    config: TrainingConfig
    data: str


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a checkpoint says of its run. ``data`` stands for the patients and lesions of the fold."""

    configuration: str
    fold: str
    data: str


def network_checkpoint(
    network: ResEncUNet, config: TrainingConfig, identity: RunIdentity, progress: Progress
) -> dict[str, Any]:
    """The network as the published tools know it, without what only training needs."""
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
    config: TrainingConfig,
    identity: RunIdentity,
    progress: Progress,
) -> dict[str, Any]:
    """The network and the state of everything that changes during training."""
    return network_checkpoint(network, config, identity, progress) | {
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": scaler.state_dict(),
        "ema": progress.ema,
        "misses": progress.misses,
        "data": identity.data,
    }


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write it whole or not at all.

    Raises:
        OutputError: it cannot be written; one that was there before stays as it was.
    """
    with atomic_write(path, ".pth", one_line) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def read_latest(path: Path) -> Resumed:
    """Read what a run goes on from.

    Raises:
        WeightsError: unreadable, refused as unsafe, or no checkpoint of this trainer.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
        return Resumed(
            network=canonical_state(raw["network_weights"]),
            optimizer=raw["optimizer_state"],
            scaler=raw["grad_scaler_state"],
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
