"""Prompts as users would give them, drawn from masks: simulated clicks and boxes.

Only lesions are clicked, one point for each and draw, as in the longitudinal task of autoPET/CT IV. Its files
hold centres of gravity; its click simulation takes the deepest voxel first and voxels of the border after
that. Each draw of each lesion has random numbers of its own, so that more draws, or more lesions, leave the
others as they are.
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
    """Where a lesion is clicked."""

    DEEPEST = "deepest"  # the voxel that lies deepest inside
    CENTRE = "centre"  # the centre of gravity, in fractions of voxels; may miss a ring or a sickle
    UNIFORM = "uniform"  # any voxel of the lesion
    WEIGHTED = "weighted"  # any voxel, as likely as it is deep
    BORDER = "border"  # any voxel with a face to the outside
    CHALLENGE = "challenge"  # the first draw the deepest voxel, the others at the border


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """``perturbation`` is in whole voxels, along each axis: points move by up to so much to either side,
    each side of a box moves outwards by up to so much."""

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
    """For each draw lesion id -> point (z, y, x), a voxel index on the image of the given shape.

    Perturbed points may leave their lesion, but never the image.
    """
    draws: list[dict[int, Vector]] = [{} for _ in range(options.draws)]
    for lesion_id, lesion in lesions:
        places: dict[ClickRule, tuple[FloatArray, FloatArray]] = {}
        for number, clicks in enumerate(draws):
            rule = _rule(options.rule, number)
            if rule not in places:
                places[rule] = _places(lesion, spacing_zyx, rule)
            points, weights = places[rule]
            rng = _generator(options.seed, number, lesion_id)
            point = points[rng.choice(len(points), p=weights)]
            reach = options.perturbation
            moved = point + rng.integers(-reach, reach, 3, endpoint=True)
            z, y, x = np.clip(moved, 0, np.asarray(shape_zyx) - 1)
            clicks[lesion_id] = (float(z), float(y), float(x))
    return draws


def simulate_boxes(
    boxes: Iterable[tuple[int, Box]], shape_zyx: Sequence[int], options: SimulationOptions
) -> list[dict[int, Box]]:
    """For each draw lesion id -> the box with each of its six sides moved outwards, inside of the image."""
    draws: list[dict[int, Box]] = [{} for _ in range(options.draws)]
    for lesion_id, box in boxes:
        for number, drawn in enumerate(draws):
            rng = _generator(options.seed, number, lesion_id)
            start, stop = rng.integers(0, options.perturbation, (2, 3), endpoint=True).tolist()
            drawn[lesion_id] = enlarge_box(box, start, stop, shape_zyx)
    return draws


def enlarge_box(box: Box, start_zyx: Sequence[int], stop_zyx: Sequence[int], shape_zyx: Sequence[int]) -> Box:
    """A box with so many voxels more before its start and after its stop, as far as the image goes."""
    start = box.shifted([-n for n in start_zyx]).start_zyx
    return Box(start, box.shifted(stop_zyx).stop_zyx).intersection(Box.of_shape(shape_zyx))


def _rule(rule: ClickRule, draw: int) -> ClickRule:
    if rule is not ClickRule.CHALLENGE:
        return rule
    return ClickRule.DEEPEST if draw == 0 else ClickRule.BORDER


def _generator(seed: int, draw: int, lesion_id: int) -> np.random.Generator:
    return np.random.default_rng([seed, draw, lesion_id])


def _places(lesion: MaskPrompt, spacing_zyx: Vector, rule: ClickRule) -> tuple[FloatArray, FloatArray]:
    """Where a rule may click (N, 3), on the image's grid, and how likely each place is (N,), sum 1."""
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
    """The voxels of a mask with a face to the outside; what lies beyond the array is outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=0))
