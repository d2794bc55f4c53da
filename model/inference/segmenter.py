"""Prompts in, one answer per lesion out: encode, predict with all folds, bring back to the scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from scipy.ndimage import find_objects

from ..case.case import LesionPrompt, LesionResult
from ..case.geometry import Box
from ..network.patches import NetworkGrid, Placement, paste_back
from ..network.plan import Plan
from ..network.prompts import encode_lesion
from ..network.resample import FloatVolume
from ..timing import Timings
from .ensemble import Ensemble, Prediction

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LesionFailure:
    """A lesion whose computation failed; the others are not touched by it."""

    prompt: LesionPrompt
    error: Exception


class LesionSegmenter(Protocol):
    """Anything that answers prompts; `Segmenter` is the longitudinal model's."""

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once, in any order; a lesion's failure is its answer, never raised."""
        ...


class Segmenter:
    """The whole way of a lesion through the network, for any number of lesions.

    Args:
        keep_support: keep the probabilities of the whole patch, not only of the lesion.
    """

    def __init__(
        self, plan: Plan, ensemble: Ensemble, timings: Timings | None = None, keep_support: bool = False
    ) -> None:
        self._plan = plan
        self._ensemble = ensemble
        self._timings = timings or Timings()
        self._keep_support = keep_support

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once, in the order in which they are done.

        Raises:
            MemoryExhaustedError: out of memory after every smaller way of computing.
        """
        placed: dict[int, tuple[Placement, NetworkGrid]] = {}

        def encode(index: int) -> FloatVolume:
            with self._timings.stage("patches"):
                encoded = encode_lesion(prompts[index], self._plan)
            placed[index] = (encoded.placement, encoded.followup_grid)
            return encoded.channels

        predictions = self._ensemble.predict([partial(encode, index) for index in range(len(prompts))])
        while True:
            with self._timings.stage("predict"):  # patches are made within it, and counted on their own too
                prediction = next(predictions, None)
            if prediction is None:
                return
            yield self._answer(prompts[prediction.index], prediction, placed)

    def _answer(
        self, prompt: LesionPrompt, prediction: Prediction, placed: dict[int, tuple[Placement, NetworkGrid]]
    ) -> LesionResult | LesionFailure:
        if prediction.error is not None:
            return LesionFailure(prompt, prediction.error)
        try:
            with self._timings.stage("export"):
                placement, grid = placed.pop(prediction.index)
                support, values = paste_back(prediction.probability, placement.followup, grid)
                return lesion_result(prompt, support, values, self._keep_support)
        except Exception as error:
            log.exception("lesion %d could not be brought back to its scan", prompt.lesion_id)
            return LesionFailure(prompt, error)


def lesion_result(
    prompt: LesionPrompt, support: Box, values: FloatVolume, keep_support: bool = False
) -> LesionResult:
    """Keep what merging needs of a lesion: the smallest box round its voxels above one half."""
    found = find_objects((values > 0.5).astype(np.uint8))
    slices = found[0] if found else (slice(0, 0),) * 3
    inner = Box(
        (slices[0].start, slices[1].start, slices[2].start), (slices[0].stop, slices[1].stop, slices[2].stop)
    )
    return LesionResult(
        prompt=prompt,
        box=inner.shifted(support.start_zyx),
        probability=values[slices].copy(),
        support=support if keep_support else None,
        support_probability=values if keep_support else None,
    )
