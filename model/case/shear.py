"""Sheared grids, e.g. of a tilted gantry: an orthogonal grid in their place, and the way there and back.

Of the three axes the two finest keep their plane (the slices of a CT), and the third becomes its normal: each
slice is shifted within its plane, and nothing is interpolated across slices. Both grids have voxels of the
same volume, and each voxel of the sheared grid has one of its own on the orthogonal one, so that labels come
back as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .axes import Array, Box, Index, flip_order, to_index, to_vector
from .geometry import Geometry

# HU beyond the sheared scan: padding of scanners, which is known as not measured.
PADDING_HU = -2048.0

# Determinant of the axes' unit vectors below which they lie almost in a plane.
_FLAT = 0.2
# The slice axis is the coarsest one; spacings closer than this are alike, and the slices then run along z.
_SAME_SPACING = 0.99
# Of a voxel: a box reaches no further by rounding errors.
_CLEARANCE = 1e-6


def check_independent_axes(name: object, geometry: Geometry) -> None:
    """Refuse a grid whose axes lie in one plane, or nearly so.

    Args:
        name: the file or argument, with which the error begins.
        geometry: its grid.

    Raises:
        InputError: the direction matrix is singular, or close to it.
    """
    columns = np.reshape(geometry.direction, (3, 3))
    determinant = float(np.linalg.det(columns) / np.prod(np.linalg.norm(columns, axis=0)))
    if not abs(determinant) >= _FLAT:  # NaN as well
        raise InputError(
            f"{name}: its axes lie in one plane (determinant {determinant:.2g} of the direction matrix); "
            "expected three independent axes"
        )


def refuse_sheared(name: object, geometry: Geometry) -> None:
    """Refuse a sheared grid, where it is not resampled.

    Args:
        name: the file, with which the error begins.
        geometry: its grid.

    Raises:
        InputError: its axes are not orthogonal.
    """
    if geometry.is_sheared:
        raise InputError(
            f"{name}: its grid is sheared by {geometry.shear_degrees:.1f} degrees, as by a tilted gantry; "
            "expected orthogonal axes, as networks are trained on (resample the scan and its labelmap)"
        )


def shear_warning(name: str, geometry: Geometry) -> str:
    """The sentence for users about a scan on a sheared grid.

    Args:
        name: the scan's, with which it begins.
        geometry: the sheared grid.
    """
    return (
        f"{name}: its grid is sheared by {geometry.shear_degrees:.1f} degrees, as by a tilted gantry; it is "
        "resampled to orthogonal axes, and results are brought back to its own grid"
    )


@dataclass(frozen=True, eq=False)
class ShearMap:
    """A sheared grid and the orthogonal one that covers it, both in axial order.

    Along the axes (x, y, z) in ``order``, a voxel index i of the sheared grid is w on the orthogonal one:
    w0 = i0 + a i1 + b i2, w1 = i1 + c i2, w2 = i2, counted from the orthogonal grid's ``start``; the
    ``shears`` are (a, b, c).
    """

    sheared: Geometry
    orthogonal: Geometry
    order: Index
    shears: tuple[float, float, float]
    start: tuple[int, int]

    @classmethod
    def of(cls, sheared: Geometry) -> ShearMap:
        """Find the orthogonal grid for a sheared one.

        Args:
            sheared: in axial order, with independent axes (`check_independent_axes`).
        """
        order = _slice_axis_last(sheared)
        step = np.reshape(sheared.direction, (3, 3)) * sheared.spacing_xyz
        rotation, upper = np.linalg.qr(step[:, list(order)])
        rotation, upper = rotation * np.sign(np.diag(upper)), upper * np.sign(np.diag(upper))[:, None]
        spacing = np.diag(upper)
        unit = upper / spacing[:, None]
        shears = (float(unit[0, 1]), float(unit[0, 2]), float(unit[1, 2]))
        n0, n1, n2 = (sheared.size_xyz[axis] for axis in order)
        columns = _columns(shears, np.arange(n1), np.arange(n2))
        rows = _rows(shears, np.arange(n2))
        start = (int(columns.min()), int(rows.min()))
        size = (n0 + int(np.ptp(columns)), n1 + int(np.ptp(rows)), n2)
        origin = np.asarray(sheared.origin_xyz) + rotation[:, :2] @ (spacing[:2] * start)
        back = np.argsort(order)
        orthogonal = Geometry(
            to_index(np.asarray(size)[back]),
            to_vector(spacing[back]),
            to_vector(origin),
            tuple(float(value) for value in rotation[:, back].ravel()),
            measured=sheared,
        )
        return cls(sheared, orthogonal, order, shears, start)

    def to_orthogonal(self, labels: Array) -> Array:
        """Bring labels to the orthogonal grid; each voxel keeps its label.

        Args:
            labels: (z, y, x) on the sheared grid, integers or booleans.

        Returns:
            (z, y, x) on the orthogonal grid, the same type, 0 beyond the sheared one.
        """
        result = np.zeros(self.orthogonal.shape_zyx, labels.dtype)
        source, target = labels.transpose(self._array_order), result.transpose(self._array_order)
        for number, plane in enumerate(source):
            if plane.any():
                target[number][self._places(number)] = plane
        return result

    def to_sheared(self, labels: Array) -> Array:
        """Bring labels to the sheared grid; the inverse of `to_orthogonal`.

        Args:
            labels: (z, y, x) on the orthogonal grid, integers or booleans.

        Returns:
            (z, y, x) on the sheared grid, the same type.
        """
        result = np.zeros(self.sheared.shape_zyx, labels.dtype)
        source, target = labels.transpose(self._array_order), result.transpose(self._array_order)
        for number, plane in enumerate(source):
            if plane.any():
                target[number] = plane[self._places(number)]
        return result

    def resampled_ct(self, ct: Array) -> npt.NDArray[np.float32]:
        """Interpolate a CT linearly on the orthogonal grid.

        Args:
            ct: HU (z, y, x) on the sheared grid; NaN and infinities count as not measured.

        Returns:
            HU (z, y, x), float32; beyond the scan `PADDING_HU`, or the scan's own lower padding.
        """
        if ct.dtype.kind == "f":
            ct = np.nan_to_num(ct, nan=PADDING_HU, posinf=PADDING_HU, neginf=PADDING_HU)
        outside = min(PADDING_HU, float(ct.min()))
        return _interpolated(ct, self.sheared, self.orthogonal, outside)

    def sheared_values(self, values: Array, box: Box) -> tuple[Box, npt.NDArray[np.float32]]:
        """Interpolate values of a box linearly on the sheared grid.

        Args:
            values: (z, y, x) over the box.
            box: box of the orthogonal grid, at least one voxel.

        Returns:
            The box of the sheared grid that covers it, within the scan, and the values there, float32; 0
            outside of the given box.
        """
        reach = self.sheared_box(box).intersection(Box.of_shape(self.sheared.shape_zyx))
        if reach.is_empty:
            return reach, np.zeros(reach.shape_zyx, np.float32)
        grids = self.orthogonal.cropped(box), self.sheared.cropped(reach)
        return reach, _interpolated(values, *grids, 0.0)

    def orthogonal_box(self, box: Box) -> Box:
        """Enclose a box of the sheared grid.

        Args:
            box: box (z, y, x) of the sheared grid, which may leave it.

        Returns:
            The smallest box of the orthogonal grid around it.
        """
        return _enclosing(box, self.sheared, self.orthogonal)

    def sheared_box(self, box: Box) -> Box:
        """Enclose a box of the orthogonal grid.

        Args:
            box: box (z, y, x) of the orthogonal grid, which may leave it.

        Returns:
            The smallest box of the sheared grid around it.
        """
        return _enclosing(box, self.orthogonal, self.sheared)

    @cached_property
    def _array_order(self) -> Index:
        """Axes of a (z, y, x) array such that slices come first and the rows of a slice second."""
        return flip_order(to_index([2 - axis for axis in self.order]))

    def _places(self, number: int) -> tuple[npt.NDArray[np.intp] | slice, npt.NDArray[np.intp] | slice]:
        """Index into a slice of the orthogonal grid at which the slice of the sheared grid lies."""
        n0, n1 = (self.sheared.size_xyz[axis] for axis in self.order[:2])
        columns = _columns(self.shears, np.arange(n1), np.array([number]))[:, 0] - self.start[0]
        row = int(_rows(self.shears, np.array([number]))[0]) - self.start[1]
        if columns.min() == columns.max():
            return slice(row, row + n1), slice(int(columns[0]), int(columns[0]) + n0)
        return np.arange(row, row + n1)[:, None], columns[:, None] + np.arange(n0)


def _slice_axis_last(geometry: Geometry) -> Index:
    """The axes (x, y, z) with the slice axis last."""
    spacing = geometry.spacing_xyz
    slices = 2 if spacing[2] >= _SAME_SPACING * max(spacing) else int(np.argmax(spacing))
    return to_index([axis for axis in range(3) if axis != slices] + [slices])


def _columns(
    shears: tuple[float, float, float], rows: npt.NDArray[np.intp], numbers: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Shift of each row (first axis) of each slice (second axis) along itself, in voxels."""
    return _rounded(shears[0] * rows[:, None] + shears[1] * numbers)


