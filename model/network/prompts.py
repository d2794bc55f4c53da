"""Prompts as channels: Gaussian heat maps of the points, and the network's five-channel input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ..case.case import LesionPrompt
from ..case.geometry import Box, Index
from .patches import NetworkGrid, Placement, extract_ct, extract_mask, network_grid, pad_to, place
from .plan import Plan
from .resample import FloatVolume

CHANNELS = ("follow-up CT", "baseline CT", "baseline mask", "follow-up heat map", "baseline heat map")

_SIGMA_VOXELS = 1.0
# Twice the reach of the filter (4 sigma, either side of the point): more would add only zeros.
_REACH = 8


@dataclass(frozen=True, eq=False)
class EncodedLesion:
    """One lesion as the network sees it.

    ``channels`` is float32 [5, *patch] in the order of `CHANNELS`, in network axes.
    """

    prompt: LesionPrompt
    channels: FloatVolume
    placement: Placement
    followup_grid: NetworkGrid


def heat_map(index: Index, box: Box, grid: NetworkGrid) -> FloatVolume:
    """A Gaussian of one voxel's sigma with the value 1 at a point (paper 000, section 3.1).

    It is reflected at the border of the part of the patch that lies inside the image, as the model was
    trained (recipe, step 7). float32 of the box's shape.
    """
    inside = box.intersection(grid.whole)
    near = Box(
        (index[0] - _REACH, index[1] - _REACH, index[2] - _REACH),
        (index[0] + _REACH + 1, index[1] + _REACH + 1, index[2] + _REACH + 1),
    ).intersection(inside)
    delta = np.zeros(near.shape_zyx, np.float32)
    peak = tuple(i - start for i, start in zip(index, near.start_zyx, strict=True))
    delta[peak] = 1
    blob = gaussian_filter(delta, _SIGMA_VOXELS)
    return pad_to(blob / blob[peak], near, box)


def encode_lesion(prompt: LesionPrompt, plan: Plan) -> EncodedLesion:
    """Cut a lesion's patches from both scans and add its prompts."""
    followup_grid = network_grid(prompt.followup, plan)
    baseline_grid = network_grid(prompt.baseline, plan, like=prompt.followup)
    placement = place(
        followup_grid.index(prompt.followup_point.point_zyx),
        baseline_grid.index(prompt.baseline_point.point_zyx),
        followup_grid.shape,
        plan.patch_size_zyx,
    )
    channels = np.stack([
        extract_ct(prompt.followup, followup_grid, placement.followup, plan.normalization),
        extract_ct(prompt.baseline, baseline_grid, placement.baseline, plan.normalization),
        extract_mask(prompt.baseline, prompt.lesion_id, baseline_grid, placement.baseline),
        heat_map(placement.followup_index, placement.followup, followup_grid),
        heat_map(placement.baseline_index, placement.baseline, baseline_grid),
    ])  # fmt: skip
    return EncodedLesion(prompt, channels, placement, followup_grid)
