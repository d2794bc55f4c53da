"""Prompts in, one answer per lesion out: encode, predict with all folds, bring back to the scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from ..case.case import LesionPrompt, LesionResult, Scan
from ..case.geometry import Box
from ..case.labelmaps import bounding_box, label_boxes
from ..network.encoding import CHANNELS, HeatMap, PlacedLesion, encode_lesion, encode_patches, place_lesion
from ..network.patches import NetworkGrid, Placement, paste_back
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..network.tiles import Blend, lesion_tiles
from ..timing import Timings
from .ensemble import Ensemble
from .prediction import Encode, Prediction, foreground_probability

log = logging.getLogger(__name__)

_MASK_CHANNEL = CHANNELS.index("baseline mask")


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


@dataclass(frozen=True, eq=False)
class TiledLesion:
    """A lesion as the network is asked: one patch of its follow-up or more, and how to make each.

    ``grid`` is the follow-up's; a tile may reach beyond the image. ``encode`` has one function per tile.
    """

    prompt: LesionPrompt
    grid: NetworkGrid
    tiles: tuple[Box, ...]
    encode: tuple[Encode, ...]


class Segmenter:
    """The whole way of a lesion through the longitudinal network, for any number of lesions.

    Args:
        keep_support: keep the probabilities of the whole patch, not only of the lesion.
        tiles: use several patches for a lesion whose baseline mask is larger than one (networks that take
            no mask always use one). A lesion that fits is answered as without.
    """

    def __init__(
        self,
        plan: Plan,
        ensemble: Ensemble,
        timings: Timings | None = None,
        keep_support: bool = False,
        tiles: bool = True,
    ) -> None:
        self._plan = plan
        self._ensemble = ensemble
        self._timings = timings or Timings()
        self._keep_support = keep_support
        self._uses_tiles = tiles and _MASK_CHANNEL in ensemble.variant.channels
        self._boxes: WeakKeyDictionary[Scan, dict[int, Box]] = WeakKeyDictionary()

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once, in the order in which they are done.

        Raises:
            MemoryExhaustedError: out of memory after every smaller way of computing.
        """
        lesions = []
        for prompt in prompts:
            try:
                with self._timings.stage("patches"):
                    lesions.append(self._tiled(prompt))
            except Exception as error:
                log.exception("lesion %d could not be placed", prompt.lesion_id)
                yield LesionFailure(prompt, error)
        yield from segment_tiles(lesions, self._ensemble, self._timings, self._keep_support)

    def _tiled(self, prompt: LesionPrompt) -> TiledLesion:
        lesion = place_lesion(prompt, self._plan)
        usual, *others = self._pairs(lesion)
        kind = self._ensemble.heat_map
        encode: list[Encode] = [partial(_usual_channels, prompt, self._plan, kind)]
        encode += [partial(encode_patches, lesion, pair, self._plan, kind) for pair in others]
        tiles = tuple(pair.followup for pair in (usual, *others))
        return TiledLesion(prompt, lesion.followup_grid, tiles, tuple(encode))

    def _pairs(self, lesion: PlacedLesion) -> list[Placement]:
        """The usual pair of patches, and others where the baseline mask does not fit into it."""
        prompt, placement = lesion.prompt, lesion.placement
        labelled = self._labelled(prompt) if self._uses_tiles and prompt.has_mask else None
        if labelled is None:
            return [placement]
        pairs = lesion_tiles(
            prompt.baseline,
            prompt.lesion_id,
            labelled,
            placement,
            lesion.baseline_grid,
            lesion.followup_grid.shape,
        )
        if len(pairs) > 1:
            log.info("lesion %d: larger than one patch, %d are used", prompt.lesion_id, len(pairs))
        return pairs

    def _labelled(self, prompt: LesionPrompt) -> Box | None:
        """The lesion's box in its baseline mask; a mask is searched once for all of its lesions."""
        scan = prompt.baseline
        if scan not in self._boxes:
            self._boxes[scan] = label_boxes(scan.mask)
        return self._boxes[scan].get(prompt.lesion_id)


