"""How uniquely two registered scans match near single points: an estimate of the error from the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import map_coordinates, uniform_filter

from ...case.geometry import FloatArray
from . import RegistrationImage, Transform
from .grids import FloatVolume
from .warp import SmoothedScan

_SPACING_MM = 4.0
# Cubes of 36 mm are compared, at shifts of up to 16 mm along each axis.
_PATCH, _REACH = 4, 4
# Lower contrast is noise.
_NOISE_HU = 40.0
# A shift whose correlation is lower by less than this matches as well.
_TOLERANCE = 0.02
# Cubes with a smaller share inside both scans are not compared.
_LEAST_SEEN = 0.4
_CHUNK = 64
_FAR = 1e6


@dataclass(frozen=True, eq=False)
class LocalMatch:
    """Two scans, low-passed for the comparison of small cubes.

    Attributes:
        fixed: the follow-up.
        moving: the baseline.
    """

    fixed: SmoothedScan
    moving: SmoothedScan

    @classmethod
    def of(cls, fixed: RegistrationImage, moving: RegistrationImage) -> LocalMatch:
        """Low-pass both scans."""
        return cls(SmoothedScan.of(fixed, _SPACING_MM), SmoothedScan.of(moving, _SPACING_MM))

    def ambiguity_mm(self, points_mm: npt.ArrayLike, transform: Transform) -> FloatArray:
        """Measure how far around points the scans match as well as at the points themselves.

        A cube around each point of the follow-up is compared with the baseline at all shifts of up to 16 mm.
        The result is the root mean square of the shifts that match as well as none, or better: large where
        the transform is off, and where there is nothing to align.

        Args:
            points_mm: (N, 3) points of the follow-up, LPS mm.
            transform: the transform to judge.

        Returns:
            (N,) mm, 0 to 27.7; NaN where too little is in both scans.
        """
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        chunks = (points[first : first + _CHUNK] for first in range(0, len(points), _CHUNK))
        return np.concatenate([np.zeros(0), *(self._ambiguity_mm(chunk, transform) for chunk in chunks)])

    def _ambiguity_mm(self, points: FloatArray, transform: Transform) -> FloatArray:
        count, side = len(points), 2 * (_PATCH + _REACH) + 1
        core, wide = ((points[:, None] + _lattice(n)).reshape(-1, 3) for n in (_PATCH, _PATCH + _REACH))
        fixed, fixed_seen = (values.reshape(count, -1) for values in _sample(self.fixed, core))
        moving, seen = (
            values.reshape(count, side, side, side)
            for values in _sample(self.moving, transform.fixed_to_moving(wide))
        )
        similarity = np.where(_means(seen) >= _LEAST_SEEN, _correlations(fixed, moving), -np.inf)
        at_point = similarity[:, _REACH, _REACH, _REACH, None]
        matches = similarity.reshape(count, -1) >= at_point - _TOLERANCE
        squares = np.sum(_lattice(_REACH) ** 2, axis=1)
        result = np.sqrt(matches @ squares / np.maximum(1, matches.sum(axis=1)))
        is_seen = (fixed_seen.mean(axis=1) >= _LEAST_SEEN) & np.isfinite(at_point[:, 0])
        return np.where(is_seen, result, np.nan)


def _lattice(reach: int) -> FloatArray:
    """Offsets (N, 3) in mm of the places of a cube from its centre."""
    steps = np.arange(-reach, reach + 1) * _SPACING_MM
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


def _correlations(cubes: FloatVolume, around: FloatVolume) -> FloatVolume:
    """Correlations of cubes (N, voxels) with all cubes of larger ones (N, x, y, z), (N, x, y, z)."""
    centred = cubes - cubes.mean(axis=1, keepdims=True)
    windows = sliding_window_view(around, (2 * _PATCH + 1,) * 3, (1, 2, 3))
    products = [each.reshape(-1, len(one)) @ one for each, one in zip(windows, centred, strict=True)]
    covariance = np.asarray(products).reshape(windows.shape[:4]) / cubes.shape[1]
    variances = np.maximum(_means(around**2) - _means(around) ** 2, 0) + _NOISE_HU**2
    own = np.mean(centred**2, axis=1)[:, None, None, None] + _NOISE_HU**2
    return np.asarray(covariance / np.sqrt(own * variances), np.float32)


def _means(values: FloatVolume) -> FloatVolume:
    """Means of all cubes inside larger ones (N, x, y, z)."""
    means = uniform_filter(values, (0, *(2 * _PATCH + 1,) * 3))
    return np.asarray(means[:, _PATCH:-_PATCH, _PATCH:-_PATCH, _PATCH:-_PATCH])


def _sample(scan: SmoothedScan, points_mm: FloatArray) -> tuple[FloatVolume, FloatVolume]:
    """HU and measured shares (0 or 1) at points (N, 3), each (N,)."""
    voxels = np.ascontiguousarray(scan.geometry.world_to_voxel(points_mm)[:, ::-1].T)
    voxels[:, ~np.isfinite(voxels).all(axis=0)] = -_FAR  # places that the transform loses
    hu = map_coordinates(scan.hu, voxels, np.float32, order=1, mode="nearest")
    seen = map_coordinates(scan.seen.view(np.uint8), voxels, np.uint8, order=0, mode="constant")
    return hu, seen.astype(np.float32)
