"""Input channels of the networks, with prompts encoded as channels.

Longitudinal network: both CTs, the baseline mask and a Gaussian heat map of each point. Single-time-point
network: the CT and one binary map of a ball around the point, of a box, or of an expected mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from scipy.ndimage import gaussian_filter

from ..case.case import LesionPrompt, MaskPrompt, Scan
from ..case.geometry import Box, Index, Vector
from ..case.labelmaps import bounding_box
from .patches import NetworkGrid, Placement, extract_ct, extract_mask, network_grid, pad_to_box, place_patches
from .plan import Plan
from .resample import FloatVolume, resample_box, source_box, touched_box
from .tiles import expand_box

CHANNELS = ("follow-up CT", "baseline CT", "baseline mask", "follow-up heat map", "baseline heat map")
PROMPT_CHANNELS = ("CT", "prompt")

_SIGMA_VOXELS = 1.0
# Twice the radius of the filter (4 sigma) on either side of the point; beyond it there are only zeros.
_REACH = 8

# The ball of a point prompt ([Rokuss2025], section 2.5): 11 voxels in diameter, 739 voxels in all.
_BALL_RADIUS_VOXELS = 5
# Boxes get one voxel more on each side, as in the published evaluation of the network.
_BOX_MARGIN_VOXELS = 1


class HeatMap(StrEnum):
    """Scaling of a heat map's Gaussian: its maximum is 1, or the sum of its values is 1.

    Published networks use the first; [Kirchhoff2025] compares both.
    """

    UNIT_PEAK = "unit-peak"
    UNIT_VOLUME = "unit-volume"


@dataclass(frozen=True, eq=False)
class PlacedLesion:
    """A lesion on the network grids of its two scans, with its default pair of patches."""

    prompt: LesionPrompt
    placement: Placement
    followup_grid: NetworkGrid
    baseline_grid: NetworkGrid


@dataclass(frozen=True, eq=False)
class EncodedLesion:
    """The network's input for one lesion.

    ``channels`` is float32 [5, *patch] in the order of `CHANNELS`, in network axes.
    """

    prompt: LesionPrompt
    channels: FloatVolume
    placement: Placement
    followup_grid: NetworkGrid


def heat_map(index: Index, box: Box, grid: NetworkGrid, kind: HeatMap = HeatMap.UNIT_PEAK) -> FloatVolume:
    """A Gaussian around a point with a sigma of one voxel ([Kirchhoff2025], section 3.1).

    It is reflected at the border of the part of the patch inside the image, as in training
    (docs/model_recipe.md, step 7).

    Args:
        index: voxel of the point on the network grid.
        box: patch on the network grid, may extend beyond the image.
        grid: network grid of the scan.
        kind: the maximum is 1, or the sum over the box is 1.

    Returns:
        float32 of the box's shape, all zeros if the box does not contain the point.
    """
    inside = box.intersection(grid.whole)
    near = Box(
        (index[0] - _REACH, index[1] - _REACH, index[2] - _REACH),
        (index[0] + _REACH + 1, index[1] + _REACH + 1, index[2] + _REACH + 1),
    ).intersection(inside)
    if Box.of_shape((1, 1, 1), index).intersection(near).is_empty:
        return np.zeros(box.shape_zyx, np.float32)
    delta = np.zeros(near.shape_zyx, np.float32)
    peak = tuple(i - start for i, start in zip(index, near.start_zyx, strict=True))
    delta[peak] = 1
    blob = gaussian_filter(delta, _SIGMA_VOXELS)
    values = pad_to_box(blob / blob[peak], near, box)
    return values / np.float32(values.sum()) if kind is HeatMap.UNIT_VOLUME else values


def place_lesion(prompt: LesionPrompt, plan: Plan, rounds_points: bool = False) -> PlacedLesion:
    """Place a lesion's patches on the network grids of its scans, without reading voxels.

    Args:
        prompt: of the lesion.
        plan: of the network.
        rounds_points: points are rounded to the nearest network voxel instead of truncated.
    """
    followup, baseline = prompt.followup.geometry, prompt.baseline.geometry
    followup_grid = network_grid(followup, plan, rounds_points=rounds_points)
    baseline_grid = network_grid(baseline, plan, like=followup, rounds_points=rounds_points)
    placement = place_patches(
        followup_grid.index(prompt.followup_point.point_zyx),
        baseline_grid.index(prompt.baseline_point.point_zyx),
        followup_grid.shape,
        plan.patch_size_zyx,
    )
    return PlacedLesion(prompt, placement, followup_grid, baseline_grid)


def encode_patches(
    lesion: PlacedLesion, placement: Placement, plan: Plan, kind: HeatMap = HeatMap.UNIT_PEAK
) -> FloatVolume:
    """Encode one pair of patches of a lesion as input channels.

    Heat maps are zeros in a pair that does not contain the points; there the baseline mask is the only
    prompt.

    Args:
        lesion: the lesion on its network grids.
        placement: the pair of patches.
        plan: of the network.
        kind: of the heat maps that the network was trained with.

    Returns:
        float32 [5, *patch] in the order of `CHANNELS`, in network axes.
    """
    prompt = lesion.prompt
    return np.stack(
        [
            extract_ct(prompt.followup, lesion.followup_grid, placement.followup, plan.normalization),
            extract_ct(prompt.baseline, lesion.baseline_grid, placement.baseline, plan.normalization),
            extract_mask(prompt.baseline, prompt.lesion_id, lesion.baseline_grid, placement.baseline),
            heat_map(placement.followup_index, placement.followup, lesion.followup_grid, kind),
            heat_map(placement.baseline_index, placement.baseline, lesion.baseline_grid, kind),
        ]
    )


def encode_lesion(
    prompt: LesionPrompt, plan: Plan, kind: HeatMap = HeatMap.UNIT_PEAK, rounds_points: bool = False
) -> EncodedLesion:
    """Encode a lesion's default pair of patches, see `encode_patches` and `place_lesion`."""
    lesion = place_lesion(prompt, plan, rounds_points)
    channels = encode_patches(lesion, lesion.placement, plan, kind)
    return EncodedLesion(prompt, channels, lesion.placement, lesion.followup_grid)


