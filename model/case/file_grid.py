"""The grid on which a file stores a scan, and the axial, orthogonal one on which the scan is processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .axes import Array, AxisMap, Box, Vector
from .geometry import Geometry
from .shear import ShearMap

# Of a voxel: finer than any click. Rounding errors would otherwise decide in which voxel a click lies.
_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class FileGrid:
    """Maps the grid of a file to that of its scan in memory, and back.

    Attributes:
        geometry: grid of the file.
        axes: from the array as the file stores it to axial order.
        shear: from axial order to orthogonal axes; None if the file's axes are orthogonal.
    """

    geometry: Geometry
    axes: AxisMap
    shear: ShearMap | None = None

    @classmethod
    def of(cls, geometry: Geometry) -> FileGrid:
        """Make the map for the grid of a file.

        Args:
            geometry: with independent axes (`shear.check_independent_axes`).
        """
        shear = ShearMap.of(geometry.in_axial_order()) if geometry.is_sheared else None
        return cls(geometry, geometry.axial_map(), shear)

    @property
    def axial(self) -> Geometry:
        """Grid of the scan in memory."""
        return self.geometry.reoriented(self.axes) if self.shear is None else self.shear.orthogonal

    def axial_ct(self, ct: Array) -> Array:
        """Bring a CT to the axial grid.

        Args:
            ct: HU (z, y, x) as the file stores them.

        Returns:
            View of the same voxels (z, y, x); float32, interpolated, if the file's axes are sheared.
        """
        axial = self.axes.array(ct)
        return axial if self.shear is None else self.shear.resampled_ct(axial)

    def axial_labels(self, labels: Array) -> Array:
        """Bring a labelmap to the axial grid.

        Args:
            labels: (z, y, x) as the file stores them.

        Returns:
            (z, y, x), the same type; a view, or a copy if the file's axes are sheared.
        """
        axial = self.axes.array(labels)
        return axial if self.shear is None else self.shear.to_orthogonal(axial)

    def file_labels(self, labels: Array) -> Array:
        """Bring a labelmap to the grid of the file; the inverse of `axial_labels`.

        Args:
            labels: (z, y, x) on the axial grid.

        Returns:
            (z, y, x) as the file stores them; a view, or a copy if the file's axes are sheared.
        """
        axial = labels if self.shear is None else self.shear.to_sheared(labels)
        return self.axes.inverse().array(axial)

    def file_values(self, box: Box, values: Array) -> tuple[Box, Array]:
        """Bring values over a box of the axial grid to the grid of the file.

        Args:
            box: box (z, y, x) of the axial grid, at least one voxel.
            values: (z, y, x) over the box.

        Returns:
            A box of the file's grid, and the values over it; interpolated if the file's axes are sheared.
        """
        back, shape = self.axes.inverse(), self.axial.shape_zyx
        if self.shear is not None:
            box, values = self.shear.sheared_values(values, box)
            shape = self.shear.sheared.shape_zyx
        return back.box(box, shape), back.array(values)

    def axial_box(self, box: Box) -> Box:
        """Convert a box of the file's grid to the axial grid.

        Args:
            box: box (z, y, x) of the file's grid, which may leave it.

        Returns:
            Box of the axial grid; the smallest around it if the file's axes are sheared.
        """
        axial = self.axes.box(box, self.geometry.shape_zyx)
        return axial if self.shear is None else self.shear.orthogonal_box(axial)

    def file_box(self, box: Box) -> Box:
        """Convert a box of the axial grid to the file's grid; the inverse of `axial_box`.

        Args:
            box: box (z, y, x) of the axial grid, which may leave it.

        Returns:
            Box of the file's grid; the smallest around it if the file's axes are sheared.
        """
        axial = box if self.shear is None else self.shear.sheared_box(box)
        return self.axes.inverse().box(axial, self.axes.triple(self.geometry.shape_zyx))

    def axial_point(self, point_zyx: Sequence[float]) -> Vector:
        """Convert a point of the file to the axial grid.

        Args:
            point_zyx: voxel index (z, y, x) on the file's grid, may be a fraction.

        Returns:
            Voxel index (z, y, x) on the axial grid.
        """
        point = self.axes.point(point_zyx, self.geometry.shape_zyx)
        if self.shear is None:
            return point
        return _rounded(self.shear.orthogonal.world_to_zyx(self.shear.sheared.zyx_to_world(point)))

    def file_point(self, point_zyx: Sequence[float]) -> Vector:
        """Convert a point on the axial grid to the grid of the file; the inverse of `axial_point`.

        Args:
            point_zyx: voxel index (z, y, x) on the axial grid.

        Returns:
            Voxel index (z, y, x) on the file's grid.
        """
        if self.shear is not None:
            world_mm = self.shear.orthogonal.zyx_to_world(point_zyx)
            point_zyx = _rounded(self.shear.sheared.world_to_zyx(world_mm))
        return self.axes.inverse().point(point_zyx, self.axes.triple(self.geometry.shape_zyx))

    def axial_world_point(self, point_mm: Sequence[float]) -> Vector:
        """Convert a world point to the axial grid.

        Args:
            point_mm: LPS mm (x, y, z).

        Returns:
            Voxel index (z, y, x) on the axial grid.
        """
        if self.shear is not None:
            return _rounded(self.shear.orthogonal.world_to_zyx(point_mm))
        return self.axial_point(_rounded(self.geometry.world_to_zyx(point_mm)))


def _rounded(point_zyx: Vector) -> Vector:
    z, y, x = (float(value) for value in np.round(point_zyx, _DECIMALS))
    return (z, y, x)
