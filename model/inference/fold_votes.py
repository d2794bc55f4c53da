"""Votes of the folds on the voxels of a batch of patches, for `fold_agreement`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .fold_agreement import VoteCounts

# Of two folds it is unknown which one is odd; a fold's vote is a bit of a byte.
_LEAST_FOLDS, _MOST_FOLDS = 3, 8


class FoldVotes:
    """Collects the masks of one fold after the other for a batch of patches.

    Args:
        shape: of the margins, [B, *patch].
        folds: number of folds; outside of 3 to 8 nothing is collected.
        device: of the margins.
    """

    def __init__(self, shape: Sequence[int], folds: int, device: str = "cpu") -> None:
        is_counted = _LEAST_FOLDS <= folds <= _MOST_FOLDS
        self._votes = torch.zeros(tuple(shape), dtype=torch.uint8, device=device) if is_counted else None
        self._bins = 1 << folds

    def add(self, fold: int, margins: Tensor) -> None:
        """Add the votes of a fold.

        Args:
            fold: its number, from 0 in the order of the ensemble.
            margins: foreground minus background logit of the batch, float32 [B, *patch].
        """
        if self._votes is not None:
            self._votes |= (margins > 0).to(torch.uint8) << fold

    def counts(self, index: int) -> VoteCounts | None:
        """The votes on one patch of the batch; None if none were collected."""
        if self._votes is None:
            return None
        counts: VoteCounts = torch.bincount(self._votes[index].flatten(), minlength=self._bins).cpu().numpy()
        return counts
