"""Geometry of images: voxel and world coordinates, and the orientation of axes.

Files, SimpleITK and click files use the order (x, y, z), arrays (z, y, x); only this module and `axes`
convert between them. World coordinates are LPS millimetres. An integer voxel index is the centre of its
voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import numpy.typing as npt

from .axes import Array, AxisMap, Box, FloatArray, Index, Vector, flip_order, to_index, to_vector, voxel_at

__all__ = [
    "IDENTITY_DIRECTION",
    "Array",
    "AxisMap",
    "Box",
    "FloatArray",
    "Geometry",
    "Index",
    "Vector",
    "flip_order",
    "voxel_at",
]

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# Headers of one scan written by different tools differ by rounding; a drift of more than a tenth of a voxel
# over the whole scan is a real shift.
_TOLERANCE_VOXELS = 0.1
_TOLERANCE_SPACING = 1e-3
_TOLERANCE_DIRECTION = 1e-3

# Cosine of the angle between two axes above which they are not orthogonal: half a degree is rounding.
_SHEARED_COSINE = 1e-2


@dataclass(frozen=True, slots=True)
class Geometry:
    """Position of an image's voxels in the patient: size, spacing (mm), origin (LPS mm) and direction.

    ``direction`` is ITK's 3x3 matrix, row by row: column k is the world direction of index axis k (x, y, z).
    ``measured`` is the grid of which this one is a resampling that extends beyond it; None if all of this
    grid was scanned.
    """

    size_xyz: Index
    spacing_xyz: Vector
    origin_xyz: Vector
    direction: tuple[float, ...] = IDENTITY_DIRECTION
    measured: Geometry | None = field(default=None, repr=False)

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
        volume = float(np.prod(self.spacing_xyz)) / 1000.0
        if not self.is_sheared:
            return volume  # without the rounding of a determinant
        return volume * abs(float(np.linalg.det(np.reshape(self.direction, (3, 3)))))

    @property
    def largest_cosine(self) -> float:
        """Largest cosine of an angle between two axes, 0 if they are orthogonal."""
        columns = np.reshape(self.direction, (3, 3))
        products = (columns.T @ columns) / np.outer(*[np.linalg.norm(columns, axis=0)] * 2)
        return float(np.abs(products[np.triu_indices(3, 1)]).max())

    @property
    def is_sheared(self) -> bool:
        """True if the axes are not orthogonal, beyond the rounding of headers."""
        return self.largest_cosine > _SHEARED_COSINE

    @property
    def shear_degrees(self) -> float:
        """Largest deviation of the angle between two axes from 90 degrees."""
        return float(np.degrees(np.arcsin(min(1.0, self.largest_cosine))))

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
        return to_vector(self.voxel_to_world(flip_order(point_zyx)))

    def world_to_zyx(self, point_mm: Sequence[float]) -> Vector:
        """Convert one point to a voxel index.

        Args:
            point_mm: LPS mm (x, y, z).

        Returns:
            Voxel index (z, y, x).
        """
        return flip_order(to_vector(self.world_to_voxel(point_mm)))

    def depth_mm(self, point_zyx: Sequence[float]) -> float:
        """Depth of a point in the field of view.

        Args:
            point_zyx: voxel index (z, y, x).

        Returns:
            Distance in mm to the nearest face, which is the outer side of the border voxels; for points
            outside, minus the distance to the field of view.
        """
        if self.measured is not None:
            return self.measured.depth_mm(self.measured.world_to_zyx(self.zyx_to_world(point_zyx)))
        spacing = self._plane_distances_zyx if self.is_sheared else self.spacing_zyx
        low = [(p + 0.5) * s for p, s in zip(point_zyx, spacing, strict=True)]
        high = [(n - 0.5 - p) * s for p, n, s in zip(point_zyx, self.shape_zyx, spacing, strict=True)]
        margins = np.minimum(low, high)
        if margins.min() >= 0:
            return float(margins.min())
        return -float(np.linalg.norm(np.minimum(margins, 0.0)))

    @property
    def _plane_distances_zyx(self) -> Vector:
        """Distance in mm between neighbouring planes of voxels across each axis (z, y, x)."""
        return flip_order(to_vector(1.0 / np.linalg.norm(np.linalg.inv(self._matrix()), axis=1)))

    def clip(self, point_zyx: Sequence[float]) -> Vector:
        """Move a point into the image.

        Args:
            point_zyx: voxel index (z, y, x).

        Returns:
            The nearest point (z, y, x) between the centres of the border voxels.
        """
        if self.measured is not None:
            inside = self.measured.clip(self.measured.world_to_zyx(self.zyx_to_world(point_zyx)))
            return self.world_to_zyx(self.measured.zyx_to_world(inside))
        return to_vector(np.clip(point_zyx, 0.0, np.asarray(self.shape_zyx) - 1.0))

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

    def with_unit_axes(self) -> Geometry:
        """The same grid with axes of length 1, which some files lack; spacing takes the rest."""
        columns = np.reshape(self.direction, (3, 3))
        lengths = np.linalg.norm(columns, axis=0)
        if np.all(np.abs(lengths - 1.0) <= _TOLERANCE_DIRECTION):
            return self
        spacing = to_vector(lengths * self.spacing_xyz)
        direction = tuple(float(value) for value in (columns / lengths).ravel())
        return Geometry(self.size_xyz, spacing, self.origin_xyz, direction)

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
                best, best_score = to_index(order), score
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
