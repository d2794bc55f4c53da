"""Both scans of a pair on one grid: the follow-up resampled, the baseline warped by a transform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from ...case.geometry import FloatArray, Geometry
from . import RegistrationImage, Transform
from .field import voxel_centres_mm
from .grids import FloatVolume, Mask, block_average, to_image

# Lower contrast in a neighbourhood is noise and gets little weight.
_NOISE_HU = 40.0
# Smallest measured share of a neighbourhood, to avoid division by zero.
_MIN_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class SmoothedScan:
    """A scan low-passed for a spacing: HU (z, y, x), mask of measured voxels (z, y, x), and their grid."""

    hu: FloatVolume
    seen: Mask
    geometry: Geometry

    @classmethod
    def of(cls, scan: RegistrationImage, spacing_mm: float) -> SmoothedScan:
        """Average blocks of voxels that fit into the spacing, then low-pass."""
        hu, seen, geometry = block_average(scan, spacing_mm)
        # 0.45: a Gaussian that passes a few percent at the spacing's highest frequency.
        sigmas = [0.45 * max(spacing_mm**2 - s**2, 0.0) ** 0.5 for s in geometry.spacing_xyz]
        if max(sigmas) > 0.3 and min(hu.shape) >= 4:
            image = sitk.SmoothingRecursiveGaussian(to_image(hu, geometry), [max(s, 0.2) for s in sigmas])
            hu = sitk.GetArrayFromImage(image)
        return cls(hu, seen, geometry)

    def at(self, points_mm: FloatArray, grid: Geometry) -> tuple[FloatVolume, Mask]:
        """Sample the scan at given positions.

        Outside of the scan the border is continued, as a step to air would look like part of the body.

        Args:
            points_mm: world positions of the voxels of ``grid``, (z * y * x, 3), LPS mm.
            grid: gives the shape of the results.

        Returns:
            HU (z, y, x) float32, and the mask (z, y, x) of measured voxels.
        """
        voxels = np.ascontiguousarray(self.geometry.world_to_voxel(points_mm)[:, ::-1].T)
        hu = map_coordinates(self.hu, voxels, np.float32, order=1, mode="nearest")
        seen = map_coordinates(self.seen.view(np.uint8), voxels, np.uint8, order=0, mode="constant")
        return hu.reshape(grid.shape_zyx), seen.reshape(grid.shape_zyx) > 0


@dataclass(frozen=True, eq=False)
class PairOnGrid:
    """Both scans in HU (z, y, x) on one grid in the follow-up's world, with masks of measured voxels."""

    grid: Geometry
    fixed: FloatVolume
    moving: FloatVolume
    fixed_seen: Mask
    moving_seen: Mask

    @classmethod
    def of(
        cls, grid: Geometry, fixed: SmoothedScan, moving: SmoothedScan, transform: Transform
    ) -> PairOnGrid:
        """Resample the fixed scan, and warp the moving one by the transform."""
        centres_mm = voxel_centres_mm(grid)
        fixed_hu, fixed_seen = fixed.at(centres_mm, grid)
        moving_hu, moving_seen = moving.at(transform.fixed_to_moving(centres_mm), grid)
        return cls(grid, fixed_hu, moving_hu, fixed_seen, moving_seen)


def normalise_locally(hu: FloatVolume, seen: Mask, sigma_voxels: float) -> FloatVolume:
    """Normalise to (HU - local mean) / local spread in a Gaussian neighbourhood.

    The mean squared difference of two such images is one minus local correlation, which is insensitive to
    changes of lung density with breathing.

    Args:
        hu: (z, y, x).
        seen: mask (z, y, x) of measured voxels.
        sigma_voxels: of the Gaussian.

    Returns:
        (z, y, x) float32; 0 where nothing was measured.
    """
    weight = seen.astype(np.float32)
    share = np.maximum(gaussian_filter(weight, sigma_voxels, mode="constant"), _MIN_SHARE)
    mean = gaussian_filter(hu * weight, sigma_voxels, mode="constant") / share
    square = gaussian_filter((hu - mean) ** 2 * weight, sigma_voxels, mode="constant") / share
    spread = np.sqrt(square + np.float32(_NOISE_HU**2))
    return np.asarray((hu - mean) * weight / spread, np.float32)
