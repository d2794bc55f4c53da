"""Shapes of rendered lesions: a signed distance at any point, for any size, and the size that has a volume.

Points are arrays (..., 3) of world coordinates, x, y, z in mm (LPS); distances are in mm, negative inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Random = np.random.Generator


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of identity direction: shape (z, y, x), spacing and origin x, y, z in mm."""

    shape: tuple[int, int, int]
    spacing_xyz: tuple[float, float, float]
    origin_xyz: tuple[float, float, float]

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        x, y, z = self.spacing_xyz
        return (z, y, x)

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_xyz)) / 1000

    @property
    def corners_xyz(self) -> tuple[Floats, Floats]:
        """Centres of the first and of the last voxel, LPS mm."""
        low = np.asarray(self.origin_xyz)
        return low, low + (np.asarray(self.shape[::-1]) - 1) * np.asarray(self.spacing_xyz)

    def points(self, box: tuple[slice, ...] | None = None, offset_zyx: Floats | None = None) -> Floats:
        """World points of the voxel centres in a box, shifted by a fraction of a voxel: (z, y, x, 3)."""
        box = box or tuple(slice(0, n) for n in self.shape)
        shift = np.zeros(3) if offset_zyx is None else offset_zyx
        axes = [np.arange(s.start, s.stop) + d for s, d in zip(box, shift, strict=True)]
        index_zyx = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        points: Floats = index_zyx[..., ::-1] * np.asarray(self.spacing_xyz) + np.asarray(self.origin_xyz)
        return points

    def index(self, points_xyz: Floats) -> Floats:
        """World points (..., 3) to voxel indices, coordinates first: (3, ...), z, y, x."""
        index_xyz = (points_xyz - np.asarray(self.origin_xyz)) / np.asarray(self.spacing_xyz)
        return np.moveaxis(index_xyz[..., ::-1], -1, 0)

    def box_round(self, centre_xyz: Floats, reach_mm: float) -> tuple[slice, ...]:
        """The voxels within a distance of a point along each axis, clipped to the grid."""
        centre = self.index(centre_xyz)
        half = reach_mm / np.asarray(self.spacing_zyx)
        low, high = np.floor(centre - half).astype(int), np.ceil(centre + half).astype(int) + 1
        return tuple(
            slice(max(0, int(a)), max(0, min(n, int(b))))
            for a, b, n in zip(low, high, self.shape, strict=True)
        )


class Shape(Protocol):
    """A shape round a centre that can be made larger and smaller."""

    @property
    def centre_xyz(self) -> Floats:
        """The centre, (3,)."""

    @property
    def reach_mm(self) -> float:
        """No point of the shape at size 1 is further from the centre."""

    def distance(self, points_xyz: Floats, size: float) -> Floats:
        """Signed distance of points to the surface at a size (1: as it was made)."""


@dataclass(frozen=True, eq=False)
class Blob:
    """An ellipsoid with soft bulges and dents; ``to_ball`` makes it a sphere of the same volume."""

    centre_xyz: Floats
    radius_mm: float
    to_ball: Floats
    bulge_towards: Floats
    bulges: Floats

    @classmethod
    def draw(cls, random: Random, centre_xyz: Floats, diameter_mm: float) -> Blob:
        """Draw axes of up to 1.7 : 1, their directions, and six bulges of up to a fifth of the radius."""
        axes = np.exp(random.uniform(-0.27, 0.27, 3))
        axes /= np.prod(axes) ** (1 / 3)
        turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
        towards = random.standard_normal((6, 3))
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        to_ball = turn @ np.diag(1 / axes) @ turn.T
        return cls(centre_xyz, diameter_mm / 2, to_ball, towards, random.uniform(-0.2, 0.2, 6))

    @property
    def reach_mm(self) -> float:
        longest = 1 / float(np.linalg.svd(self.to_ball, compute_uv=False)[-1])
        return self.radius_mm * longest * (1 + float(np.maximum(self.bulges, 0).sum()))

    def changed(self, random: Random) -> Blob:
        """The same lesion later: its bulges have changed by half."""
        return replace(self, bulges=0.5 * self.bulges + random.uniform(-0.1, 0.1, 6))

    def distance(self, points_xyz: Floats, size: float) -> Floats:
        offset = (points_xyz - self.centre_xyz) @ self.to_ball.T
        length = np.linalg.norm(offset, axis=-1)
        cosine = (offset @ self.bulge_towards.T) / np.maximum(length, 1e-9)[..., None]
        surface = 1 + np.exp(3 * (cosine - 1)) @ self.bulges
        distance: Floats = length - size * self.radius_mm * surface
        return distance


