"""Geometry of images: voxel and world coordinates, orientation of axes, boxes.

Files, SimpleITK and click files use the order (x, y, z), arrays (z, y, x); only this module converts between
them. World coordinates are LPS millimetres. An integer voxel index is the centre of its voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]
Index = tuple[int, int, int]
FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# Headers of one scan written by different tools differ by rounding; a drift of more than a tenth of a voxel
# over the whole scan is a real shift.
_TOLERANCE_VOXELS = 0.1
_TOLERANCE_SPACING = 1e-3
_TOLERANCE_DIRECTION = 1e-3

T = TypeVar("T")


def flip_order(triple: Sequence[T]) -> tuple[T, T, T]:
    """Reverse the order of a triple: (x, y, z) to (z, y, x), or back."""
    x, y, z = triple
    return (z, y, x)


def _vector(values: Sequence[float] | FloatArray) -> Vector:
    a, b, c = (float(value) for value in values)
    return (a, b, c)


def _index(values: Sequence[int] | npt.NDArray[Any]) -> Index:
    a, b, c = (int(value) for value in values)
    return (a, b, c)


def voxel_at(point_zyx: Sequence[float]) -> Index:
    """Round a point to the voxel that contains it; halves are rounded up.

    Args:
        point_zyx: voxel index (z, y, x), may be fractional and lie outside the image.

    Returns:
        Integer voxel index (z, y, x).
    """
    return _index(np.floor(np.asarray(point_zyx) + 0.5))


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels, [start, stop) along each axis (z, y, x); it may extend beyond its image."""

    start_zyx: Index
    stop_zyx: Index

    @classmethod
    def of_shape(cls, shape_zyx: Sequence[int], start_zyx: Sequence[int] = (0, 0, 0)) -> Box:
        """The box of a given shape (z, y, x) in voxels.

        Args:
            shape_zyx: number of voxels along each axis.
            start_zyx: index of the first voxel.

        Returns:
            The half-open box.
        """
        start = _index(start_zyx)
        return cls(start, _index([s + n for s, n in zip(start, shape_zyx, strict=True)]))

    @property
    def shape_zyx(self) -> Index:
        """Number of voxels along each axis (z, y, x), at least 0."""
        return _index([max(0, b - a) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True)])

    @property
    def is_empty(self) -> bool:
        return 0 in self.shape_zyx

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index into an array (z, y, x) that contains the whole box."""
        z, y, x = (slice(a, b) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True))
        return (z, y, x)

    def intersection(self, other: Box) -> Box:
        """The part common to two boxes (z, y, x).

        Args:
            other: a box on the same grid.

        Returns:
            The common box, empty if they are disjoint.
        """
        start = [max(a, b) for a, b in zip(self.start_zyx, other.start_zyx, strict=True)]
        stop = [min(a, b) for a, b in zip(self.stop_zyx, other.stop_zyx, strict=True)]
        return Box(_index(start), _index([max(a, b) for a, b in zip(start, stop, strict=True)]))

    def shifted(self, offset_zyx: Sequence[int]) -> Box:
        """Move the box.

        Args:
            offset_zyx: voxels along each axis.

        Returns:
            A box of the same shape.
        """
        return Box(
            _index([a + d for a, d in zip(self.start_zyx, offset_zyx, strict=True)]),
            _index([b + d for b, d in zip(self.stop_zyx, offset_zyx, strict=True)]),
        )

    def relative_to(self, other: Box) -> Box:
        """The same voxels, with indices (z, y, x) counted from the start of another box.

        Args:
            other: a box on the same grid.

        Returns:
            This box on the other one's own grid.
        """
        return self.shifted([-a for a in other.start_zyx])

    def bounds(self) -> list[list[int]]:
        """[start, stop) pairs per axis (z, y, x), as padding libraries expect them."""
        return [[a, b] for a, b in zip(self.start_zyx, self.stop_zyx, strict=True)]


@dataclass(frozen=True, slots=True)
class AxisMap:
    """A permutation of the axes of a (z, y, x) array, followed by flips.

    Axis ``k`` of the result is axis ``order[k]`` of the source, reversed if ``flipped[k]``.
    """

    order: Index = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    @property
    def is_identity(self) -> bool:
        return self.order == (0, 1, 2) and not any(self.flipped)

    def array(self, source: Array) -> Array:
        """View an array in the new axes.

        Args:
            source: array (z, y, x) in the source's axes.

        Returns:
            View of the same memory; writing to it changes the source.
        """
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flipped)
        return source.transpose(self.order)[steps]

    def triple(self, values_zyx: Sequence[T]) -> tuple[T, T, T]:
        """Permute per-axis values (z, y, x) such as shapes and spacings to the new axes."""
        a, b, c = (values_zyx[axis] for axis in self.order)
        return (a, b, c)

    def point(self, point_zyx: Sequence[float], shape_zyx: Sequence[int]) -> Vector:
        """Convert a point to the new axes.

        Args:
            point_zyx: voxel index (z, y, x) on the source, may be fractional.
            shape_zyx: shape (z, y, x) of the source.

        Returns:
            Voxel index of the same place in the new axes.
        """
        permuted = self.triple(point_zyx)
        shape = self.triple(shape_zyx)
        return _vector([n - 1 - p if f else p for p, n, f in zip(permuted, shape, self.flipped, strict=True)])

    def box(self, box: Box, shape_zyx: Sequence[int]) -> Box:
        """Convert a box to the new axes.

        Args:
            box: box (z, y, x) on the source.
            shape_zyx: shape (z, y, x) of the source.

        Returns:
            Box of the same voxels in the new axes.
        """
        shape = self.triple(shape_zyx)
        start, stop = self.triple(box.start_zyx), self.triple(box.stop_zyx)
        pairs = [
            (n - b, n - a) if f else (a, b)
            for a, b, n, f in zip(start, stop, shape, self.flipped, strict=True)
        ]
        return Box(_index([a for a, _ in pairs]), _index([b for _, b in pairs]))

    def inverse(self) -> AxisMap:
        """The map from the new axes back to the source's."""
        order = _index(np.argsort(self.order))
        a, b, c = (self.flipped[axis] for axis in order)
        return AxisMap(order, (a, b, c))

    def then(self, other: AxisMap) -> AxisMap:
        """The composition: this map first, then the other."""
        a, b, c = (self.flipped[axis] ^ flip for axis, flip in zip(other.order, other.flipped, strict=True))
        return AxisMap(_index([self.order[axis] for axis in other.order]), (a, b, c))


