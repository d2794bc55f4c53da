"""Diameters of masks within axial slices and in space.

The outline of a mask is that of marching squares in a slice and of marching cubes in space, as of
[Zwanenburg2020]: its corners are the midpoints between the centres of a voxel of the mask and of a neighbour
along an axis that is not in it. A single voxel has a diameter of one spacing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from ..case.connected_components import label_components
from ..case.geometry import FloatArray, Vector

BoolArray = npt.NDArray[np.bool_]

# Lines whose lengths differ by less are equally long; the rest is rounding.
_SAME_MM = 1e-6


@dataclass(frozen=True, slots=True)
class Caliper:
    """A straight line between two points of an outline: length in mm, ends as voxel indices (z, y, x)."""

    length_mm: float
    ends_zyx: tuple[Vector, Vector]


@dataclass(frozen=True, slots=True)
class SliceDiameters:
    """Both diameters in an axial slice.

    Attributes:
        slice_index: index of the slice along the z axis.
        long: the longest line between two points of one region's outline.
        short: the longest chord of the region's convex hull that is perpendicular to ``long``.
    """

    slice_index: int
    long: Caliper
    short: Caliper


def axial_diameters(mask: BoolArray, spacing_zyx: Vector) -> SliceDiameters | None:
    """Find the longest axial diameter of a mask, and the longest perpendicular to it in the same slice.

    Each connected region of a slice (8 neighbours) is measured by itself, so that no line leads from one to
    the other. Of equally long diameters the one with the longest perpendicular is taken, then the one in the
    lowest slice.

    Args:
        mask: booleans (z, y, x).
        spacing_zyx: mm.

    Returns:
        The diameters, with ends as voxel indices (z, y, x) of the mask; None for an empty mask.
    """
    best: SliceDiameters | None = None
    for limit_mm, number, region, corner in _regions(mask, spacing_zyx):
        if best is not None and limit_mm < best.long.length_mm - _SAME_MM:
            break
        found = _region_diameters(region, number, corner, spacing_zyx)
        if best is None or _is_longer(found, best):
            best = found
    return best


def longest_diameter(mask: BoolArray, spacing_zyx: Vector) -> Caliper | None:
    """Find the longest line between two points of a mask's outline in space.

    Args:
        mask: booleans (z, y, x), taken as one piece.
        spacing_zyx: mm.

    Returns:
        The line, with ends as voxel indices (z, y, x) of the mask; None for an empty mask.
    """
    if not mask.any():
        return None
    points = np.concatenate([_outermost(mask, axis) for axis in range(mask.ndim)])
    points_mm = points * np.asarray(spacing_zyx)
    hull = ConvexHull(points_mm).vertices
    distances = pdist(points_mm[hull])
    first, second = np.triu_indices(len(hull), 1)
    longest = int(np.argmax(distances))
    ends = points[hull[[first[longest], second[longest]]]]
    return Caliper(float(distances[longest]), (_triple(ends[0]), _triple(ends[1])))


def _regions(mask: BoolArray, spacing_zyx: Vector) -> list[tuple[float, int, BoolArray, tuple[int, int]]]:
    """Connected regions of all slices, those that may be longest first.

    Each with an upper limit of its diameter in mm, its slice, its pixels (y, x) and their first index (y, x).
    """
    apart = np.zeros((2 * len(mask), *mask.shape[1:]), np.bool_)
    apart[::2] = mask  # an empty plane between two slices keeps their regions apart
    labels, _ = label_components(apart)
    regions = []
    for label, box in enumerate(find_objects(labels), start=1):
        plane = labels[box][0] == label
        limit_mm = float(np.hypot(*(np.asarray(plane.shape) * spacing_zyx[1:])))
        regions.append((limit_mm, box[0].start // 2, plane, (box[1].start, box[2].start)))
    return sorted(regions, key=lambda region: (-region[0], region[1]))


def _is_longer(one: SliceDiameters, other: SliceDiameters) -> bool:
    for length, rival in (
        (one.long.length_mm, other.long.length_mm),
        (one.short.length_mm, other.short.length_mm),
    ):
        if abs(length - rival) > _SAME_MM:
            return length > rival
    return one.slice_index < other.slice_index


def _region_diameters(
    plane: BoolArray, number: int, corner: tuple[int, int], spacing_zyx: Vector
) -> SliceDiameters:
    """Both diameters of one region."""
    scale = np.asarray(spacing_zyx[1:])
    points_mm = np.concatenate([_outermost(plane, axis) for axis in range(2)]) * scale
    hull = points_mm[ConvexHull(points_mm).vertices]
    best: tuple[float, float, FloatArray, FloatArray] | None = None
    for ends in _longest_lines(hull):
        chord = _perpendicular(hull, ends)
        lengths = float(np.linalg.norm(ends[1] - ends[0])), float(np.linalg.norm(chord[1] - chord[0]))
        if best is None or lengths[1] > best[1] + _SAME_MM:
            best = (*lengths, ends, chord)
    assert best is not None  # a hull has at least four corners

    def caliper(length_mm: float, line_mm: FloatArray) -> Caliper:
        first, second = ((number, *(end / scale + corner)) for end in line_mm)
        return Caliper(length_mm, (_triple(first), _triple(second)))

    return SliceDiameters(number, caliper(best[0], best[2]), caliper(best[1], best[3]))


def _longest_lines(hull: FloatArray) -> Iterator[FloatArray]:
    """The longest lines (2, 2) between corners of a polygon (n, 2) in mm, usually one."""
    distances = squareform(pdist(hull))
    for first, second in np.argwhere(np.triu(distances >= distances.max() - _SAME_MM)):
        yield hull[[first, second]]


def _perpendicular(hull: FloatArray, ends: FloatArray) -> FloatArray:
    """The longest chord (2, 2) of a convex polygon at right angles to its longest diameter.

    Args:
        hull: corners (n, 2) in mm, in order.
        ends: of the longest diameter (2, 2), which are corners.
    """
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = np.array([-along[1], along[0]])
    u, v = (hull - ends[0]) @ along, (hull - ends[0]) @ across
    # The ends alone are first and last along the diameter, and split the polygon into two sides.
    first, last = int(np.argmin(u)), int(np.argmax(u))
    order = (np.arange(len(u)) + first) % len(u)
    split = int(np.flatnonzero(order == last)[0])
    there, back = order[: split + 1], np.concatenate([order[split:], [first]])[::-1]
    # The length of a chord is a concave function with its corners at those of the polygon.
    sides = np.interp(u, u[there], v[there]), np.interp(u, u[back], v[back])
    lengths = np.abs(sides[1] - sides[0])
    longest = np.flatnonzero(lengths >= lengths.max() - _SAME_MM)
    place = longest[np.argmin(np.abs(u[longest] - u[last] / 2))]  # of equally long ones that in the middle
    return np.stack([ends[0] + u[place] * along + side[place] * across for side in sides])


def _outermost(mask: BoolArray, axis: int) -> FloatArray:
    """Outermost points of the outline along an axis: indices (n, d), half a voxel beyond first and last."""
    lines = mask.any(axis)
    first = np.moveaxis(mask, axis, 0).argmax(0)[lines]
    last = mask.shape[axis] - 1 - np.flip(np.moveaxis(mask, axis, 0), 0).argmax(0)[lines]
    others = np.argwhere(lines).astype(np.float64)
    return np.concatenate([np.insert(others, axis, ends, axis=1) for ends in (first - 0.5, last + 0.5)])


def _triple(values: object) -> Vector:
    z, y, x = (float(value) for value in np.asarray(values))
    return (z, y, x)
