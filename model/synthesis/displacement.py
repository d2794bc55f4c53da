"""Places in a scan as mm along its own axes, and fields of displacements over a part of it.

Growth and motion are computed in "axis mm": index (z, y, x) times spacing, so that anisotropic and oblique
scans need no care. Arrays of places are (3, ...), z, y, x. The axes of a CT are orthogonal, so lengths there
are lengths in the patient; only `to_world` knows where the axes point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from ..case.geometry import FloatArray, Geometry, Vector

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LocalField:
    """Displacements (3, nz, ny, nx) float32, axis mm z, y, x, on a grid of its own; linear in between.

    Outside of the grid there is no displacement, or that of its border where it ``reaches_on``.
    """

    start_mm: Vector
    spacing_mm: Vector
    u_mm: Volume
    reaches_on: bool = False

    def displacement(self, places_mm: FloatArray) -> FloatArray:
        """At places (3, N) of axis mm -> (3, N) mm."""
        index = (places_mm - _column(self.start_mm)) / _column(self.spacing_mm)
        moved = np.zeros_like(places_mm)
        if self.reaches_on:
            inside = np.arange(places_mm.shape[1])
        else:
            last = _column(np.subtract(self.u_mm.shape[1:], 1))
            inside = np.flatnonzero(((index >= 0) & (index <= last)).all(axis=0))
        if len(inside):
            chosen = np.ascontiguousarray(index[:, inside])
            for axis in range(3):
                moved[axis, inside] = map_coordinates(self.u_mm[axis], chosen, order=1, mode="nearest")
        return moved


def pull_back(places_mm: FloatArray, fields: Sequence[LocalField]) -> FloatArray:
    """Places (3, N) after the changes -> before them; the last change is undone first."""
    for field in reversed(fields):
        places_mm = places_mm + field.displacement(places_mm)
    return places_mm


def min_jacobian(u_mm: Volume, spacing_mm: Sequence[float]) -> float:
    """The smallest determinant of identity + slope of a field (3, nz, ny, nx)."""
    return float(jacobian(u_mm, spacing_mm).min())


def jacobian(u_mm: Volume, spacing_mm: Sequence[float]) -> Volume:
    """Determinants (nz, ny, nx) of identity + slope of a field (3, nz, ny, nx)."""
    slopes = [
        [
            np.gradient(u_mm[row], spacing_mm[column], axis=column)
            if u_mm.shape[column + 1] > 1
            else np.zeros_like(u_mm[row])
            for column in range(3)
        ]
        for row in range(3)
    ]
    for axis in range(3):
        slopes[axis][axis] = slopes[axis][axis] + 1
    (a, b, c), (d, e, f), (g, h, i) = slopes
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g), np.float32)


def grid_positions(
    start_mm: Sequence[float], spacing_mm: Sequence[float], shape: Sequence[int]
) -> FloatArray:
    """The places (3, N) of a grid's nodes in the order of a raveled array."""
    axes = [s + d * np.arange(n) for s, d, n in zip(start_mm, spacing_mm, shape, strict=True)]
    return np.stack([places.ravel() for places in np.meshgrid(*axes, indexing="ij")])


def to_world(places_mm: FloatArray, geometry: Geometry) -> FloatArray:
    """Places (3, N) of axis mm -> LPS mm (N, 3), x, y, z."""
    return geometry.voxel_to_world((places_mm / _column(geometry.spacing_zyx))[::-1].T)


def from_world(points_mm: FloatArray, geometry: Geometry) -> FloatArray:
    """LPS mm (N, 3), x, y, z -> places (3, N) of axis mm."""
    return np.asarray(geometry.world_to_voxel(points_mm).T[::-1] * _column(geometry.spacing_zyx))


def _column(values: Sequence[float] | FloatArray) -> FloatArray:
    return np.asarray(values, np.float64).reshape(3, 1)