@dataclass(frozen=True, eq=False)
class PromptMap:
    """A prompt of the single-time-point network: booleans over a box of the network grid.

    The box lies inside the image and is the bounding box of the true voxels.
    """

    box: Box
    voxels: npt.NDArray[np.bool_]

    @property
    def centre(self) -> Index:
        """The voxel (network axes) at the centre of gravity; halves are rounded down, as in LesionLocator."""
        z, y, x = (_middle(self.voxels.sum(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        a, b, c = self.box.start_zyx
        return (a + z, b + y, c + x)


def _middle(counts: npt.NDArray[np.int64]) -> int:
    """The mean index of a histogram of indices, halves rounded down."""
    return math.ceil(float(counts @ np.arange(counts.size)) / float(counts.sum()) - 0.5)


def ball_prompt(point_zyx: Vector, grid: NetworkGrid) -> PromptMap | None:
    """A ball of network voxels around a point ([Rokuss2025], section 2.5).

    Its centre is the network voxel that contains the point. All voxels within 5.5 voxels belong to it, as in
    the published balls of "radius 5", so that its diameter is 11 voxels.

    Args:
        point_zyx: voxel index (z, y, x) on the axial scan.
        grid: network grid of the scan.

    Returns:
        The ball inside the image, None if the point lies outside the scan or is not finite.
    """
    if not np.isfinite(point_zyx).all():
        return None
    point = grid.axes.point(point_zyx, grid.axial_shape_zyx)
    centre = [
        math.floor((p + 0.5) * n_out / n_in)
        for p, n_in, n_out in zip(point, grid.source_shape, grid.shape, strict=True)
    ]
    if Box.of_shape((1, 1, 1), centre).intersection(grid.whole).is_empty:
        return None
    box = expand_box(Box.of_shape((1, 1, 1), centre), _BALL_RADIUS_VOXELS)
    distances = np.square(np.indices(box.shape_zyx) - _BALL_RADIUS_VOXELS).sum(0)
    return _prompt_map(box, distances <= (_BALL_RADIUS_VOXELS + 0.5) ** 2, grid)


def box_prompt(box: Box, grid: NetworkGrid) -> PromptMap | None:
    """The network voxels of a box, with one voxel more on each side.

    Args:
        box: box (z, y, x) on the axial scan.
        grid: network grid of the scan.

    Returns:
        The box inside the image, None if it lies outside the scan.
    """
    source = grid.axes.box(box.intersection(Box.of_shape(grid.axial_shape_zyx)), grid.axial_shape_zyx)
    if source.is_empty:
        return None
    sizes = list(zip(grid.source_shape, grid.shape, strict=True))
    z0, y0, x0 = (start * n // m for start, (m, n) in zip(source.start_zyx, sizes, strict=True))
    z1, y1, x1 = (-(-stop * n // m) for stop, (m, n) in zip(source.stop_zyx, sizes, strict=True))
    wide = expand_box(Box((z0, y0, x0), (z1, y1, x1)), _BOX_MARGIN_VOXELS)
    return _prompt_map(wide, np.ones(wide.shape_zyx, bool), grid)


def mask_prompt(mask: MaskPrompt, grid: NetworkGrid) -> PromptMap | None:
    """The network voxels of a mask: interpolated, then thresholded at 0.5.

    A mask too thin for that becomes the network voxels that contain the centres of its voxels.

    Args:
        mask: mask (z, y, x) over a box of the axial scan.
        grid: network grid of the scan.

    Returns:
        The mask inside the image, None if it lies outside the scan.
    """
    box = grid.axes.box(mask.box, grid.axial_shape_zyx)
    voxels = grid.axes.array(mask.voxels)
    inside = box.intersection(Box.of_shape(grid.source_shape))
    valid = voxels[inside.relative_to(box).slices] if not inside.is_empty else voxels[:0]
    if not valid.any():
        return None
    touched = touched_box(grid.source_shape, grid.shape, inside)
    if not touched.is_empty:
        needed = source_box(grid.source_shape, grid.shape, touched)
        crop = crop_and_pad_nd(valid.astype(np.float32), needed.relative_to(inside).bounds())
        soft = resample_box(crop, needed.start_zyx, grid.source_shape, grid.shape, touched)
        prompt = _prompt_map(touched, soft > 0.5, grid)
        if prompt is not None:
            return prompt
    return _nearest_voxels(np.argwhere(valid) + np.asarray(inside.start_zyx), grid)


def _nearest_voxels(indices: npt.NDArray[np.int64], grid: NetworkGrid) -> PromptMap | None:
    """The network voxels that contain the centres of source voxels (N, 3)."""
    scale = np.asarray(grid.shape) / np.asarray(grid.source_shape)
    targets = np.minimum(((indices + 0.5) * scale).astype(np.int64), np.asarray(grid.shape) - 1)
    low = targets.min(0)
    voxels = np.zeros(targets.max(0) - low + 1, bool)
    voxels[tuple((targets - low).T)] = True
    return _prompt_map(Box.of_shape(voxels.shape, low.tolist()), voxels, grid)


def _prompt_map(box: Box, voxels: npt.NDArray[np.bool_], grid: NetworkGrid) -> PromptMap | None:
    """Crop a map over a box to the bounding box of its true voxels in the image, or None."""
    inside = box.intersection(grid.whole)
    if inside.is_empty:
        return None
    valid = voxels[inside.relative_to(box).slices]
    inner = bounding_box(valid)
    if inner is None:
        return None
    return PromptMap(inner.shifted(inside.start_zyx), valid[inner.slices].copy())


def encode_prompted(scan: Scan, prompt: PromptMap, grid: NetworkGrid, patch: Box, plan: Plan) -> FloatVolume:
    """Encode one patch of a scan and its prompt as input channels of the single-time-point network.

    Args:
        scan: CT in HU.
        prompt: prompt on the network grid.
        grid: network grid of the scan.
        patch: patch on the network grid, may extend beyond the image.
        plan: of the network.

    Returns:
        float32 [2, *patch] in the order of `PROMPT_CHANNELS`, in network axes.
    """
    channel = np.zeros(patch.shape_zyx, np.float32)
    common = prompt.box.intersection(patch)
    if not common.is_empty:
        channel[common.relative_to(patch).slices] = prompt.voxels[common.relative_to(prompt.box).slices]
    return np.stack([extract_ct(scan, grid, patch, plan.normalization), channel])
