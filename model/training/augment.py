"""From a drawn lesion to what the network learns from: patches read, transformed, prompts drawn on top.

Points go through the same transform as images and masks, and the heat maps are drawn round them
afterwards by the function that inference uses: they are round whatever was done to the patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.geometry import AxisMap, Box, Index
from ..network.encoding import CHANNELS, HeatMap, heat_map
from ..network.input_variants import InputVariant
from ..network.patches import NetworkGrid
from ..network.resample import FloatVolume
from .augment_intensity import change_intensities
from .augment_spatial import Spatial, draw_spatial, identity, is_flat
from .config import TrainingConfig, Variant
from .sampler import Draw

VARIANTS: dict[Variant, InputVariant] = {
    "longitudinal": InputVariant.LONGITUDINAL,
    "mask-and-point": InputVariant.POINT_MASK,
    "point": InputVariant.POINT,
}
_FOLLOWUP_CT, _BASELINE_CT, _BASELINE_MASK, _FOLLOWUP_MAP, _BASELINE_MAP = range(len(CHANNELS))
_TARGET = -1


@dataclass(frozen=True, eq=False)
class Sample:
    """``channels`` float32 [C, *patch] of the variant, in the order of `prompts.CHANNELS`; ``target`` uint8
    [*patch], 1 where the lesion is in the follow-up."""

    channels: FloatVolume
    target: npt.NDArray[np.uint8]


def make_sample(draw: Draw, config: TrainingConfig, rng: np.random.Generator, augmented: bool) -> Sample:
    """Read a drawn lesion's patches and make them the network's input and target."""
    shape = draw.followup_patch.shape_zyx
    transform = draw_spatial(config, shape, draw.point_in_patch, rng) if augmented else identity(shape)
    wanted = VARIANTS[config.variant].channels
    volumes = _moved_volumes(draw, transform, wanted)
    kind = HeatMap(config.heat_map)
    images = [channel for channel in (_FOLLOWUP_CT, _BASELINE_CT) if channel in volumes]
    if augmented and config.intensity:
        stack = np.stack([volumes[channel] for channel in images])
        changed = change_intensities(stack, is_flat(shape), rng)
        volumes |= dict(zip(images, changed, strict=True))
    for channel, patch, whole in (
        (_FOLLOWUP_MAP, draw.followup_patch, draw.pair.followup.shape_zyx),
        (_BASELINE_MAP, draw.baseline_patch, draw.pair.baseline.shape_zyx),
    ):
        if channel in wanted:
            image = Box.of_shape(whole).relative_to(patch)
            volumes[channel] = prompt_map(draw.point_in_patch, image, transform, kind)
    target = (volumes[_TARGET] > 0.5).astype(np.uint8)
    return Sample(np.stack([volumes[channel] for channel in wanted]), target)


def _moved_volumes(draw: Draw, transform: Spatial, wanted: tuple[int, ...]) -> dict[int, FloatVolume]:
    """CTs, baseline mask (0 and 1) and target (soft) by channel, transformed together."""
    box = transform.source_box()
    followup = box.shifted(draw.followup_patch.start_zyx)
    baseline = box.shifted(draw.baseline_patch.start_zyx)
    volumes: dict[int, FloatVolume] = {_FOLLOWUP_CT: draw.pair.followup.read_ct(followup)}
    if _BASELINE_CT in wanted:
        volumes[_BASELINE_CT] = draw.pair.baseline.read_ct(baseline)
    if _BASELINE_MASK in wanted:
        labels = draw.pair.baseline.read_labels(baseline)
        volumes[_BASELINE_MASK] = (labels == draw.lesion.lesion_id).astype(np.float32)
    labels = draw.pair.followup.read_labels(followup)
    volumes[_TARGET] = np.isin(labels, draw.target_ids).astype(np.float32)
    moved = dict(zip(volumes, transform.volumes(np.stack(list(volumes.values()))), strict=True))
    if _BASELINE_MASK in moved:
        moved[_BASELINE_MASK] = (moved[_BASELINE_MASK] > 0.5).astype(np.float32)
    return moved


def prompt_map(point: Index, image: Box, transform: Spatial, kind: HeatMap) -> FloatVolume:
    """The heat map of a transformed point, float32 of the patch's shape.

    Args:
        point: voxel of the drawn patch.
        image: where the scan lies, in voxels of the drawn patch.
        kind: whether the map's peak is 1 or its sum.
    """
    shape = transform.shape
    z, y, x = np.rint(transform.points(np.asarray([point], np.float64))[0]).astype(int).tolist()
    valid = Box.of_shape(shape)
    if transform.is_rigid_copy:  # else the scan's border is oblique: maps are reflected at the patch's alone
        valid = _mirrored(image.intersection(valid), transform)
    start = [-a for a in valid.start_zyx]
    moved = (z + start[0], y + start[1], x + start[2])
    return heat_map(moved, Box.of_shape(shape).shifted(start), _grid(valid.shape_zyx), kind)


def _mirrored(box: Box, transform: Spatial) -> Box:
    """A box of the drawn patch in the mirrored one."""
    bounds = [
        (n - b, n - a) if turned else (a, b)
        for (a, b), n, turned in zip(box.bounds(), transform.shape, transform.mirrored, strict=True)
    ]
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


def _grid(shape: Index) -> NetworkGrid:
    """A network grid on which an image of this shape lies as it is."""
    unit = (1.0, 1.0, 1.0)
    return NetworkGrid(AxisMap(), shape, shape, unit, unit, shape)
