"""Coarse map of the outside of a patient: air that reaches the edge of the field of view.

It is made for warnings: the couch counts as body, and so does every air that is enclosed in its slice, as in
lungs, airways and bowel. Lung that is cut by the edge of a scan is denser than air.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .axes import Array, Index, Vector

STEP_MM = 5.0

# Scanners pad what they did not measure with values far below air.
NOT_MEASURED_HU = -1500.0
_AIR_HU = -1000.0
# A mean over 15 mm of air is below it, one of lung above, even of emphysema.
_OUTSIDE_HU = -940.0
_IN_SLICE = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))], bool)


def sampled_voxels(ct: Array, spacing_zyx: Vector, step_mm: float = STEP_MM) -> tuple[Array, Index]:
    """Take every n-th voxel along each axis, so that the samples are about as far apart in mm.

    Args:
        ct: HU (z, y, x).
        spacing_zyx: mm.
        step_mm: distance of the samples.

    Returns:
        The samples (z, y, x), a view; and n along each axis (z, y, x).
    """
    sides = zip(spacing_zyx, ct.shape, strict=True)
    # At least eight samples along each side, whatever the header's spacing.
    nz, ny, nx = (max(1, min(round(step_mm / spacing), size // 8)) for spacing, size in sides)
    return ct[nz // 2 :: nz, ny // 2 :: ny, nx // 2 :: nx], (nz, ny, nx)


@dataclass(frozen=True, eq=False)
class BodyMap:
    """Places that are certainly outside the patient.

    Attributes:
        outside: booleans (z, y, x) of cells: air, as all around the cell, that reaches the edge in its slice.
        body_share: share of the scan that is not air outside, 0 to 1.
        steps_zyx: voxels per cell.
    """

    outside: npt.NDArray[np.bool_]
    body_share: float
    steps_zyx: Index

    @classmethod
    def of(cls, ct: Array, spacing_zyx: Vector) -> BodyMap:
        """Find the outside of a patient.

        Args:
            ct: HU (z, y, x); NaN and values far below air are not measured, and outside.
            spacing_zyx: mm.
        """
        samples, steps = sampled_voxels(ct, spacing_zyx)
        hu = np.nan_to_num(np.asarray(samples, np.float32), nan=_AIR_HU, posinf=_AIR_HU, neginf=_AIR_HU)
        np.maximum(hu, _AIR_HU, out=hu)
        air = ndimage.uniform_filter(hu, (1, 3, 3), mode="nearest") < _OUTSIDE_HU
        labels, count = ndimage.label(air, _IN_SLICE)
        reaches_edge = np.zeros(count + 1, bool)
        for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
            reaches_edge[np.unique(edge)] = True
        reaches_edge[0] = False
        outside = reaches_edge[labels]
        clear = ndimage.binary_erosion(outside, np.ones((3, 3, 3), bool), border_value=1)
        return cls(clear, 1.0 - float(outside.mean()), steps)

    def is_outside(self, points_zyx: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Look up places.

        Args:
            points_zyx: voxel indices (N, 3) z, y, x of the scan; those beyond it count as at its edge.

        Returns:
            (N,) booleans: True in air at least about `STEP_MM` off the patient.
        """
        cells = np.floor((np.asarray(points_zyx, np.float64).reshape(-1, 3) + 0.5) / self.steps_zyx)
        z, y, x = np.clip(cells.astype(int), 0, np.subtract(self.outside.shape, 1)).T
        return np.asarray(self.outside[z, y, x])
