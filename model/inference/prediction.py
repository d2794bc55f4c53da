"""Predictions of single patches, and the encoding of patches in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from ..network.resample import FloatVolume
from .fold_agreement import VoteCounts
from .memory import is_out_of_memory

log = logging.getLogger(__name__)

Encode = Callable[[], FloatVolume]
"""Makes the input channels of one patch, float32 [C, *patch]."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction of one patch.

    Attributes:
        index: of the patch in the call of `Ensemble.predict`.
        margin: foreground minus background logit, summed over the folds, float32 of the patch's shape; None
            if the prediction failed.
        error: why it failed.
        votes: of the folds on the patch's voxels; None if they were not counted.
        organs: logits of organs, summed over the folds, float32 [classes, *patch]; None if the network has no
            heads for them.
    """

    index: int
    margin: FloatVolume | None
    error: Exception | None = None
    votes: VoteCounts | None = None
    organs: FloatVolume | None = None

    @property
    def probability(self) -> FloatVolume:
        """Foreground probability, float32 of the patch's shape."""
        assert self.margin is not None
        return foreground_probability(self.margin)


def foreground_probability(margin: FloatVolume) -> FloatVolume:
    """Softmax of two classes.

    Args:
        margin: foreground minus background logit, float32 of any shape.

    Returns:
        Probabilities 0 to 1, float32 of the same shape.
    """
    values: FloatVolume = torch.sigmoid(torch.from_numpy(margin)).numpy()
    return values


def encode_all(
    indices: Sequence[int], encode: Sequence[Encode]
) -> tuple[list[tuple[int, FloatVolume]], list[Prediction]]:
    """Encode some of the patches.

    Args:
        indices: positions in ``encode``.
        encode: makes the channels of each patch, float32 [C, *patch].

    Returns:
        (index, channels) of the encoded patches, and the failures of the others.
    """
    prepared, failed = [], []
    for index in indices:
        try:
            prepared.append((index, encode[index]()))
        except Exception as error:  # a failure must not affect other lesions
            if is_out_of_memory(error):
                raise
            log.exception("a lesion could not be encoded")
            failed.append(Prediction(index, None, error))
    return prepared, failed


def checked_prediction(index: int, scores: FloatVolume, votes: VoteCounts | None = None) -> Prediction:
    """Make a prediction of the scores of a patch; a failure if they are not finite.

    Args:
        index: of the patch.
        scores: foreground minus background logit and, if there are any, the logits of organs, float32
            [1 + organs, *patch].
        votes: of the folds.
    """
    if np.isfinite(scores).all():
        return Prediction(index, scores[0], votes=votes, organs=scores[1:] if len(scores) > 1 else None)
    return Prediction(index, None, ArithmeticError("the network's output is not finite"))


_Item = TypeVar("_Item")


def in_batches(items: Sequence[_Item], size: int) -> Iterator[list[_Item]]:
    """Split items into lists of a size; the last may be shorter."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
