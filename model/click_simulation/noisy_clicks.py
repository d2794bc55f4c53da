"""The second scheme of clicks in training, one fifth of them in [Rokuss2025b]: noisy depth, and uptake.

Tumour: in each drawn lesion the voxel of the largest weighted mean of depth and noise, then such voxels near
the border. Background: voxels of high uptake, with a probability proportional to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..case.connected_components import label_components
from ..case.geometry import Array, FloatArray, Index
from ..case.tumor_clicks import ClickKind, TumorClick
from .challenge_clicks import as_clicks, hot_voxels, shifted_click
from .click_regions import BoolArray, ClickRegion, RandomNumbers, click_regions, voxel_depth

_INNER_WEIGHT = (0.4, 0.9)
_BORDER_WEIGHT = (0.2, 0.6)
_BORDER_DEPTH = 3.0  # voxels
_PERCENTILE = 98.0


@dataclass(frozen=True, slots=True)
class NoisyRules:
    """Numbers of clicks; largest random shift of a tumour click within its lesion, in voxels per axis."""

    tumor: int = 10
    background: int = 10
    offset_voxels: int = 3


def noisy_clicks(
    lesions: BoolArray, pet: Array, rules: NoisyRules, rng: RandomNumbers
) -> tuple[TumorClick, ...]:
    """Simulate clicks by noisy depth and by uptake.

    Args:
        lesions: booleans (z, y, x): all tumour.
        pet: uptake of the same shape, in SUV or normalised as for the network; voxels that are not finite
            (padding may be NaN) are not clicked. Background is clicked where it is positive and not below its
            98th percentile among unlabelled voxels, with a probability proportional to it.
        rules: numbers of clicks, shift.
        rng: source of random numbers.

    Returns:
        Voxel indices (z, y, x), tumour first; no tumour click without a lesion, and no background click where
        no unlabelled voxel is positive.
    """
    tumor = as_clicks(ClickKind.TUMOR, _inside(lesions, rules, rng))
    return (*tumor, *as_clicks(ClickKind.BACKGROUND, _by_uptake(lesions, pet, rules.background, rng)))


def _inside(lesions: BoolArray, rules: NoisyRules, rng: RandomNumbers) -> list[Index]:
    labels, number = label_components(lesions)
    if not number:
        return []
    drawn = rng.choice(np.arange(1, number + 1), min(rules.tumor, number), replace=False)
    regions = click_regions(labels, drawn)
    voxels = [
        _noisy_voxel(region, region.mask, region.depth, rng.uniform(*_INNER_WEIGHT), rules, rng)
        for region in regions
    ]
    borders = [_near_border(region, lesions.shape) for region in regions]
    while len(voxels) < rules.tumor:
        voxels += [
            _noisy_voxel(region, *border, rng.uniform(*_BORDER_WEIGHT), rules, rng)
            for region, border in list(zip(regions, borders, strict=True))[: rules.tumor - len(voxels)]
        ]
    return voxels


def _near_border(region: ClickRegion, shape_zyx: Sequence[int]) -> tuple[BoolArray, FloatArray]:
    """The shell of a region over its box, and the depth of its voxels within the shell."""
    shell = region.mask & (region.depth < _BORDER_DEPTH)
    return shell, voxel_depth(shell, region.box, shape_zyx)


def _noisy_voxel(
    region: ClickRegion,
    mask: BoolArray,
    depth: FloatArray,
    weight: float,
    rules: NoisyRules,
    rng: RandomNumbers,
) -> Index:
    """The voxel of a mask over a region's box with the largest weighted mean of depth and noise, shifted."""
    score = weight * depth / depth.max() + (1 - weight) * rng.random(mask.shape)
    z, y, x = np.unravel_index(np.argmax(np.where(mask, score, -1)), mask.shape)
    voxel = (int(z), int(y), int(x))
    if rules.offset_voxels:
        voxel = shifted_click(voxel, region.mask, rules.offset_voxels, rng)
    return region.on_image(voxel)


def _by_uptake(lesions: BoolArray, pet: Array, count: int, rng: RandomNumbers) -> list[Index]:
    """Voxels drawn with replacement, with probabilities proportional to their uptake."""
    chosen = hot_voxels(lesions, pet, _PERCENTILE, inclusive=True) & (pet > 0)
    voxels = np.argwhere(chosen)
    if not len(voxels):
        return []
    uptake = pet[chosen].astype(np.float64)
    drawn = voxels[rng.choice(len(voxels), count, p=uptake / uptake.sum())]
    return [(int(z), int(y), int(x)) for z, y, x in drawn]
