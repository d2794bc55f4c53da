"""Positions in a scan in mm along its own axes, and displacement fields over a part of it.

Growth and motion are computed in "axis mm": index (z, y, x) times spacing, so that anisotropic and oblique
scans need no special care. Arrays of positions are (3, ...) in the order z, y, x. The axes of a CT are
orthogonal, hence lengths in axis mm are lengths in the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from ..case.geometry import FloatArray, Vector

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LocalField:
    """Displacements (3, nz, ny, nx) float32, axis mm (z, y, x), on a grid of their own; linear in between.

    Outside the grid the displacement is zero, or that of the border if ``reaches_on``. ``start_mm`` and
    ``spacing_mm`` are (z, y, x).
    """

    start_mm: Vector
    spacing_mm: Vector
    u_mm: Volume
    reaches_on: bool = False

    def displacement(self, positions_mm: FloatArray) -> FloatArray:
        """Interpolate the field.

        Args:
            positions_mm: positions (3, N) in axis mm (z, y, x), float64.

        Returns:
            Displacements (3, N) in axis mm (z, y, x), float64.
        """
        index = (positions_mm - _column(self.start_mm)) / _column(self.spacing_mm)
        displaced = np.zeros_like(positions_mm)
        if self.reaches_on:
            inside = np.arange(positions_mm.shape[1])
        else:
            last = _column(np.subtract(self.u_mm.shape[1:], 1))
            inside = np.flatnonzero(((index >= 0) & (index <= last)).all(axis=0))
        if len(inside):
            chosen = np.ascontiguousarray(index[:, inside])
            for axis in range(3):
                displaced[axis, inside] = map_coordinates(self.u_mm[axis], chosen, order=1, mode="nearest")
        return displaced


def pull_back(positions_mm: FloatArray, fields: Sequence[LocalField]) -> FloatArray:
    """Map positions after a series of changes to those before them; the last change is undone first.

    Args:
        positions_mm: positions (3, N) in axis mm (z, y, x).
        fields: the displacement field of each change, in the order in which they were applied.

    Returns:
        Positions (3, N) in axis mm (z, y, x) before the changes.
    """
    for field in reversed(fields):
        positions_mm = positions_mm + field.displacement(positions_mm)
    return positions_mm


def min_jacobian(u_mm: Volume, spacing_mm: Sequence[float]) -> float:
    """Compute the smallest determinant of identity + gradient of a displacement field.

    Args:
        u_mm: displacements (3, nz, ny, nx) in mm (z, y, x).
        spacing_mm: spacing (z, y, x) of the nodes in mm.
    """
    return float(jacobian(u_mm, spacing_mm).min())


def jacobian(u_mm: Volume, spacing_mm: Sequence[float]) -> Volume:
    """Compute the determinants of identity + gradient of a displacement field.

    Args:
        u_mm: displacements (3, nz, ny, nx) in mm (z, y, x).
        spacing_mm: spacing (z, y, x) of the nodes in mm.

    Returns:
        Determinants (nz, ny, nx), float32; at or below 0 the field folds.
    """
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
    """List the nodes of a grid.

    Args:
        start_mm: position (z, y, x) of the first node in axis mm.
        spacing_mm: spacing (z, y, x) in mm.
        shape: number of nodes along z, y, x.

    Returns:
        Positions (3, N) in axis mm (z, y, x), in the order of a raveled array; float64.
    """
    axes = [s + d * np.arange(n) for s, d, n in zip(start_mm, spacing_mm, shape, strict=True)]
    return np.stack([positions.ravel() for positions in np.meshgrid(*axes, indexing="ij")])


def _column(values: Sequence[float] | FloatArray) -> FloatArray:
    return np.asarray(values, np.float64).reshape(3, 1)
