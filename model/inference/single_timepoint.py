"""Single-time-point networks of LesionLocator ([Rokuss2025]): one scan and one prompt per lesion.

Unlike the published code, this module does not crop scans to non-zero voxels, does not ignore the position of
voxel centres when scaling points, does not compute in half precision, resamples probabilities (not logits) to
the scan, and does not register with the tracking checkpoint's own network. A prompt that comes out empty is
never moved to a random position.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..case.case import LesionPrompt, LesionResult
from ..case.geometry import Box, Index
from ..case.labelmaps import bounding_box
from ..errors import InputError
from ..network.encoding import PromptMap, ball_prompt, box_prompt, encode_prompted, mask_prompt
from ..network.input_variants import PromptNetwork
from ..network.patches import NetworkGrid, network_grid
from ..network.plan import Plan
from ..network.tiles import centred_tile, window_tiles
from ..timing import Timings
from .load import LoadedModel
from .segmenter import LesionFailure, TiledLesion, segment_tiles

log = logging.getLogger(__name__)


class SingleTimePointSegmenter:
    """Segments lesions from a mask, a box or a point in their follow-up scan; the baseline is not used.

    The most specific prompt of a lesion is used: ``followup_mask``, otherwise ``followup_box``, otherwise
    ``followup_point``; prompts that are empty or outside the scan are skipped. The network depends on it:

    - mask: the tracking network, published for masks warped from the previous time point; if it is missing,
      the box network with the mask's box;
    - box: the box network, otherwise the tracking network;
    - point: the point network, otherwise the tracking network (also trained with points and boxes).

    Args:
        models: available networks, as loaded by `load_single_time_point`; at least one.
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
        """Segment each prompt once, network by network.

        Raises:
            MemoryExhaustedError: out of memory even with the smallest batches and on the CPU.
        """
        lesions: dict[PromptNetwork, list[TiledLesion]] = {}
        for prompt in prompts:
            try:
                with self._timings.stage("patches"):
                    network, lesion = self._choose_network(prompt)
            except Exception as error:
                unexpected = None if isinstance(error, InputError) else error
                log.warning(
                    "lesion %d has no usable prompt: %s", prompt.lesion_id, error, exc_info=unexpected
                )
                yield LesionFailure(prompt, error)
            else:
                lesions.setdefault(network, []).append(lesion)
        for network, chosen in lesions.items():
            ensemble = self._models[network].ensemble
            yield from segment_tiles(chosen, ensemble, self._timings, self._keep_support, average=True)

    def _choose_network(self, prompt: LesionPrompt) -> tuple[PromptNetwork, TiledLesion]:
        """Use the first kind of prompt that is not empty and that an available network takes."""
        for kind in _PROMPT_PRECEDENCE:
            if kind.network not in self._models:
                continue
            plan = self._models[kind.network].plan
            grid = network_grid(prompt.followup.geometry, plan)
            drawn = kind.draw(prompt, grid)
            if drawn is None:
                continue
            if prompt.followup_mask is not None and not kind.is_mask:
                log.warning("lesion %d: its mask cannot be used, its %s is used", prompt.lesion_id, kind.name)
            return kind.network, _tiled_lesion(prompt, drawn, grid, plan)
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
class _NetworkPrompt:
    """A kind of prompt: how it is drawn, and for which network."""

    name: str
    draw: Callable[[LesionPrompt, NetworkGrid], PromptMap | None]
    network: PromptNetwork
    is_mask: bool = False


_PROMPT_PRECEDENCE = (
    _NetworkPrompt("mask", _mask, PromptNetwork.TRACK, is_mask=True),
    _NetworkPrompt("mask's box", _box_of_mask, PromptNetwork.BOX, is_mask=True),
    _NetworkPrompt("box", _box, PromptNetwork.BOX),
    _NetworkPrompt("box", _box, PromptNetwork.TRACK),
    _NetworkPrompt("point", _point, PromptNetwork.POINT),
    _NetworkPrompt("point", _point, PromptNetwork.TRACK),
)


def _tiled_lesion(prompt: LesionPrompt, drawn: PromptMap, grid: NetworkGrid, plan: Plan) -> TiledLesion:
    tiles = prompt_tiles(drawn, grid.shape, plan.patch_size_zyx)
    if len(tiles) > 1:
        log.info("lesion %d: larger than one patch, %d are used", prompt.lesion_id, len(tiles))
    encode = [partial(encode_prompted, prompt.followup, drawn, grid, tile, plan) for tile in tiles]
    return TiledLesion(prompt, grid, tuple(tiles), tuple(encode))


def prompt_tiles(drawn: PromptMap, shape: Index, patch_size: Index) -> list[Box]:
    """Patches for a prompt: one around its centre if the prompt fits into it, otherwise a sliding window's.

    As in [Rokuss2025]'s code, a patch is centred on a box or ball, and on a mask's centre of mass; a single
    patch always contains the whole prompt.

    Args:
        drawn: the prompt on the network grid.
        shape: shape of the network grid, voxels in the plan's axis order.
        patch_size: likewise.

    Returns:
        Boxes on the network grid; they may extend beyond the image. Windows that do not touch the prompt are
        left out.
    """
    extent = drawn.box
    if all(length <= patch for length, patch in zip(extent.shape_zyx, patch_size, strict=True)):
        return [centred_tile(drawn.centre, extent, shape, patch_size)]
    return window_tiles(extent, shape, patch_size)
