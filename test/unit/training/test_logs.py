"""The record of a run, read back."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.training.logs import CURVE_FILE, LOG_FILE, EpochLog, EpochRecord

pytestmark = pytest.mark.usefixtures("curves")


def _record(epoch: int, loss: float = -0.5) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        learning_rate=0.01,
        training_loss=loss,
        validation_loss=-0.4,
        dice=0.5,
        ema_dice=0.45,
        predicted_voxels=10.0,
        reference_voxels=12.0,
        training_seconds=2.0,
        waiting_seconds=0.1,
        validation_seconds=0.5,
        samples_per_second=8.0,
    )


def _epochs(folder: Path) -> list[str]:
    with (folder / LOG_FILE).open(newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def test_tensorboard_and_csv_hold_the_same_figures(tmp_path: Path) -> None:
    log = EpochLog(tmp_path, 0)
    for epoch in range(3):
        log.add(_record(epoch, loss=-0.1 * epoch))
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(event.step, round(event.value, 6)) for event in board.Scalars("training_loss")]
    assert losses == [(0, 0.0), (1, -0.1), (2, -0.2)]
    assert {event.value for event in board.Scalars("samples_per_second")} == {8.0}
    assert _epochs(tmp_path) == ["0", "1", "2"]
    assert (tmp_path / CURVE_FILE).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_resumed_run_replaces_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    first = EpochLog(tmp_path, 0)
    for epoch in range(4):
        first.add(_record(epoch, loss=-0.1))
    first.close()
    time.sleep(1.1)  # TensorBoard orders files by the second in their names, then by a number as text
    again = EpochLog(tmp_path, 2)
    assert [record.epoch for record in again.records] == [0, 1]
    again.add(_record(2, loss=-0.9))
    again.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    last = {event.step: round(event.value, 6) for event in board.Scalars("training_loss")}
    assert last == {0: -0.1, 1: -0.1, 2: -0.9}
    assert _epochs(tmp_path) == ["0", "1", "2"]
