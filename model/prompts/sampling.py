"""Sampling point prompts from lesion masks, and filtering the candidates.

Points are voxel indices (z, y, x) and always lie on a voxel of the mask. Sampling and filtering follow
LinGuinE ([Garibli2025]): candidates are drawn from the source mask, and kept by their HU or by the model's
probability without a prompt.
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

# Equal depths differ by the rounding of a square root.
_TIE_MM = 1e-6


class Sampling(StrEnum):
    """Method of sampling points from a mask."""

    UNIFORM = "uniform"  # all voxels with the same probability
    DISTANCE = "distance"  # probability proportional to depth
    DISTANCE_SQUARED = "distance-squared"
    FIXED_NUMBER = "fixed-number"  # a regular grid with a number of points per axis
    FIXED_DISTANCE = "fixed-distance"  # a regular grid with a distance in mm


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Options of sampling points from a mask.

    ``count`` limits the number of points of any method; grids keep their deepest ones. ``per_axis`` is for
    FIXED_NUMBER (3 x 3 x 3 over the mask's box), ``distance_mm`` for FIXED_DISTANCE.
    """

    method: Sampling = Sampling.DISTANCE
    count: int = 27
    per_axis: int = 3
    distance_mm: float = 8.0


@dataclass(frozen=True, slots=True)
class ChoiceOptions:
    """Options of sampling and filtering candidates; None for no filter.

    ``hu_window`` is the range of the mean HU in a ball of ``hu_radius_mm`` around the point (0 for the voxel
    alone), ``min_probability`` the least probability of the voxel without a prompt.
    """

    sampling: SamplingOptions = SamplingOptions()
    hu_window: tuple[float, float] | None = None
    hu_radius_mm: float = 0.0
    min_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Points (z, y, x), best first. ``is_fallback``: none passed the filter, so that all were kept."""

    points: tuple[Vector, ...]
    is_fallback: bool = False


Probability = npt.NDArray[np.float32] | Callable[[Sequence[Vector]], Sequence[float]]
"""The model's probability without a prompt: a volume (z, y, x), or a function of points (z, y, x)."""


def depth_mm(mask: BoolArray, spacing_zyx: Vector) -> FloatArray:
    """Distance of each voxel of a mask to the nearest voxel outside.

    Args:
        mask: booleans (z, y, x); voxels beyond the array count as outside.
        spacing_zyx: mm.

    Returns:
        mm, float64 of the mask's shape, 0 outside the mask.
    """
    padded = np.pad(mask, 1)
    distances = ndimage.distance_transform_edt(padded, sampling=spacing_zyx)
    return np.asarray(distances[1:-1, 1:-1, 1:-1], np.float64)


def deepest_point(mask: BoolArray, box: Box, spacing_zyx: Vector) -> Vector:
    """The deepest voxel of a mask, which lies on it even if its centre of gravity does not.

    Of equally deep voxels the one nearest to the centre of gravity is taken, then the first in (z, y, x)
    order.

    Args:
        mask: booleans (z, y, x) over ``box``; there is no lesion beyond it.
        box: box of the mask on its image.
        spacing_zyx: mm.

    Returns:
        Voxel index (z, y, x) on the grid of the box.

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
    """Sample distinct points on a mask, at most as many as it has voxels.

    Args:
        mask: booleans (z, y, x).
        spacing_zyx: mm.
        options: method and number of points.
        rng: for the random methods.
        box: box of the mask on its image; None if the array is the image.

    Returns:
        Voxel indices (z, y, x) on the image: random points in the order of drawing, those of a grid by
        decreasing depth. A grid without any node on the mask gives the deepest voxel.

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
    """The voxels of a mask and their probabilities for a random method.

    Args:
        mask: booleans (z, y, x), not empty.
        spacing_zyx: mm.
        method: a random method.

    Returns:
        Voxel indices (N, 3) in the order (z, y, x), and probabilities (N,) with the sum 1.
    """
    voxels = np.argwhere(mask)
    if method is Sampling.UNIFORM:
        weights = np.ones(len(voxels))
    else:
        weights = depth_mm(mask, spacing_zyx)[mask]
        if method is Sampling.DISTANCE_SQUARED:
            weights = weights**2
    return voxels, weights / weights.sum()


