"""Build a training sample from a drawn lesion: read both patches, transform them, draw the prompt maps.

Points go through the same transform as images and masks. The heat maps are drawn around the transformed
points afterwards, by the function that inference uses, so they stay round whatever was done to the patch.
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
from .augment_intensity import augment_intensity
from .augment_spatial import SpatialTransform, draw_spatial, identity_transform, is_flat
from .config import TrainingConfig
from .mask_variation import vary_mask
from .sampler import Draw
from .variant_settings import Variant

VARIANTS: dict[Variant, InputVariant] = {
    "longitudinal": InputVariant.LONGITUDINAL,
    "mask-and-point": InputVariant.POINT_MASK,
    "point": InputVariant.POINT,
    "early-fusion": InputVariant.EARLY_FUSION,
    "difference-weighting": InputVariant.DIFFERENCE_WEIGHTING,
    "interactive": InputVariant.PET_CT_CLICKS,
}
_FOLLOWUP_CT, _BASELINE_CT, _BASELINE_MASK, _FOLLOWUP_MAP, _BASELINE_MAP = range(len(CHANNELS))
_TARGET = -1


@dataclass(frozen=True, eq=False)
class Sample:
    """One input and target of the network.

    Attributes:
        channels: float32 [C, z, y, x], the channels of the variant in its order (`InputVariant.channels`).
        target: uint8 [z, y, x], 1 inside the lesion in the follow-up, 0 elsewhere.
        organs: uint8 [z, y, x], labels for the network's heads for organs; None if it has none.
    """

    channels: FloatVolume
    target: npt.NDArray[np.uint8]
    organs: npt.NDArray[np.uint8] | None = None


def make_sample(draw: Draw, config: TrainingConfig, rng: np.random.Generator, augmented: bool) -> Sample:
    """Read the patches of a drawn lesion and turn them into the network's input and target."""
    shape = draw.followup_patch.shape_zyx
    transform = (
        draw_spatial(config, shape, draw.point_in_patch, rng) if augmented else identity_transform(shape)
    )
    channels = VARIANTS[config.variant].channels
    volumes = _transformed_volumes(draw, transform, channels)
    kind = HeatMap(config.heat_map)
    images = [channel for channel in (_FOLLOWUP_CT, _BASELINE_CT) if channel in volumes]
    if augmented and config.intensity:
        stack = np.stack([volumes[channel] for channel in images])
        changed = augment_intensity(stack, is_flat(shape), rng)
        volumes |= dict(zip(images, changed, strict=True))
    for channel, patch, scan_shape in (
        (_FOLLOWUP_MAP, draw.followup_patch, draw.pair.followup.shape_zyx),
        (_BASELINE_MAP, draw.baseline_patch, draw.pair.baseline.shape_zyx),
    ):
        if channel in channels:
            image = Box.of_shape(scan_shape).relative_to(patch)
            volumes[channel] = prompt_map(draw.point_in_patch, image, transform, kind)
    # The last draw of a sample, and none if the setting is off: other settings have the same samples with and
    # without it.
    if augmented and _BASELINE_MASK in volumes and config.varied_masks and rng.random() < config.varied_masks:
        z, y, x = np.rint(transform.transform_points(np.asarray([draw.point_in_patch], np.float64))[0])
        volumes[_BASELINE_MASK] = vary_mask(volumes[_BASELINE_MASK], (int(z), int(y), int(x)), rng)
    target = (volumes[_TARGET] > 0.5).astype(np.uint8)
    return Sample(np.stack([volumes[channel] for channel in channels]), target)


def _transformed_volumes(
    draw: Draw, transform: SpatialTransform, channels: tuple[int, ...]
) -> dict[int, FloatVolume]:
    """CTs, baseline mask (0 and 1) and target (soft) by channel, transformed together."""
    box = transform.source_box()
    followup = box.shifted(draw.followup_patch.start_zyx)
    baseline = box.shifted(draw.baseline_patch.start_zyx)
    volumes: dict[int, FloatVolume] = {_FOLLOWUP_CT: draw.pair.followup.read_ct(followup)}
    if _BASELINE_CT in channels:
        volumes[_BASELINE_CT] = draw.pair.baseline.read_ct(baseline)
    if _BASELINE_MASK in channels:
        labels = draw.pair.baseline.read_labels(baseline)
        volumes[_BASELINE_MASK] = (labels == draw.lesion.lesion_id).astype(np.float32)
    labels = draw.pair.followup.read_labels(followup)
    volumes[_TARGET] = np.isin(labels, draw.target_ids).astype(np.float32)
    stack = transform.transform_volumes(np.stack(list(volumes.values())))
    transformed = dict(zip(volumes, stack, strict=True))
    if _BASELINE_MASK in transformed:
        transformed[_BASELINE_MASK] = (transformed[_BASELINE_MASK] > 0.5).astype(np.float32)
    return transformed


def prompt_map(point: Index, image: Box, transform: SpatialTransform, kind: HeatMap) -> FloatVolume:
    """Draw the heat map of a transformed point.

    Args:
        point: voxel (z, y, x) of the drawn patch.
        image: extent of the scan, in voxels of the drawn patch.
        transform: the spatial transform of the sample.
        kind: unit peak or unit volume.

    Returns:
        float32 [z, y, x] of the patch's shape.
    """
    shape = transform.shape
    z, y, x = np.rint(transform.transform_points(np.asarray([point], np.float64))[0]).astype(int).tolist()
    # A heat map is reflected at the border of the scan, as at inference. After a rotation or scaling that
    # border is oblique, and only the border of the patch counts.
    valid = Box.of_shape(shape)
    if transform.is_rigid_copy:
        valid = _mirrored(image.intersection(valid), transform)
    start = [-a for a in valid.start_zyx]
    point_in_valid = (z + start[0], y + start[1], x + start[2])
    return heat_map(point_in_valid, Box.of_shape(shape).shifted(start), _unit_grid(valid.shape_zyx), kind)


def _mirrored(box: Box, transform: SpatialTransform) -> Box:
    """The place of a box of the drawn patch in the mirrored patch."""
    bounds = [
        (n - b, n - a) if is_mirrored else (a, b)
        for (a, b), n, is_mirrored in zip(box.bounds(), transform.shape, transform.mirrored, strict=True)
    ]
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return Box((z0, y0, x0), (z1, y1, x1))


def _unit_grid(shape: Index) -> NetworkGrid:
    """A network grid that leaves an image of this shape (z, y, x) unchanged."""
    unit = (1.0, 1.0, 1.0)
    return NetworkGrid(AxisMap(), shape, shape, unit, unit, shape)
