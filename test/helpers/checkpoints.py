"""The small model of the tests, and modified or corrupted checkpoints of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import WeightsError
from test.helpers.paths import GOLDEN_MODEL

# Not the shipped model, which may change.
MODEL = GOLDEN_MODEL
FOLD = MODEL / "fold_0" / "checkpoint_final.pth"
Checkpoint = dict[str, Any]
Change = Callable[[Checkpoint], None]


def load_published() -> Checkpoint:
    """Load a fold's checkpoint as published, for modification."""
    checkpoint: Checkpoint = torch.load(FOLD, weights_only=True)
    return checkpoint


def save_checkpoint(path: Path, change: Change | None = None, **options: Any) -> Path:
    """Save a fold's checkpoint, modified if ``change`` is given, to a path."""
    checkpoint = load_published()
    if change is not None:
        change(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path, **options)
    return path


def with_channels(count: int, trainer: str) -> Change:
    """A change of the trainer and of the number of input channels, in every copy of the stem's weight."""

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["trainer_name"] = trainer
        state = checkpoint["network_weights"]
        for key in [key for key in state if ".stem." in key and state[key].ndim == 5]:
            state[key] = state[key].repeat(1, 2, 1, 1, 1)[:, :count].clone()

    return change


def with_heat_map(kind: object, in_settings: bool = False) -> Change:
    """A change of the kind of heat maps; early checkpoints of `train run` have it in their settings only."""

    def change(checkpoint: Checkpoint) -> None:
        (checkpoint.setdefault("training_config", {}) if in_settings else checkpoint)["heat_map"] = kind

    return change


def small_model(folder: Path) -> Path:
    """Copy a small model of two folds to a folder, for modification."""
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir(parents=True)
        shutil.copyfile(FOLD, folder / f"fold_{fold}" / FOLD.name)
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(MODEL / name, folder / name)
    return folder


def refusal(action: Callable[[], Any], *parts: str) -> str:
    """Check that an action raises a WeightsError in one line that contains all parts, and return it."""
    with pytest.raises(WeightsError) as raised:
        action()
    message = str(raised.value)
    assert "expected" in message and "\n" not in message
    for part in parts:
        assert part in message
    return message
