"""Detect folds that do not learn: a collapsed fold is stopped and reported instead of trained to its end.

[Kirchhoff2025] reports such a fold: number 4 of the run with batch size 2 ended with a Dice of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ExitCode, LongilesionError
from .config import TrainingConfig

# Half precision overflows now and then; a run that skips more steps in a row is lost.
_MAX_SKIPPED_STEPS = 10


class CollapsedFoldError(LongilesionError):
    """A fold does not learn, or no longer; its figures are meaningless."""

    exit_code = ExitCode.COLLAPSED


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check.

    Attributes:
        epoch: the epoch checked, from 0.
        misses: epochs in a row below the health floor.
        reason: why the fold has collapsed; None if it is sound.
    """

    epoch: int
    misses: int
    reason: str | None = None

    @property
    def is_sound(self) -> bool:
        """True if the fold has not collapsed."""
        return self.reason is None


class HealthCheck:
    """Checks losses and validation of each epoch, and counts the epochs in a row below the health floor."""

    def __init__(self, config: TrainingConfig, misses: int = 0) -> None:
        self._config, self.misses, self._skipped = config, misses, 0

    def loss(self, epoch: int, iteration: int, value: float, is_scaled: bool = False) -> Verdict:
        """Check the loss of a step: one that is not finite would corrupt the weights, and ends the run.

        Args:
            epoch: number of the epoch, from 0.
            iteration: number of the step in it, from 0.
            value: the loss.
            is_scaled: a gradient scaler is active; then a few such steps in a row are skipped instead.
        """
        self._skipped = 0 if math.isfinite(value) else self._skipped + 1
        if self._skipped <= (_MAX_SKIPPED_STEPS if is_scaled else 0):
            return Verdict(epoch, self.misses)
        return Verdict(epoch, self.misses, f"the loss of epoch {epoch}, iteration {iteration}, is {value}")

    def epoch(self, epoch: int, dice: float, predicted_voxels: float, reference_voxels: float) -> Verdict:
        """Check the validation of an epoch.

        Args:
            epoch: number of the epoch, from 0.
            dice: over all validation voxels; NaN if they contain no lesion.
            predicted_voxels: voxels predicted as lesion in the whole validation.
            reference_voxels: voxels of lesion in the whole validation.
        """
        config = self._config
        missed = reference_voxels > 0 and not dice >= config.health_floor
        self.misses = self.misses + 1 if missed and epoch >= config.warmup_epochs else 0
        if self.misses < config.patience_epochs:
            return Verdict(epoch, self.misses)
        outcome = "all background" if predicted_voxels == 0 else f"Dice below {config.health_floor:g}"
        reason = f"validation was {outcome} for {self.misses} epochs in a row, up to epoch {epoch}"
        return Verdict(epoch, self.misses, reason)

    def end(self, epoch: int, best: float | None) -> Verdict:
        """Check the whole run after its last epoch, as it may be too short for the patience to run out.

        A run that ends within its warm-up passes: it had no time to learn.

        Args:
            epoch: number of the last epoch, from 0.
            best: best moving average of the validation Dice, or None.
        """
        is_warm = epoch >= self._config.warmup_epochs
        if is_warm and best is not None and best < self._config.health_floor:
            return Verdict(epoch, self.misses, f"the best validation Dice (moving average) is {best:.4f}")
        return Verdict(epoch, self.misses)
