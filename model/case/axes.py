"""Axes of arrays: boxes of voxels, permutations and flips, and the orders (x, y, z) and (z, y, x)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]
Index = tuple[int, int, int]
FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

T = TypeVar("T")


def flip_order(triple: Sequence[T]) -> tuple[T, T, T]:
    """Reverse the order of a triple: (x, y, z) to (z, y, x), or back."""
    x, y, z = triple
    return (z, y, x)


def to_vector(values: Sequence[float] | FloatArray) -> Vector:
    """Make a tuple of three floats.

    Args:
        values: three numbers of any unit, (x, y, z) or (z, y, x).

    Returns:
        The numbers in the same order.
    """
    a, b, c = (float(value) for value in values)
    return (a, b, c)


def to_index(values: Sequence[int] | npt.NDArray[Any]) -> Index:
    """Make a tuple of three integers.

    Args:
        values: three numbers of any unit, (x, y, z) or (z, y, x).

    Returns:
        The numbers in the same order.
    """
    a, b, c = (int(value) for value in values)
    return (a, b, c)


def voxel_at(point_zyx: Sequence[float]) -> Index:
    """Round a point to the voxel that contains it; halves are rounded up.

    Args:
        point_zyx: voxel index (z, y, x), may be fractional and lie outside the image.

    Returns:
        Integer voxel index (z, y, x).
    """
    return to_index(np.floor(np.asarray(point_zyx) + 0.5))


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
        start = to_index(start_zyx)
        return cls(start, to_index([s + n for s, n in zip(start, shape_zyx, strict=True)]))

    @property
    def shape_zyx(self) -> Index:
        """Number of voxels along each axis (z, y, x), at least 0."""
        return to_index([max(0, b - a) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True)])

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
        return Box(to_index(start), to_index([max(a, b) for a, b in zip(start, stop, strict=True)]))

    def shifted(self, offset_zyx: Sequence[int]) -> Box:
        """Move the box.

        Args:
            offset_zyx: voxels along each axis.

        Returns:
            A box of the same shape.
        """
        return Box(
            to_index([a + d for a, d in zip(self.start_zyx, offset_zyx, strict=True)]),
            to_index([b + d for b, d in zip(self.stop_zyx, offset_zyx, strict=True)]),
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
        return to_vector(
            [n - 1 - p if f else p for p, n, f in zip(permuted, shape, self.flipped, strict=True)]
        )

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
        return Box(to_index([a for a, _ in pairs]), to_index([b for _, b in pairs]))

    def inverse(self) -> AxisMap:
        """The map from the new axes back to the source's."""
        order = to_index(np.argsort(self.order))
        a, b, c = (self.flipped[axis] for axis in order)
        return AxisMap(order, (a, b, c))

    def then(self, other: AxisMap) -> AxisMap:
        """The composition: this map first, then the other."""
        a, b, c = (self.flipped[axis] ^ flip for axis, flip in zip(other.order, other.flipped, strict=True))
        return AxisMap(to_index([self.order[axis] for axis in other.order]), (a, b, c))
