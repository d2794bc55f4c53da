"""What a network says of a scan when nobody tells it where the lesion is.

LinGuinE ([Garibli2025], section 2) keeps those candidate points of a lesion that the model takes for lesion
without a prompt: it will find the lesion from there in other scans as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..case.case import LesionPrompt, PointSource, PromptPoint, Scan
from ..case.geometry import Box, Vector
from ..errors import MemoryExhaustedError, one_line
from ..network.encoding import CHANNELS, encode_patches, place_lesion
from ..network.patches import extract_ct, network_grid, place
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..network.variants import PromptNetwork
from ..timing import Timings
from .components import point_voxel
from .ensemble import Ensemble
from .load import LoadedModel
from .segmenter import LesionFailure, TiledLesion, segment_tiles

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Unguided:
    """A network without prompts; ``tiled`` makes the patch round a prompt's point that it is shown."""

    ensemble: Ensemble
    tiled: Callable[[LesionPrompt], TiledLesion]
    is_averaged: bool = False

    def __call__(self, scan: Scan, points_zyx: Sequence[Vector]) -> list[float]:
        """The probability of lesion at voxels of a scan's axial grid, in one patch round the first of them.

        NaN where the patch does not reach, and for all of them where the network fails.

        Raises:
            MemoryExhaustedError: out of memory after every smaller way of computing.
        """
        point = PromptPoint(points_zyx[0], PointSource.MASK)
        prompt = LesionPrompt(1, scan, point, scan, point, has_mask=False)
        try:
            (answer,) = segment_tiles(
                [self.tiled(prompt)], self.ensemble, Timings(), keep_support=True, average=self.is_averaged
            )
        except MemoryExhaustedError:
            raise
        except Exception as error:
            answer = LesionFailure(prompt, error)
        if isinstance(answer, LesionFailure):
            log.warning("%s without a prompt: %s", scan.name, one_line(answer.error))
            return [math.nan] * len(points_zyx)
        assert answer.support is not None and answer.support_probability is not None
        return [_value_at(point, answer.support, answer.support_probability) for point in points_zyx]


def _value_at(point_zyx: Vector, box: Box, values: FloatVolume) -> float:
    index = Box.of_shape((1, 1, 1), point_voxel(point_zyx))
    if box.intersection(index).is_empty:
        return math.nan
    return float(values[index.relative_to(box).slices].item())


def longitudinal(model: LoadedModel) -> Unguided:
    """The longitudinal network: a scan against itself, without mask and heat maps."""
    return Unguided(model.ensemble, partial(_pair_of_patches, plan=model.plan))


def single(models: Mapping[PromptNetwork, LoadedModel]) -> Unguided:
    """A single-time-point network, that for points where it is at hand, with an empty prompt."""
    model = models.get(PromptNetwork.POINT) or next(iter(models.values()))
    return Unguided(model.ensemble, partial(_patch, plan=model.plan), is_averaged=True)


def _pair_of_patches(prompt: LesionPrompt, plan: Plan) -> TiledLesion:
    lesion = place_lesion(prompt, plan)

    def encode() -> FloatVolume:
        channels = encode_patches(lesion, lesion.placement, plan)
        channels[[index for index, name in enumerate(CHANNELS) if not name.endswith("CT")]] = 0
        return channels

    return TiledLesion(prompt, lesion.followup_grid, (lesion.placement.followup,), (encode,))


def _patch(prompt: LesionPrompt, plan: Plan) -> TiledLesion:
    scan = prompt.followup
    grid = network_grid(scan.geometry, plan)
    index = grid.index(prompt.followup_point.point_zyx)
    tile = place(index, index, grid.shape, plan.patch_size_zyx).followup

    def encode() -> FloatVolume:
        ct = extract_ct(scan, grid, tile, plan.normalization)
        return np.stack([ct, np.zeros_like(ct)])  # in the order of PROMPT_CHANNELS

    return TiledLesion(prompt, grid, (tile,), (encode,))
