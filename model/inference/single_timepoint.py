"""The single-time-point networks of LesionLocator ([Rokuss2025]): one scan and one prompt per lesion.

What the published way does and this one does not: crop scans to what is not zero, scale points without
regard to where voxel centres come to lie, compute in half precision, bring logits (instead of
probabilities) back to the scan, and register with the tracking checkpoint's own network. A prompt that
comes out empty is never put at a random place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..case.case import LesionPrompt, LesionResult
from ..case.geometry import Box, Index
from ..errors import InputError
from ..network.encoding import PromptMap, ball_prompt, box_prompt, encode_prompted, mask_prompt
from ..network.patches import NetworkGrid, network_grid
from ..network.plan import Plan
from ..network.tiles import bounding_box, centred_tile, window_tiles
from ..network.variants import PromptNetwork
from ..timing import Timings
from .load import LoadedModel
from .segmenter import LesionFailure, TiledLesion, segment_tiles

log = logging.getLogger(__name__)


class SingleTimePointSegmenter:
    """Segments lesions from a mask, a box or a point in their follow-up scan; the baseline is not used.

    The most telling prompt that a lesion has is used: ``followup_mask``, else ``followup_box``, else
    ``followup_point``; one that is empty or lies outside of the scan is passed over. Which network answers:

    - a mask: the tracking one, which is published for masks warped from the time point before; without it
      the box network, which gets the mask's box;
    - a box: the box network, else the tracking one;
    - a point: the point network, else the tracking one. (It was trained with points and boxes too.)

    Args:
        models: the networks at hand, as `load_single_time_point` gives them; at least one.
        keep_support: keep the probabilities of the whole patch, not only of the lesion.
    """

    def __init__(
        self,
        models: Mapping[PromptNetwork, LoadedModel],
        timings: Timings | None = None,
        keep_support: bool = False,
    ) -> None:
        self._models = dict(models)
        self._timings = timings or Timings()
        self._keep_support = keep_support

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once, those of one network after those of another.

        Raises:
            MemoryExhaustedError: out of memory after every smaller way of computing.
        """
        lesions: dict[PromptNetwork, list[TiledLesion]] = {}
        for prompt in prompts:
            try:
                with self._timings.stage("patches"):
                    network, lesion = self._tiled(prompt)
            except Exception as error:
                unexpected = None if isinstance(error, InputError) else error
                log.warning("lesion %d cannot be placed: %s", prompt.lesion_id, error, exc_info=unexpected)
                yield LesionFailure(prompt, error)
            else:
                lesions.setdefault(network, []).append(lesion)
        for network, chosen in lesions.items():
            ensemble = self._models[network].ensemble
            yield from segment_tiles(chosen, ensemble, self._timings, self._keep_support, average=True)

    def _tiled(self, prompt: LesionPrompt) -> tuple[PromptNetwork, TiledLesion]:
        """The first way of asking for a lesion that a network at hand takes and that is not empty."""
        for way in _WAYS:
            if way.network not in self._models:
                continue
            plan = self._models[way.network].plan
            grid = network_grid(prompt.followup.geometry, plan)
            shown = way.draw(prompt, grid)
            if shown is None:
                continue
            if prompt.followup_mask is not None and not way.is_mask:
                log.warning("lesion %d: its mask cannot be used; its %s is", prompt.lesion_id, way.name)
            return way.network, _tiled_lesion(prompt, shown, grid, plan)
        raise InputError(
            f"lesion {prompt.lesion_id}: no prompt in {prompt.followup.name} can be used with "
            f"{', '.join(self._models) or 'no network'}; expected a point, box or mask that lies on the scan"
        )


def _mask(prompt: LesionPrompt, grid: NetworkGrid) -> PromptMap | None:
    return mask_prompt(prompt.followup_mask, grid) if prompt.followup_mask is not None else None


def _box_of_mask(prompt: LesionPrompt, grid: NetworkGrid) -> PromptMap | None:
    mask = prompt.followup_mask
    inner = bounding_box(mask.voxels) if mask is not None else None
    return box_prompt(inner.shifted(mask.box.start_zyx), grid) if mask is not None and inner else None


def _box(prompt: LesionPrompt, grid: NetworkGrid) -> PromptMap | None:
    return box_prompt(prompt.followup_box, grid) if prompt.followup_box is not None else None


def _point(prompt: LesionPrompt, grid: NetworkGrid) -> PromptMap | None:
    return ball_prompt(prompt.followup_point.point_zyx, grid)


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of asking for a lesion: what is drawn, for which network."""

    name: str
    draw: Callable[[LesionPrompt, NetworkGrid], PromptMap | None]
    network: PromptNetwork
    is_mask: bool = False


_WAYS = (
    _Way("mask", _mask, PromptNetwork.TRACK, is_mask=True),
    _Way("mask's box", _box_of_mask, PromptNetwork.BOX, is_mask=True),
    _Way("box", _box, PromptNetwork.BOX),
    _Way("box", _box, PromptNetwork.TRACK),
    _Way("point", _point, PromptNetwork.POINT),
    _Way("point", _point, PromptNetwork.TRACK),
)


def _tiled_lesion(prompt: LesionPrompt, shown: PromptMap, grid: NetworkGrid, plan: Plan) -> TiledLesion:
    tiles = prompt_tiles(shown, grid.shape, plan.patch_size_zyx)
    if len(tiles) > 1:
        log.info("lesion %d: larger than one patch, %d are used", prompt.lesion_id, len(tiles))
    encode = [partial(encode_prompted, prompt.followup, shown, grid, tile, plan) for tile in tiles]
    return TiledLesion(prompt, grid, tuple(tiles), tuple(encode))


def prompt_tiles(shown: PromptMap, shape: Index, patch_size: Index) -> list[Box]:
    """One patch round the centre of a prompt that fits into one, else a sliding window's tiles that touch it.

    As published: patches are centred on boxes and balls, and on a mask's centre of mass ([Rokuss2025]'s
    code); the one patch always holds the whole prompt.
    """
    extent = shown.box
    if all(length <= patch for length, patch in zip(extent.shape_zyx, patch_size, strict=True)):
        return [centred_tile(shown.centre, extent, shape, patch_size)]
    return window_tiles(extent, shape, patch_size)
