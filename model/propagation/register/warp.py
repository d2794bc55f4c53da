"""Both scans on one grid: the follow-up as it is, the baseline through a transform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from ...case.geometry import FloatArray, Geometry
from . import RegistrationImage, Transform
from .field import voxel_centres_mm
from .grids import FloatVolume, Mask, block_average, to_image

# Less contrast in a neighbourhood than this is noise, and counts for little.
_NOISE_HU = 40.0
# A neighbourhood of which less was seen says nothing.
_MIN_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class SmoothedScan:
    """A scan without what a spacing cannot show: HU (z, y, x), where it was measured, and their grid."""

    hu: FloatVolume
    seen: Mask
    geometry: Geometry

    @classmethod
    def of(cls, scan: RegistrationImage, spacing_mm: float) -> SmoothedScan:
        """Averaged as far as voxels fit into the spacing, then low-passed."""
        hu, seen, geometry = block_average(scan, spacing_mm)
        # 0.45: a Gaussian that leaves a few percent at the spacing's highest frequency.
        sigmas = [0.45 * max(spacing_mm**2 - s**2, 0.0) ** 0.5 for s in geometry.spacing_xyz]
        if max(sigmas) > 0.3 and min(hu.shape) >= 4:
            image = sitk.SmoothingRecursiveGaussian(to_image(hu, geometry), [max(s, 0.2) for s in sigmas])
            hu = sitk.GetArrayFromImage(image)
        return cls(hu, seen, geometry)

    def at(self, places_mm: FloatArray, grid: Geometry) -> tuple[FloatVolume, Mask]:
        """HU at the world positions of a grid's voxels, and which of them were seen.

        Beyond the scan stands what its border shows: a step down to air would look like a part of the body.
        """
        voxels = np.ascontiguousarray(self.geometry.world_to_voxel(places_mm)[:, ::-1].T)
        hu = map_coordinates(self.hu, voxels, np.float32, order=1, mode="nearest")
        seen = map_coordinates(self.seen.view(np.uint8), voxels, np.uint8, order=0, mode="constant")
        return hu.reshape(grid.shape_zyx), seen.reshape(grid.shape_zyx) > 0


@dataclass(frozen=True, eq=False)
class PairOnGrid:
    """Both scans in HU (z, y, x) on one grid in the follow-up's world, and what each has seen of it."""

    grid: Geometry
    fixed: FloatVolume
    moving: FloatVolume
    fixed_seen: Mask
    moving_seen: Mask

    @classmethod
    def of(
        cls, grid: Geometry, fixed: SmoothedScan, moving: SmoothedScan, transform: Transform
    ) -> PairOnGrid:
        places_mm = voxel_centres_mm(grid)
        fixed_hu, fixed_seen = fixed.at(places_mm, grid)
        moving_hu, moving_seen = moving.at(transform.fixed_to_moving(places_mm), grid)
        return cls(grid, fixed_hu, moving_hu, fixed_seen, moving_seen)


def normalise_locally(hu: FloatVolume, seen: Mask, sigma_voxels: float) -> FloatVolume:
    """HU less the neighbourhood's mean, over its spread; 0 where nothing was seen.

    The neighbourhood is a Gaussian. Two such images have a mean square of one minus local correlation, so
    that a lung which changes its density with each breath still looks the same.
    """
    weight = seen.astype(np.float32)
    share = np.maximum(gaussian_filter(weight, sigma_voxels, mode="constant"), _MIN_SHARE)
    mean = gaussian_filter(hu * weight, sigma_voxels, mode="constant") / share
    square = gaussian_filter((hu - mean) ** 2 * weight, sigma_voxels, mode="constant") / share
    spread = np.sqrt(square + np.float32(_NOISE_HU**2))
    return np.asarray((hu - mean) * weight / spread, np.float32)