@dataclass(frozen=True, eq=False)
class MaskShape:
    """An outlined lesion, scaled about its centre.

    Attributes:
        centre_xyz: centre of the outline.
        grid: grid of the outline.
        outline: signed distance to it in mm, (z, y, x).
        reach_mm: no point of it is further from the centre.
    """

    centre_xyz: Floats
    grid: Grid
    outline: Floats
    reach_mm: float

    @classmethod
    def of(cls, mask: Bools, grid: Grid, random: Random | None = None, depth: float = 0.15) -> MaskShape:
        """Take the outline of a mask (z, y, x).

        Args:
            mask: the lesion.
            grid: its grid.
            random: makes eight dents and bulges; None leaves the outline as it is.
            depth: of the deepest dent, as a share of the radius of the sphere of the lesion's volume.
        """
        sampling = grid.spacing_zyx
        outside = ndimage.distance_transform_edt(~mask, sampling)
        outline = outside - ndimage.distance_transform_edt(mask, sampling)
        outline = ndimage.gaussian_filter(outline, [0.8 / s for s in sampling])
        points = grid.points()
        centre = points[mask].mean(axis=0)
        radius = float((mask.sum() * grid.voxel_ml * 750 / np.pi) ** (1 / 3))
        if random is not None:
            towards = random.standard_normal((8, 3))
            towards /= np.linalg.norm(towards, axis=1, keepdims=True)
            for at, share in zip(centre + radius * towards, random.uniform(-depth, depth, 8), strict=True):
                far = ((points - at) ** 2).sum(axis=-1) / (2 * (0.45 * radius) ** 2)
                outline += share * radius * np.exp(-far)
        furthest = float(np.linalg.norm(points[outline < 0] - centre, axis=-1).max())
        return cls(centre, grid, outline.astype(np.float32), furthest + max(sampling))

    def distance(self, points_xyz: Floats, size: float) -> Floats:
        index = self.grid.index(self.centre_xyz + (points_xyz - self.centre_xyz) / size)
        # Beyond the grid of the outline the distance goes on growing.
        last = np.asarray(self.grid.shape).reshape(3, *([1] * (index.ndim - 1))) - 1
        beyond = np.abs(index - np.clip(index, 0, last)).max(axis=0) * min(self.grid.spacing_xyz)
        distance = ndimage.map_coordinates(self.outline, index, order=1, mode="nearest")
        return np.asarray((distance + beyond) * size)


def size_of_volume(volume_ml: Callable[[float], float], target_ml: float, largest: float) -> float:
    """Find the size at which a shape has a volume, by bisection.

    Args:
        volume_ml: volume at a size; it grows with the size.
        target_ml: the volume to reach.
        largest: upper bound of the size; returned if the volume is not reached there.

    Returns:
        The size, to two thousandths.
    """
    low, high = 0.0, largest
    if volume_ml(high) <= target_ml:
        return high
    while high - low > 2e-3 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if volume_ml(middle) < target_ml else (low, middle)
    return (low + high) / 2


def equivalent_diameter_mm(volume_ml: float) -> float:
    """Diameter of the sphere of a volume."""
    return float((6000 * volume_ml / np.pi) ** (1 / 3))


def smoothed(array: npt.NDArray[Any], grid: Grid, sigma_mm: float) -> Floats:
    """Gaussian smoothing by the same length along all axes."""
    sigma = [sigma_mm / s for s in grid.spacing_zyx]
    return np.asarray(ndimage.gaussian_filter(np.asarray(array, np.float64), sigma, mode="nearest"))
