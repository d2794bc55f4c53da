"""Whether a fold still learns: one that has collapsed is stopped and reported, not trained to its end.

Paper 000 has such a fold: number 4 of the run with batch size 2 ended with Dice 0 (facts A1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ExitCode, LongilesionError
from .config import TrainingConfig

# Half precision overflows now and then; a run whose losses stay no numbers for longer is lost.
_SKIPPED_AT_MOST = 10


class CollapsedFoldError(LongilesionError):
    """A fold does not learn (any more); its numbers say nothing about the method."""

    exit_code = ExitCode.COLLAPSED


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is None as long as the fold is sound."""

    epoch: int
    misses: int
    reason: str | None = None

    @property
    def is_sound(self) -> bool:
        return self.reason is None


class HealthCheck:
    """Looks at each epoch's losses and validation; remembers for how many epochs nothing was hit."""

    def __init__(self, config: TrainingConfig, misses: int = 0) -> None:
        self._config, self.misses, self._skipped = config, misses, 0

    def loss(self, epoch: int, iteration: int, value: float, is_scaled: bool = False) -> Verdict:
        """After each step: a loss that is no number would spoil the weights, and ends the run.

        Args:
            is_scaled: a gradient scaler is at work; then a few such steps in a row are left out instead.
        """
        self._skipped = 0 if math.isfinite(value) else self._skipped + 1
        if self._skipped <= (_SKIPPED_AT_MOST if is_scaled else 0):
            return Verdict(epoch, self.misses)
        return Verdict(epoch, self.misses, f"the loss of epoch {epoch}, iteration {iteration}, is {value}")

    def epoch(self, epoch: int, dice: float, predicted_voxels: float, reference_voxels: float) -> Verdict:
        """After each validation.

        Args:
            epoch: from 0 on.
            dice: over all validation voxels; NaN when they hold no lesion.
            predicted_voxels: of lesion, over the whole validation.
            reference_voxels: likewise.
        """
        config = self._config
        missed = reference_voxels > 0 and not dice >= config.health_floor
        self.misses = self.misses + 1 if missed and epoch >= config.warmup_epochs else 0
        if self.misses < config.patience_epochs:
            return Verdict(epoch, self.misses)
        answer = "all background" if predicted_voxels == 0 else f"Dice below {config.health_floor:g}"
        reason = f"validation was {answer} for {self.misses} epochs in a row, up to epoch {epoch}"
        return Verdict(epoch, self.misses, reason)

    def end(self, epoch: int, best: float | None) -> Verdict:
        """After the last epoch: a run too short for the rule of patience, or one that never hit anything.

        One that ends within its warm-up had no time to learn: of it nothing is said.
        """
        is_warm = epoch >= self._config.warmup_epochs
        if is_warm and best is not None and best < self._config.health_floor:
            return Verdict(epoch, self.misses, f"the best validation Dice (moving average) is {best:.4f}")
        return Verdict(epoch, self.misses)