def _usual_channels(prompt: LesionPrompt, plan: Plan, kind: HeatMap) -> FloatVolume:
    return encode_lesion(prompt, plan, kind).channels


def segment_tiles(
    lesions: Sequence[TiledLesion],
    ensemble: Ensemble,
    timings: Timings,
    keep_support: bool = False,
    average: bool = False,
) -> Iterator[LesionResult | LesionFailure]:
    """Predict every tile, and answer each lesion as soon as its last one is done.

    Tiles of one lesion are blended on the network grid; of one tile the numbers stay as they are. A tile
    that fails is its lesion's failure.

    Args:
        average: take the mean of the folds' logits instead of their sum.

    Raises:
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    jobs = [(index, number) for index, lesion in enumerate(lesions) for number in range(len(lesion.tiles))]
    gathered: dict[int, _Gathered] = {}
    scale = 1 / len(ensemble.folds) if average else None

    def encode(index: int, number: int) -> FloatVolume:
        with timings.stage("patches"):
            return lesions[index].encode[number]()

    predictions = ensemble.predict([partial(encode, *job) for job in jobs])
    while True:
        with timings.stage("predict"):  # patches are made within it, and counted on their own too
            prediction = next(predictions, None)
        if prediction is None:
            return
        index, number = jobs[prediction.index]
        parts = gathered.setdefault(index, _Gathered(lesions[index], scale))
        with timings.stage("export"):
            parts.take(number, prediction)
            answer = parts.answer(keep_support) if parts.is_whole else None
        if answer is not None:
            del gathered[index]
            yield answer


class _Gathered:
    """What has come in of one lesion's tiles; after a first error the rest is not looked at."""

    def __init__(self, lesion: TiledLesion, scale: float | None) -> None:
        self._lesion = lesion
        self._scale = scale
        self._missing = len(lesion.tiles)
        self._blend: Blend | None = None
        self._margin: FloatVolume | None = None
        self._error: Exception | None = None

    @property
    def is_whole(self) -> bool:
        return not self._missing

    def take(self, number: int, prediction: Prediction) -> None:
        self._missing -= 1
        if self._error is not None:
            return
        try:
            if prediction.margin is None:
                self._error = prediction.error or RuntimeError("no answer")
                return
            margin = prediction.margin if self._scale is None else prediction.margin * np.float32(self._scale)
            if len(self._lesion.tiles) == 1:
                self._margin = margin
                return
            self._blend = self._blend or Blend(self._lesion.tiles)
            self._blend.add(self._lesion.tiles[number], margin)
        except Exception as error:
            self._error = error

    def answer(self, keep_support: bool) -> LesionResult | LesionFailure:
        prompt = self._lesion.prompt
        if self._error is not None:
            return LesionFailure(prompt, self._error)
        try:
            box, margin = self._lesion.tiles[0], self._margin
            if self._blend is not None:
                box, margin = self._blend.box, self._blend.margin()
            assert margin is not None
            support, values = paste_back(foreground_probability(margin), box, self._lesion.grid)
            return lesion_result(prompt, support, values, keep_support)
        except Exception as error:
            log.exception("lesion %d could not be brought back to its scan", prompt.lesion_id)
            return LesionFailure(prompt, error)


def lesion_result(
    prompt: LesionPrompt, support: Box, values: FloatVolume, keep_support: bool = False
) -> LesionResult:
    """Keep what merging needs of a lesion: the smallest box round its voxels above one half."""
    inner = bounding_box(values > 0.5) or Box((0, 0, 0), (0, 0, 0))
    return LesionResult(
        prompt=prompt,
        box=inner.shifted(support.start_zyx),
        probability=values[inner.slices].copy(),
        support=support if keep_support else None,
        support_probability=values if keep_support else None,
    )
