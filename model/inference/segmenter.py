"""Segment lesions from their prompts: encode patches, predict with all folds, resample to the scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from ..case.case import LesionPrompt, LesionResult, Scan
from ..case.geometry import Box
from ..case.labelmaps import bounding_box, label_boxes
from ..network.encoding import HeatMap, PlacedLesion, encode_lesion, encode_patches, place_lesion
from ..network.patches import NetworkGrid, Placement, paste_back
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..network.tiles import Blend, lesion_tiles
from ..timing import Timings
from .ensemble import Ensemble
from .fold_agreement import VoteCounts, total_counts
from .prediction import Encode, Prediction, foreground_probability

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LesionFailure:
    """A lesion that could not be segmented; other lesions are not affected."""

    prompt: LesionPrompt
    error: Exception


class LesionSegmenter(Protocol):
    """Segments lesions from prompts; `Segmenter` is that of the longitudinal model."""

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Yield one result or failure per prompt, in any order; a failure of a lesion is not raised."""
        ...


@dataclass(frozen=True, eq=False)
class TiledLesion:
    """A lesion as one or more patches ("tiles") of its follow-up.

    Attributes:
        prompt: of the lesion.
        grid: network grid of the follow-up.
        tiles: boxes on that grid; a tile may reach beyond the image.
        encode: makes the input channels of each tile.
    """

    prompt: LesionPrompt
    grid: NetworkGrid
    tiles: tuple[Box, ...]
    encode: tuple[Encode, ...]


class Segmenter:
    """Segments lesions with the longitudinal network.

    Args:
        plan: recipe of the network.
        ensemble: its folds.
        timings: stopwatch for the stages; None starts one.
        keep_support: keep the probabilities of the whole patch, not only of the lesion.
        tiles: use several patches for a lesion whose baseline mask is larger than one patch (networks
            without a mask channel always use one). Lesions that fit into one patch are not affected.
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
        self._uses_tiles = tiles and ensemble.variant.takes_mask
        self._boxes: WeakKeyDictionary[Scan, dict[int, Box]] = WeakKeyDictionary()

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Segment each prompt once; results come in the order in which they are done.

        Raises:
            MemoryExhaustedError: out of memory on every rung of the memory ladder.
        """
        lesions = []
        for prompt in prompts:
            try:
                with self._timings.stage("patches"):
                    lesions.append(self._tiled(prompt))
            except Exception as error:
                log.exception("lesion %d: its patches could not be placed", prompt.lesion_id)
                yield LesionFailure(prompt, error)
        yield from segment_tiles(lesions, self._ensemble, self._timings, self._keep_support)

    def _tiled(self, prompt: LesionPrompt) -> TiledLesion:
        rounds = self._ensemble.options.rounds_points
        lesion = place_lesion(prompt, self._plan, rounds)
        first, *others = self._pairs(lesion)
        kind = self._ensemble.heat_map
        encode: list[Encode] = [partial(_first_channels, prompt, self._plan, kind, rounds)]
        encode += [partial(encode_patches, lesion, pair, self._plan, kind) for pair in others]
        tiles = tuple(pair.followup for pair in (first, *others))
        return TiledLesion(prompt, lesion.followup_grid, tiles, tuple(encode))

    def _pairs(self, lesion: PlacedLesion) -> list[Placement]:
        """The pair of patches at the points, and more pairs if the baseline mask does not fit into it."""
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
        """Box of the lesion in its baseline mask; a mask is searched once for all of its lesions."""
        scan = prompt.baseline
        if scan not in self._boxes:
            self._boxes[scan] = label_boxes(scan.mask)
        return self._boxes[scan].get(prompt.lesion_id)


def _first_channels(prompt: LesionPrompt, plan: Plan, kind: HeatMap, rounds_points: bool) -> FloatVolume:
    return encode_lesion(prompt, plan, kind, rounds_points).channels


