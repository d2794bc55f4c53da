"""Simulated user prompts: clicks and boxes drawn from lesion masks.

Each draw has one click per lesion, as in the longitudinal task of autoPET/CT IV, whose files hold centres of
gravity and whose click simulation takes the deepest voxel first and voxels of the border after that. Each
draw of each lesion has its own random numbers, so that further draws or lesions do not change the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import ndimage

from ..case.case import MaskPrompt
from ..case.geometry import Box, FloatArray, Vector
from .sampling import BoolArray, Sampling, deepest_point, weighted_voxels


class ClickRule(StrEnum):
    """Rule for the position of a click on a lesion."""

    DEEPEST = "deepest"  # the voxel farthest from the border
    CENTRE = "centre"  # the centre of gravity in fractions of voxels; may miss a ring or a sickle
    UNIFORM = "uniform"  # any voxel of the lesion
    WEIGHTED = "weighted"  # any voxel, with a probability proportional to its depth
    BORDER = "border"  # any voxel that shares a face with the outside
    CHALLENGE = "challenge"  # the deepest voxel in the first draw, border voxels in the others


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Options of simulated prompts.

    ``perturbation`` is the largest random shift in whole voxels along each axis: of points to either side, of
    the sides of boxes outwards.
    """

    rule: ClickRule = ClickRule.CHALLENGE
    draws: int = 1
    seed: int = 0
    perturbation: int = 0


def simulate_clicks(
    lesions: Iterable[tuple[int, MaskPrompt]],
    shape_zyx: Sequence[int],
    spacing_zyx: Vector,
    options: SimulationOptions,
) -> list[dict[int, Vector]]:
    """Simulate clicks on lesions. Perturbed points may leave their lesion, but not the image.

    Args:
        lesions: lesion id and mask (z, y, x) of each lesion.
        shape_zyx: shape of the image, in voxels.
        spacing_zyx: mm.
        options: rule, number of draws, seed and perturbation.

    Returns:
        For each draw, lesion id -> voxel index (z, y, x) on the image.
    """
    draws: list[dict[int, Vector]] = [{} for _ in range(options.draws)]
    for lesion_id, lesion in lesions:
        positions: dict[ClickRule, tuple[FloatArray, FloatArray]] = {}
        for number, clicks in enumerate(draws):
            rule = _rule(options.rule, number)
            if rule not in positions:
                positions[rule] = _positions(lesion, spacing_zyx, rule)
            points, weights = positions[rule]
            rng = _generator(options.seed, number, lesion_id)
            point = points[rng.choice(len(points), p=weights)]
            reach = options.perturbation
            perturbed = point + rng.integers(-reach, reach, 3, endpoint=True)
            z, y, x = np.clip(perturbed, 0, np.asarray(shape_zyx) - 1)
            clicks[lesion_id] = (float(z), float(y), float(x))
    return draws


def simulate_boxes(
    boxes: Iterable[tuple[int, Box]], shape_zyx: Sequence[int], options: SimulationOptions
) -> list[dict[int, Box]]:
    """Simulate boxes around lesions, with each of the six sides shifted outwards at random.

    Args:
        boxes: lesion id and bounding box (z, y, x) of each lesion.
        shape_zyx: shape of the image, in voxels.
        options: number of draws, seed and perturbation.

    Returns:
        For each draw, lesion id -> box (z, y, x) inside the image.
    """
    draws: list[dict[int, Box]] = [{} for _ in range(options.draws)]
    for lesion_id, box in boxes:
        for number, drawn in enumerate(draws):
            rng = _generator(options.seed, number, lesion_id)
            start, stop = rng.integers(0, options.perturbation, (2, 3), endpoint=True).tolist()
            drawn[lesion_id] = enlarge_box(box, start, stop, shape_zyx)
    return draws


def enlarge_box(box: Box, start_zyx: Sequence[int], stop_zyx: Sequence[int], shape_zyx: Sequence[int]) -> Box:
    """Enlarge a box, clipped to its image.

    Args:
        box: box (z, y, x) on the image.
        start_zyx: voxels added before the start along each axis.
        stop_zyx: voxels added after the stop along each axis.
        shape_zyx: shape of the image, in voxels.

    Returns:
        The larger box (z, y, x).
    """
    start = box.shifted([-n for n in start_zyx]).start_zyx
    return Box(start, box.shifted(stop_zyx).stop_zyx).intersection(Box.of_shape(shape_zyx))


def _rule(rule: ClickRule, draw: int) -> ClickRule:
    if rule is not ClickRule.CHALLENGE:
        return rule
    return ClickRule.DEEPEST if draw == 0 else ClickRule.BORDER


def _generator(seed: int, draw: int, lesion_id: int) -> np.random.Generator:
    return np.random.default_rng([seed, draw, lesion_id])


def _positions(lesion: MaskPrompt, spacing_zyx: Vector, rule: ClickRule) -> tuple[FloatArray, FloatArray]:
    """Possible points (N, 3) of a rule on the image's grid, and their probabilities (N,) with the sum 1."""
    mask = lesion.voxels
    if rule is ClickRule.DEEPEST:
        return np.asarray([deepest_point(mask, lesion.box, spacing_zyx)]), np.ones(1)
    offset = np.asarray(lesion.box.start_zyx, np.float64)
    if rule is ClickRule.CENTRE:
        return np.argwhere(mask).mean(axis=0, keepdims=True) + offset, np.ones(1)
    clickable = _border(mask) if rule is ClickRule.BORDER else mask
    method = Sampling.DISTANCE if rule is ClickRule.WEIGHTED else Sampling.UNIFORM
    voxels, weights = weighted_voxels(clickable, spacing_zyx, method)
    return voxels + offset, weights


def _border(mask: BoolArray) -> BoolArray:
    """The voxels of a mask that share a face with the outside or the border of the array."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=0))
