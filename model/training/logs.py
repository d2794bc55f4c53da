"""The record of a run: a CSV with a row per epoch, its curves as PNG, and TensorBoard files.

Curves and TensorBoard files need matplotlib and tensorboard; without them only the CSV is written.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..case.atomic_files import atomic_write
from ..errors import one_line

log = logging.getLogger(__name__)

LOG_FILE, CURVE_FILE = "log.csv", "curve.png"
_SECONDS_BETWEEN_CURVES = 60.0


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Figures of one epoch.

    Losses are cross-entropy minus Dice. ``dice`` is computed over all validation voxels together.
    ``waiting_seconds`` are the part of ``training_seconds`` spent waiting for samples.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    dice: float
    ema_dice: float
    predicted_voxels: float
    reference_voxels: float
    training_seconds: float
    waiting_seconds: float
    validation_seconds: float
    samples_per_second: float


class EpochLog:
    """Writes the record of a fold into its folder; a resumed run keeps the rows before its first epoch."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        """Open the record.

        Args:
            folder: of the fold.
            first_epoch: epoch that the run begins or resumes with.

        Raises:
            OutputError: the folder cannot be written to.
        """
        self._folder = folder
        path = folder / LOG_FILE
        with atomic_write(path) as temporary:
            self.records = read_epochs(path, first_epoch)
            _write(temporary, self.records)
        self._board: Any = None
        with self._board_errors():
            self._board = _tensorboard(folder, first_epoch)
        self._drawn = time.monotonic()

    def add(self, record: EpochRecord) -> None:
        """Append an epoch. The curves are drawn at most once a minute.

        Raises:
            OutputError: the record cannot be written; the earlier one is left.
        """
        self.records.append(record)
        with atomic_write(self._folder / LOG_FILE) as temporary:
            _write(temporary, self.records)
        with self._board_errors():
            for name, value in asdict(record).items() if self._board is not None else ():
                self._board.add_scalar(name, value, record.epoch)
        if time.monotonic() - self._drawn > _SECONDS_BETWEEN_CURVES:
            self.draw()

    def close(self) -> None:
        """Draw the final curves and close the TensorBoard file."""
        self.draw()
        with self._board_errors():
            if self._board is not None:
                self._board.close()

    @contextmanager
    def _board_errors(self) -> Iterator[None]:
        """Do without the TensorBoard file from its first error on: it only shows what the CSV holds."""
        try:
            yield
        except Exception as error:
            self._board = None
            log.warning("%s: no TensorBoard file is written (%s)", self._folder, one_line(error))

    def draw(self) -> None:
        """Draw the curves as PNG, if matplotlib is installed and finds a place for its cache.

        Raises:
            OutputError: the picture cannot be written.
        """
        self._drawn = time.monotonic()
        try:
            from matplotlib.figure import Figure
        except (ImportError, OSError):
            return
        figure = Figure(figsize=(8, 5), layout="constrained")
        losses, dices = figure.subplots(2, 1, sharex=True)
        epochs = [record.epoch for record in self.records]
        losses.plot(epochs, [record.training_loss for record in self.records], label="training")
        losses.plot(epochs, [record.validation_loss for record in self.records], label="validation")
        dices.plot(epochs, [record.dice for record in self.records], alpha=0.5, label="validation")
        dices.plot(epochs, [record.ema_dice for record in self.records], label="its moving average")
        losses.set_ylabel("loss (cross-entropy - Dice)")
        dices.set(xlabel="epoch", ylabel="Dice of all voxels", ylim=(0, 1))
        for axes in (losses, dices):
            axes.grid(alpha=0.3)
            axes.legend()
        with atomic_write(self._folder / CURVE_FILE) as temporary:
            figure.savefig(temporary, dpi=120, format="png")


def read_epochs(path: Path, before: float = math.inf) -> list[EpochRecord]:
    """Read the complete rows of a log; none if there is no log.

    Args:
        path: a fold's `log.csv`.
        before: rows of this epoch and later ones are left out.
    """
    if not path.is_file():
        return []
    names, records = [field.name for field in fields(EpochRecord)], []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            try:
                values: dict[str, Any] = {name: float(row[name]) for name in names}
                values["epoch"] = int(values["epoch"])
            except (KeyError, TypeError, ValueError, OverflowError):
                continue  # truncated when the run was stopped
            if values["epoch"] < before:
                records.append(EpochRecord(**values))
    return records


def _write(path: Path, records: Sequence[EpochRecord]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(EpochRecord))
        writer.writerows(asdict(record).values() for record in records)


def _tensorboard(folder: Path, first_epoch: int) -> Any:
    """A writer of TensorBoard files; None if the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)