def segment_tiles(
    lesions: Sequence[TiledLesion],
    ensemble: Ensemble,
    timings: Timings,
    keep_support: bool = False,
    average: bool = False,
) -> Iterator[LesionResult | LesionFailure]:
    """Predict all tiles, and yield each lesion when its last tile is done.

    Several tiles of a lesion are blended on the network grid; a single tile is used as it is. If a tile
    fails, its lesion fails.

    Args:
        lesions: their tiles and encodings.
        ensemble: of the network.
        timings: stopwatch for the stages.
        keep_support: keep the probabilities of all tiles, not only of the lesion.
        average: use the mean of the folds' logits instead of their sum.

    Raises:
        MemoryExhaustedError: out of memory on every rung of the memory ladder.
    """
    jobs = [(index, number) for index, lesion in enumerate(lesions) for number in range(len(lesion.tiles))]
    incomplete: dict[int, _TileCollector] = {}
    scale = 1 / len(ensemble.folds) if average else None

    def encode(index: int, number: int) -> FloatVolume:
        with timings.stage("patches"):
            return lesions[index].encode[number]()

    predictions = ensemble.predict([partial(encode, *job) for job in jobs])
    while True:
        with timings.stage("predict"):  # includes encoding, which is also timed on its own
            prediction = next(predictions, None)
        if prediction is None:
            return
        index, number = jobs[prediction.index]
        collector = incomplete.setdefault(index, _TileCollector(lesions[index], scale))
        with timings.stage("export"):
            collector.add(number, prediction)
            result = collector.result(keep_support) if collector.is_complete else None
        if result is not None:
            del incomplete[index]
            yield result


class _TileCollector:
    """Predictions of one lesion's tiles; after a first error the others are ignored."""

    def __init__(self, lesion: TiledLesion, scale: float | None) -> None:
        self._lesion = lesion
        self._scale = scale
        self._missing = len(lesion.tiles)
        self._blend: Blend | None = None
        self._margin: FloatVolume | None = None
        self._error: Exception | None = None
        self._votes: list[VoteCounts | None] = []

    @property
    def is_complete(self) -> bool:
        return not self._missing

    def add(self, number: int, prediction: Prediction) -> None:
        self._missing -= 1
        if self._error is not None:
            return
        try:
            if prediction.margin is None:
                self._error = prediction.error or RuntimeError("no prediction")
                return
            self._votes.append(prediction.votes)
            margin = prediction.margin if self._scale is None else prediction.margin * np.float32(self._scale)
            if len(self._lesion.tiles) == 1:
                self._margin = margin
                return
            self._blend = self._blend or Blend(self._lesion.tiles)
            self._blend.add(self._lesion.tiles[number], margin)
        except Exception as error:
            self._error = error

    def result(self, keep_support: bool) -> LesionResult | LesionFailure:
        prompt = self._lesion.prompt
        if self._error is not None:
            return LesionFailure(prompt, self._error)
        try:
            box, margin = self._lesion.tiles[0], self._margin
            if self._blend is not None:
                box, margin = self._blend.box, self._blend.margin()
            assert margin is not None
            support, values = paste_back(foreground_probability(margin), box, self._lesion.grid)
            result = lesion_result(prompt, support, values, keep_support)
            return replace(result, fold_votes=total_counts(self._votes))
        except Exception as error:
            log.exception("lesion %d could not be resampled to its scan", prompt.lesion_id)
            return LesionFailure(prompt, error)


def lesion_result(
    prompt: LesionPrompt, support: Box, values: FloatVolume, keep_support: bool = False
) -> LesionResult:
    """Crop probabilities to the smallest box around the voxels above one half.

    Args:
        prompt: of the lesion.
        support: box of the probabilities on the follow-up's axial grid, in voxels.
        values: foreground probabilities, float32 (z, y, x) of the box's shape.
        keep_support: keep the probabilities of the whole box as well.
    """
    inner = bounding_box(values > 0.5) or Box((0, 0, 0), (0, 0, 0))
    return LesionResult(
        prompt=prompt,
        box=inner.shifted(support.start_zyx),
        probability=values[inner.slices].copy(),
        support=support if keep_support else None,
        support_probability=values if keep_support else None,
    )
