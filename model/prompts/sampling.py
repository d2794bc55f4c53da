"""Points out of masks: which voxel of a lesion stands for it, and which of several candidates may.

Points are voxel indices (z, y, x) and always lie on a voxel of the mask. The ways of sampling and of
filtering are those of LinGuinE ([Garibli2025]): candidates drawn from the source mask, kept by their HU or by
what the model says without a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..case.case import MaskPrompt
from ..case.geometry import Array, Box, FloatArray, Vector
from ..case.labelmaps import bounding_box

BoolArray = npt.NDArray[np.bool_]

# Depths of equal voxels differ by the rounding of a square root.
_TIE_MM = 1e-6


class Sampling(StrEnum):
    """How several points are taken from a mask."""

    UNIFORM = "uniform"  # every voxel as likely
    DISTANCE = "distance"  # as likely as it is deep
    DISTANCE_SQUARED = "distance-squared"
    FIXED_NUMBER = "fixed-number"  # a regular grid of so many points per axis
    FIXED_DISTANCE = "fixed-distance"  # a regular grid of so many mm


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """``count`` is the most points of any method; grids keep their deepest ones.

    ``per_axis`` is for FIXED_NUMBER (3 x 3 x 3 over the mask's box), ``distance_mm`` for FIXED_DISTANCE.
    """

    method: Sampling = Sampling.DISTANCE
    count: int = 27
    per_axis: int = 3
    distance_mm: float = 8.0


@dataclass(frozen=True, slots=True)
class ChoiceOptions:
    """Candidates and what they must meet; without limits each candidate may stay.

    ``hu_window`` is the lowest and highest mean HU in a ball of ``hu_radius_mm`` round the point (0: of the
    voxel itself), ``min_probability`` what the model must give the voxel without a prompt.
    """

    sampling: SamplingOptions = SamplingOptions()
    hu_window: tuple[float, float] | None = None
    hu_radius_mm: float = 0.0
    min_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Points in the order of their rank. ``is_fallback``: none met the filter, and all of them stayed."""

    points: tuple[Vector, ...]
    is_fallback: bool = False


Probability = npt.NDArray[np.float32] | Callable[[Sequence[Vector]], Sequence[float]]
"""What the model says without a prompt: a volume (z, y, x), or a callable that is asked for points."""


def depth_mm(mask: BoolArray, spacing_zyx: Vector) -> FloatArray:
    """How far each voxel (z, y, x) of a mask lies from the nearest voxel outside, 0 outside of the mask.

    What lies beyond the array counts as outside.
    """
    padded = np.pad(mask, 1)
    distances = ndimage.distance_transform_edt(padded, sampling=spacing_zyx)
    return np.asarray(distances[1:-1, 1:-1, 1:-1], np.float64)


def deepest_point(mask: BoolArray, box: Box, spacing_zyx: Vector) -> Vector:
    """The voxel that lies deepest inside a mask: on it even where its centre of gravity is not.

    Of equally deep voxels the one nearest to the centre of gravity, then the first in the array's order.

    Args:
        mask: booleans (z, y, x) over ``box``.
        box: where the mask lies; the point is counted as it is. Beyond the box there is no lesion.
        spacing_zyx: mm.

    Raises:
        ValueError: the mask is empty.
    """
    tight = _tight_box(mask)
    lesion = mask[tight.slices]
    depth = depth_mm(lesion, spacing_zyx)
    deepest = np.argwhere(depth >= depth.max() - _TIE_MM)
    offsets_mm = (deepest - np.argwhere(lesion).mean(axis=0)) * np.asarray(spacing_zyx)
    nearest = deepest[np.argmin(np.round(np.linalg.norm(offsets_mm, axis=1), 6))]
    return _points([nearest + np.asarray(tight.start_zyx) + np.asarray(box.start_zyx)])[0]


def sample_points(
    mask: BoolArray,
    spacing_zyx: Vector,
    options: SamplingOptions,
    rng: np.random.Generator,
    box: Box | None = None,
) -> list[Vector]:
    """Points on a mask (z, y, x), none twice; fewer than asked for where the mask has fewer.

    Random ones come in the order in which they were drawn, those of a grid the deepest first. A grid that
    misses the mask gives the deepest voxel. They are counted from the start of the array, or as the
    ``box`` is over which the mask lies.

    Raises:
        ValueError: the mask is empty.
    """
    tight = _tight_box(mask)
    lesion = mask[tight.slices]
    offset = np.asarray(tight.start_zyx) + np.asarray(box.start_zyx if box else (0, 0, 0))
    if options.method in (Sampling.FIXED_NUMBER, Sampling.FIXED_DISTANCE):
        chosen = _on_grid(lesion, spacing_zyx, options)
    else:
        voxels, weights = weighted_voxels(lesion, spacing_zyx, options.method)
        count = min(options.count, len(voxels))
        chosen = voxels[rng.choice(len(voxels), count, replace=False, p=weights)]
    return _points(chosen + offset)


def weighted_voxels(
    mask: BoolArray, spacing_zyx: Vector, method: Sampling
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """All voxels (N, 3) of a mask, and how likely a random method takes each, (N,), sum 1."""
    voxels = np.argwhere(mask)
    if method is Sampling.UNIFORM:
        weights = np.ones(len(voxels))
    else:
        weights = depth_mm(mask, spacing_zyx)[mask]
        if method is Sampling.DISTANCE_SQUARED:
            weights = weights**2
    return voxels, weights / weights.sum()


def _on_grid(lesion: BoolArray, spacing_zyx: Vector, options: SamplingOptions) -> npt.NDArray[np.intp]:
    """The nodes of a regular grid that lie on a mask, (N, 3), the deepest first.

    The grid fills the mask's box: its nodes are the middles of equal parts, or are laid so far apart, in mm,
    with the same rest at both sides.
    """
    axes = []
    for length, step_mm in zip(lesion.shape, spacing_zyx, strict=True):
        if options.method is Sampling.FIXED_NUMBER:
            nodes = (np.arange(options.per_axis) + 0.5) * length / options.per_axis - 0.5
        else:
            step = options.distance_mm / step_mm
            rest = (length - 1) % step
            nodes = np.arange(int((length - 1) / step) + 1) * step + rest / 2
        # A grid finer than the voxels has each of them once.
        axes.append(np.unique(np.clip(np.floor(nodes + 0.5).astype(np.intp), 0, length - 1)))
    nodes_zyx = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    on_mask = nodes_zyx[lesion[tuple(nodes_zyx.T)]]
    if not len(on_mask):
        return np.asarray([deepest_point(lesion, Box.of_shape(lesion.shape), spacing_zyx)], np.intp)
    depths = depth_mm(lesion, spacing_zyx)[tuple(on_mask.T)]
    order = np.argsort(-np.round(depths, 6), kind="stable")
    return np.asarray(on_mask[order[: options.count]], np.intp)


def filter_by_hu(
    points: Sequence[Vector],
    ct: Array,
    spacing_zyx: Vector,
    window: tuple[float, float],
    radius_mm: float = 0.0,
) -> Candidates:
    """The points, in their order, where the CT (z, y, x) lies in a window of HU, both ends included.

    It is the mean in a ball round the point, without voxels that are no number; radius 0 is the voxel alone.
    """
    low, high = window
    kept = [point for point in points if low <= _mean_hu(ct, point, spacing_zyx, radius_mm) <= high]
    return _kept_or_all(kept, points)


def filter_by_probability(
    points: Sequence[Vector], probability: Probability, threshold: float = 0.5
) -> Candidates:
    """The points where the unprompted model reaches a probability, the surest first; ties as they came.

    Where none reaches it all stay, ranked the same way. A probability that is no number is the least.
    """
    if callable(probability):
        given = np.asarray(probability(points), np.float64)
    else:
        given = np.asarray([probability[_voxel(point, probability.shape)] for point in points], np.float64)
    values = np.where(np.isfinite(given), given, -np.inf)
    ranked = np.argsort(-values, kind="stable")
    kept = [points[index] for index in ranked if values[index] >= threshold]
    return _kept_or_all(kept, [points[index] for index in ranked])


def choose_points(
    lesion: MaskPrompt,
    spacing_zyx: Vector,
    options: ChoiceOptions,
    rng: np.random.Generator,
    ct: Array | None = None,
    probability: Probability | None = None,
) -> Candidates:
    """Candidates of a lesion on its scan's grid, sampled, filtered and ranked: the first is the prompt.

    A filter that no candidate meets is left out. ``ct`` and ``probability`` (z, y, x) cover the whole scan;
    they are needed where the options ask for them.
    """
    found = tuple(sample_points(lesion.voxels, spacing_zyx, options.sampling, rng, lesion.box))
    candidates, is_fallback = found, False
    if options.hu_window is not None:
        assert ct is not None
        by_hu = filter_by_hu(candidates, ct, spacing_zyx, options.hu_window, options.hu_radius_mm)
        candidates, is_fallback = by_hu.points, by_hu.is_fallback
    if options.min_probability is not None:
        assert probability is not None
        surest = filter_by_probability(candidates, probability, options.min_probability)
        candidates, is_fallback = surest.points, is_fallback or surest.is_fallback
    return Candidates(candidates, is_fallback)


def _kept_or_all(kept: Sequence[Vector], points: Sequence[Vector]) -> Candidates:
    return Candidates(tuple(kept or points), is_fallback=not kept and bool(points))


def _mean_hu(ct: Array, point: Vector, spacing_zyx: Vector, radius_mm: float) -> float:
    centre = np.asarray(_voxel(point, ct.shape))
    reach = np.floor(radius_mm / np.asarray(spacing_zyx)).astype(int)
    start, stop = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, ct.shape)
    block = ct[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].astype(np.float64)
    offsets = np.indices(block.shape) + (start - centre).reshape(3, 1, 1, 1)
    distances = np.linalg.norm(offsets * np.asarray(spacing_zyx).reshape(3, 1, 1, 1), axis=0)
    values = block[(distances <= radius_mm + _TIE_MM) & np.isfinite(block)]
    return float(values.mean()) if values.size else float("nan")


def _voxel(point: Vector, shape_zyx: Sequence[int]) -> tuple[int, int, int]:
    """The voxel of an image that a point lies on, or the nearest one."""
    z, y, x = np.clip(np.floor(np.asarray(point) + 0.5).astype(int), 0, np.asarray(shape_zyx) - 1)
    return (int(z), int(y), int(x))


def _tight_box(mask: BoolArray) -> Box:
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty mask has no point")
    return box


def _points(voxels: npt.ArrayLike) -> list[Vector]:
    return [(float(z), float(y), float(x)) for z, y, x in np.asarray(voxels)]
