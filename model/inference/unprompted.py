"""Foreground probability of a network without a prompt.

LinGuinE ([Garibli2025], section 2) keeps those candidate points of a lesion that the model classifies as
lesion without a prompt, as it is likely to find the lesion from there in other scans as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..case.case import LesionPrompt, PointSource, PromptPoint, Scan
from ..case.geometry import Box, Vector, voxel_at
from ..errors import MemoryExhaustedError, one_line
from ..network.encoding import CHANNELS, encode_patches, place_lesion
from ..network.input_variants import PromptNetwork
from ..network.patches import extract_ct, network_grid, place_patches
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..timing import Timings
from .ensemble import Ensemble
from .load import LoadedModel
from .segmenter import LesionFailure, TiledLesion, segment_tiles

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class UnpromptedModel:
    """A network that is given a scan without prompts.

    Attributes:
        tiled: builds the network's input, the patch around a prompt's point.
        is_averaged: whether the folds' logits are averaged instead of summed.
    """

    ensemble: Ensemble
    tiled: Callable[[LesionPrompt], TiledLesion]
    is_averaged: bool = False

    def __call__(self, scan: Scan, points_zyx: Sequence[Vector]) -> list[float]:
        """Predict the foreground probability at points of a scan, from one patch around the first point.

        Args:
            points_zyx: voxel indices (z, y, x) on the scan's axial grid.

        Returns:
            Probabilities, one per point; NaN for points outside the patch, and for all if the network fails.

        Raises:
            MemoryExhaustedError: out of memory even with the smallest batches and on the CPU.
        """
        point = PromptPoint(points_zyx[0], PointSource.MASK)
        prompt = LesionPrompt(1, scan, point, scan, point, has_mask=False)
        try:
            (result,) = segment_tiles(
                [self.tiled(prompt)], self.ensemble, Timings(), keep_support=True, average=self.is_averaged
            )
        except MemoryExhaustedError:
            raise
        except Exception as error:
            result = LesionFailure(prompt, error)
        if isinstance(result, LesionFailure):
            log.warning("%s without a prompt: %s", scan.name, one_line(result.error))
            return [math.nan] * len(points_zyx)
        assert result.support is not None and result.support_probability is not None
        return [_value_at(point, result.support, result.support_probability) for point in points_zyx]


def _value_at(point_zyx: Vector, box: Box, values: FloatVolume) -> float:
    index = Box.of_shape((1, 1, 1), voxel_at(point_zyx))
    if box.intersection(index).is_empty:
        return math.nan
    return float(values[index.relative_to(box).slices].item())


def unprompted_longitudinal(model: LoadedModel) -> UnpromptedModel:
    """The longitudinal network on a scan as its own baseline, with empty mask and heat map channels."""
    rounds = model.ensemble.options.rounds_points
    tiled = partial(_longitudinal_input, plan=model.plan, rounds_points=rounds)
    return UnpromptedModel(model.ensemble, tiled)


def unprompted_single_timepoint(models: Mapping[PromptNetwork, LoadedModel]) -> UnpromptedModel:
    """A single-time-point network with an empty prompt: the one for points, or the first if it is missing."""
    model = models.get(PromptNetwork.POINT) or next(iter(models.values()))
    return UnpromptedModel(
        model.ensemble, partial(_single_timepoint_input, plan=model.plan), is_averaged=True
    )


def _longitudinal_input(prompt: LesionPrompt, plan: Plan, rounds_points: bool) -> TiledLesion:
    lesion = place_lesion(prompt, plan, rounds_points)

    def encode() -> FloatVolume:
        channels = encode_patches(lesion, lesion.placement, plan)
        channels[[index for index, name in enumerate(CHANNELS) if not name.endswith("CT")]] = 0
        return channels

    return TiledLesion(prompt, lesion.followup_grid, (lesion.placement.followup,), (encode,))


def _single_timepoint_input(prompt: LesionPrompt, plan: Plan) -> TiledLesion:
    scan = prompt.followup
    grid = network_grid(scan.geometry, plan)
    index = grid.index(prompt.followup_point.point_zyx)
    tile = place_patches(index, index, grid.shape, plan.patch_size_zyx).followup

    def encode() -> FloatVolume:
        ct = extract_ct(scan, grid, tile, plan.normalization)
        return np.stack([ct, np.zeros_like(ct)])  # in the order of PROMPT_CHANNELS

    return TiledLesion(prompt, grid, (tile,), (encode,))