@dataclass(frozen=True, slots=True)
class Geometry:
    """Position of an image's voxels in the patient: size, spacing (mm), origin (LPS mm) and direction.

    ``direction`` is ITK's 3x3 matrix, row by row: column k is the world direction of index axis k (x, y, z).
    """

    size_xyz: Index
    spacing_xyz: Vector
    origin_xyz: Vector
    direction: tuple[float, ...] = IDENTITY_DIRECTION

    @property
    def shape_zyx(self) -> Index:
        """Shape (z, y, x) of the image's array."""
        return flip_order(self.size_xyz)

    @property
    def spacing_zyx(self) -> Vector:
        """Spacing (z, y, x) in mm."""
        return flip_order(self.spacing_xyz)

    @property
    def voxel_volume_ml(self) -> float:
        return float(np.prod(self.spacing_xyz)) / 1000.0

    def _matrix(self) -> FloatArray:
        spacing = np.asarray(self.spacing_xyz, np.float64)
        return np.asarray(self.direction, np.float64).reshape(3, 3) * spacing

    def voxel_to_world(self, points_xyz: npt.ArrayLike) -> FloatArray:
        """Convert voxel indices to world coordinates.

        Args:
            points_xyz: voxel indices (..., 3) in the order (x, y, z).

        Returns:
            LPS mm (..., 3), float64.
        """
        origin = np.asarray(self.origin_xyz, np.float64)
        return np.asarray(points_xyz, np.float64) @ self._matrix().T + origin

    def world_to_voxel(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Convert world coordinates to voxel indices.

        Args:
            points_mm: LPS mm (..., 3).

        Returns:
            Voxel indices (..., 3) in the order (x, y, z), float64.
        """
        offset = np.asarray(points_mm, np.float64) - np.asarray(self.origin_xyz, np.float64)
        voxels_xyz: FloatArray = offset @ np.linalg.inv(self._matrix()).T
        return voxels_xyz

    def zyx_to_world(self, point_zyx: Sequence[float]) -> Vector:
        """Convert one voxel index to world coordinates.

        Args:
            point_zyx: voxel index (z, y, x).

        Returns:
            LPS mm (x, y, z).
        """
        return _vector(self.voxel_to_world(flip_order(point_zyx)))

    def world_to_zyx(self, point_mm: Sequence[float]) -> Vector:
        """Convert one point to a voxel index.

        Args:
            point_mm: LPS mm (x, y, z).

        Returns:
            Voxel index (z, y, x).
        """
        return flip_order(_vector(self.world_to_voxel(point_mm)))

    def depth_mm(self, point_zyx: Sequence[float]) -> float:
        """Depth of a point in the field of view.

        Args:
            point_zyx: voxel index (z, y, x).

        Returns:
            Distance in mm to the nearest face, which is the outer side of the border voxels; for points
            outside, minus the distance to the field of view.
        """
        low = [(p + 0.5) * s for p, s in zip(point_zyx, self.spacing_zyx, strict=True)]
        high = [
            (n - 0.5 - p) * s for p, n, s in zip(point_zyx, self.shape_zyx, self.spacing_zyx, strict=True)
        ]
        margins = np.minimum(low, high)
        if margins.min() >= 0:
            return float(margins.min())
        return -float(np.linalg.norm(np.minimum(margins, 0.0)))

    def clip(self, point_zyx: Sequence[float]) -> Vector:
        """Move a point into the image.

        Args:
            point_zyx: voxel index (z, y, x).

        Returns:
            The nearest point (z, y, x) between the centres of the border voxels.
        """
        return _vector(np.clip(point_zyx, 0.0, np.asarray(self.shape_zyx) - 1.0))

    def reoriented(self, axes: AxisMap) -> Geometry:
        """The geometry of the same voxels after reordering their array with ``axes.array``."""
        spacing = flip_order(axes.triple(self.spacing_zyx))
        size = flip_order(axes.triple(self.shape_zyx))
        columns_zyx = np.asarray(self.direction, np.float64).reshape(3, 3)[:, ::-1]
        signs = np.where(axes.flipped, -1.0, 1.0)
        columns = (columns_zyx[:, list(axes.order)] * signs)[:, ::-1]
        corner = axes.inverse().point((0.0, 0.0, 0.0), axes.triple(self.shape_zyx))
        direction = tuple(float(value) for value in columns.ravel())
        return Geometry(size, spacing, self.zyx_to_world(corner), direction)

    def cropped(self, box: Box) -> Geometry:
        """The geometry of the voxels in a box.

        Args:
            box: box (z, y, x) on this grid; may extend beyond the image.

        Returns:
            Geometry with the same spacing and direction.
        """
        return Geometry(
            flip_order(box.shape_zyx), self.spacing_xyz, self.zyx_to_world(box.start_zyx), self.direction
        )

    def axial_map(self) -> AxisMap:
        """The permutation that brings the array to axial order: z closest to the patient's long axis.

        Axes are not flipped. Of equally good orders (45 degrees oblique) the least change is taken.
        """
        weights = np.abs(np.asarray(self.direction, np.float64).reshape(3, 3))[::-1, ::-1]
        best, best_score = (0, 1, 2), -1.0
        for order in permutations(range(3)):
            score = float(sum(weights[world, axis] for world, axis in enumerate(order)))
            if score > best_score + 1e-6:
                best, best_score = _index(order), score
        return AxisMap(best)

    def in_axial_order(self) -> Geometry:
        """The geometry of the same voxels in axial order, as `Scan.geometry`."""
        return self.reoriented(self.axial_map())

    def axis_signs_zyx(self) -> tuple[bool, bool, bool]:
        """For each array axis (z, y, x) of an axial image: does it run against its world axis?"""
        diagonal = np.diag(np.asarray(self.direction, np.float64).reshape(3, 3))[::-1]
        a, b, c = (bool(value < 0) for value in diagonal)
        return (a, b, c)

    def sign_map(self, other: Geometry) -> AxisMap:
        """The flips that give this axial image the axis signs of another axial image."""
        signs, target = self.axis_signs_zyx(), other.axis_signs_zyx()
        a, b, c = (sign != wanted for sign, wanted in zip(signs, target, strict=True))
        return AxisMap(flipped=(a, b, c))

    def same_grid(self, other: Geometry) -> bool:
        """True if two images have the same voxels, up to the rounding of headers."""
        if self.size_xyz != other.size_xyz:
            return False
        spacing, other_spacing = np.asarray(self.spacing_xyz), np.asarray(other.spacing_xyz)
        if np.any(np.abs(spacing - other_spacing) > _TOLERANCE_SPACING * spacing):
            return False
        if np.any(np.abs(np.subtract(self.direction, other.direction)) > _TOLERANCE_DIRECTION):
            return False
        corners = np.asarray([(0, 0, 0), np.subtract(self.size_xyz, 1)], np.float64)
        drift = self.world_to_voxel(other.voxel_to_world(corners)) - corners
        return bool(np.all(np.abs(drift) <= _TOLERANCE_VOXELS))

    def describe(self) -> str:
        """Size, spacing, origin and direction (x, y, z) in one line, for messages."""

        def numbers(values: Sequence[float]) -> str:
            return ", ".join(f"{value:.6g}" for value in values)

        return (
            f"size ({numbers(self.size_xyz)}) spacing ({numbers(self.spacing_xyz)}) "
            f"origin ({numbers(self.origin_xyz)}) direction ({numbers(self.direction)})"
        )