def _rows(shears: tuple[float, float, float], numbers: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Shift of each slice, in rows."""
    return _rounded(shears[2] * numbers)


def _rounded(shifts: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    """Rounded to whole voxels, halves up, as `voxel_at` does."""
    return np.asarray(np.floor(shifts + 0.5), np.intp)


def _enclosing(box: Box, source: Geometry, target: Geometry) -> Box:
    """The smallest box (z, y, x) of a grid around the corners of a box of another grid."""
    sides = np.stack([box.start_zyx, box.stop_zyx])
    corners = sides[np.array(list(np.ndindex(2, 2, 2))), np.arange(3)] - 0.5
    faces = target.world_to_voxel(source.voxel_to_world(corners[:, ::-1]))[:, ::-1] + 0.5
    low, high = np.floor(faces.min(axis=0) + _CLEARANCE), np.ceil(faces.max(axis=0) - _CLEARANCE)
    return Box(to_index(low), to_index(high))


def _interpolated(
    values: Array, source: Geometry, target: Geometry, outside: float
) -> npt.NDArray[np.float32]:
    import SimpleITK as sitk  # takes long to import, and few scans are sheared

    from .images import image_of, to_sitk

    resampled = sitk.Resample(
        to_sitk(values, source),
        target.size_xyz,
        sitk.Transform(),
        sitk.sitkLinear,
        target.origin_xyz,
        target.spacing_xyz,
        target.direction,
        outside,
        sitk.sitkFloat32,
    )
    return image_of("resampled", resampled).array  # a view, as the array may be large