def _on_grid(lesion: BoolArray, spacing_zyx: Vector, options: SamplingOptions) -> npt.NDArray[np.intp]:
    """The nodes of a regular grid that lie on a mask, (N, 3), by decreasing depth.

    The grid fills the mask's bounding box: its nodes are the middles of equal parts, or have a given distance
    in mm with equal margins on both sides.
    """
    axes = []
    for length, step_mm in zip(lesion.shape, spacing_zyx, strict=True):
        if options.method is Sampling.FIXED_NUMBER:
            nodes = (np.arange(options.per_axis) + 0.5) * length / options.per_axis - 0.5
        else:
            step = options.distance_mm / step_mm
            rest = (length - 1) % step
            nodes = np.arange(int((length - 1) / step) + 1) * step + rest / 2
        # Each voxel is used once, even if the grid is finer.
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
    """Keep the points whose mean HU lies in a window.

    Args:
        points: voxel indices (z, y, x) on the CT.
        ct: HU (z, y, x).
        spacing_zyx: mm.
        window: lowest and highest mean HU, both included.
        radius_mm: of the ball around the point whose finite voxels are averaged; 0 for the voxel alone.
    """
    low, high = window
    kept = [point for point in points if low <= _mean_hu(ct, point, spacing_zyx, radius_mm) <= high]
    return _kept_or_all(kept, points)


def filter_by_probability(
    points: Sequence[Vector], probability: Probability, threshold: float = 0.5
) -> Candidates:
    """Keep the points with at least a given probability without a prompt, the most probable first.

    If there are none, all are kept, ranked the same way. Ties keep their order; NaN ranks last.

    Args:
        points: voxel indices (z, y, x) on the scan.
        probability: volume (z, y, x) of the scan, or function of points.
        threshold: least probability.
    """
    if callable(probability):
        predicted = np.asarray(probability(points), np.float64)
    else:
        predicted = np.asarray(
            [probability[_voxel(point, probability.shape)] for point in points], np.float64
        )
    values = np.where(np.isfinite(predicted), predicted, -np.inf)
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
    """Sample, filter and rank candidate points of a lesion; the first one is the prompt.

    A filter that no candidate passes is skipped.

    Args:
        lesion: mask (z, y, x) of the lesion over a box of the scan.
        spacing_zyx: mm.
        options: sampling and filters.
        rng: for the random methods.
        ct: HU (z, y, x) of the whole scan; needed for a window of HU.
        probability: volume (z, y, x) of the whole scan, or function of points; needed for a least
            probability.
    """
    sampled = tuple(sample_points(lesion.voxels, spacing_zyx, options.sampling, rng, lesion.box))
    candidates, is_fallback = sampled, False
    if options.hu_window is not None:
        assert ct is not None
        by_hu = filter_by_hu(candidates, ct, spacing_zyx, options.hu_window, options.hu_radius_mm)
        candidates, is_fallback = by_hu.points, by_hu.is_fallback
    if options.min_probability is not None:
        assert probability is not None
        probable = filter_by_probability(candidates, probability, options.min_probability)
        candidates, is_fallback = probable.points, is_fallback or probable.is_fallback
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
    """The voxel of an image that contains a point, or the nearest one."""
    z, y, x = np.clip(np.floor(np.asarray(point) + 0.5).astype(int), 0, np.asarray(shape_zyx) - 1)
    return (int(z), int(y), int(x))


def _tight_box(mask: BoolArray) -> Box:
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty mask has no point")
    return box


def _points(voxels: npt.ArrayLike) -> list[Vector]:
    return [(float(z), float(y), float(x)) for z, y, x in np.asarray(voxels)]
