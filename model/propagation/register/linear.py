"""Linear transforms of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...case.geometry import FloatArray


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """moving = matrix @ fixed + offset_mm, in LPS mm; ``matrix`` is (3, 3) and invertible."""

    matrix: FloatArray
    offset_mm: FloatArray

    @classmethod
    def identity(cls) -> LinearTransform:
        """Create the identity."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def translation(cls, offset_mm: npt.ArrayLike) -> LinearTransform:
        """Create the translation moving = fixed + offset, (3,) x, y, z in LPS mm."""
        return cls(np.eye(3), np.asarray(offset_mm, np.float64))

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        return np.asarray(points_mm, np.float64) @ self.matrix.T + self.offset_mm

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, LPS mm, to the follow-up.

        Returns:
            (N, 3) points of the follow-up, LPS mm.
        """
        return (np.asarray(points_mm, np.float64) - self.offset_mm) @ np.linalg.inv(self.matrix).T

    @property
    def determinant(self) -> float:
        """Change of volume from the fixed to the moving scan."""
        return float(np.linalg.det(self.matrix))

    @property
    def stretches(self) -> FloatArray:
        """Changes of length along the principal directions, shape (3,), in descending order."""
        return np.asarray(np.linalg.svd(self.matrix, compute_uv=False), np.float64)
