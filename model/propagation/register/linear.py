"""The linear transform of points, shared by all back ends that start from one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...case.geometry import FloatArray


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """moving = matrix @ fixed + offset_mm, in world LPS mm; matrix is (3, 3) and invertible."""

    matrix: FloatArray
    offset_mm: FloatArray

    @classmethod
    def identity(cls) -> LinearTransform:
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def translation(cls, offset_mm: npt.ArrayLike) -> LinearTransform:
        return cls(np.eye(3), np.asarray(offset_mm, np.float64))

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Follow-up points (N, 3), LPS mm -> baseline points (N, 3)."""
        return np.asarray(points_mm, np.float64) @ self.matrix.T + self.offset_mm

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Baseline points (N, 3), LPS mm -> follow-up points (N, 3)."""
        return (np.asarray(points_mm, np.float64) - self.offset_mm) @ np.linalg.inv(self.matrix).T

    @property
    def determinant(self) -> float:
        """Volume of a moving piece for a unit volume of fixed."""
        return float(np.linalg.det(self.matrix))

    @property
    def stretches(self) -> FloatArray:
        """The three factors of length along the principal directions, largest first."""
        return np.asarray(np.linalg.svd(self.matrix, compute_uv=False), np.float64)
