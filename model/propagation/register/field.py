"""The transform that all deformable back ends end in: a linear one after a field of displacements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from ...case.geometry import Array, FloatArray, Geometry
from . import Transform
from .linear import LinearTransform

FADE_MM = 20.0
"""Beyond its grid a displacement fades linearly to nothing within this distance."""

_TOLERANCE_MM = 0.01
_ITERATIONS = 30
# A point whose step has been halved this often has no inverse near it (the field folds there).
_SMALLEST_STEP = 1 / 64

FloatField = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FieldTransform:
    """moving = linear(fixed + u(fixed)), in world LPS mm.

    ``displacement_mm`` (z, y, x, 3) float32 holds u, its last axis the world's x, y, z, on a grid of any
    orientation in the fixed scan's world. Between voxels it is linear; outside of the grid it is that of
    the nearest border voxel, faded to zero within `FADE_MM`.
    """

    linear: LinearTransform
    displacement_mm: FloatField
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.displacement_mm.shape != (*self.geometry.shape_zyx, 3):
            raise ValueError(
                f"displacements of shape {self.displacement_mm.shape} on a grid of {self.geometry.shape_zyx}"
            )
        if not np.isfinite(self.displacement_mm).all():
            raise ValueError("the displacements are not all finite")

    def displacement(self, points_mm: npt.ArrayLike) -> FloatArray:
        """u at points (N, 3) of the fixed world, LPS mm -> (N, 3) mm."""
        voxels = self.geometry.world_to_voxel(np.asarray(points_mm, np.float64).reshape(-1, 3))
        last = np.subtract(self.geometry.size_xyz, 1)
        inside = np.clip(voxels, 0, last)
        outside_mm = np.linalg.norm((voxels - inside) * self.geometry.spacing_xyz, axis=1)
        weight = np.clip(1.0 - outside_mm / FADE_MM, 0.0, 1.0)
        reached = np.flatnonzero(weight)
        places = np.ascontiguousarray(inside[reached, ::-1].T)
        values = np.zeros((len(voxels), 3))
        for axis in range(3):
            component = self.displacement_mm[..., axis]
            values[reached, axis] = map_coordinates(component, places, np.float64, order=1, mode="nearest")
        return values * weight[:, None]

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Follow-up points (N, 3), LPS mm -> baseline points (N, 3)."""
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        return self.linear.fixed_to_moving(points + self.displacement(points))

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Baseline points (N, 3), LPS mm -> follow-up points (N, 3), undone to 0.01 mm where u allows.

        Where the field folds there are several answers or none near; the best point found is given.
        """
        wanted = self.linear.moving_to_fixed(np.asarray(points_mm, np.float64).reshape(-1, 3))
        return invert_displacement(self.displacement, wanted)


def invert_displacement(
    displacement: Callable[[FloatArray], FloatArray], wanted_mm: FloatArray
) -> FloatArray:
    """The points p (N, 3) with p + displacement(p) = wanted, by steps that only ever come nearer."""
    points = wanted_mm - displacement(wanted_mm)
    missing = wanted_mm - points - displacement(points)
    error = np.linalg.norm(missing, axis=1)
    step = np.ones(len(points))
    for _ in range(_ITERATIONS):
        active = np.flatnonzero((error > _TOLERANCE_MM) & (step >= _SMALLEST_STEP))
        if len(active) == 0:
            break
        tried = points[active] + step[active, None] * missing[active]
        tried_missing = wanted_mm[active] - tried - displacement(tried)
        tried_error = np.linalg.norm(tried_missing, axis=1)
        nearer = tried_error < error[active]
        step[active[~nearer]] /= 2
        active = active[nearer]
        points[active], missing[active] = tried[nearer], tried_missing[nearer]
        error[active] = tried_error[nearer]
    return points


@dataclass(frozen=True, eq=False)
class Composition:
    """One transform after another: fixed -> ``first`` -> ``second`` -> moving."""

    first: Transform
    second: Transform

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Follow-up points (N, 3), LPS mm -> baseline points (N, 3)."""
        return self.second.fixed_to_moving(self.first.fixed_to_moving(points_mm))

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Baseline points (N, 3), LPS mm -> follow-up points (N, 3)."""
        return self.first.moving_to_fixed(self.second.moving_to_fixed(points_mm))


def compose_transforms(first: Transform, second: Transform) -> Transform:
    """fixed -> first -> second -> moving; two linear transforms become one."""
    if isinstance(first, LinearTransform) and isinstance(second, LinearTransform):
        return LinearTransform(second.matrix @ first.matrix, second.fixed_to_moving(first.offset_mm[None])[0])
    return Composition(first, second)


def coarser_grid(geometry: Geometry, spacing_mm: float) -> Geometry:
    """A coarser grid of about the given spacing, from the scan's first voxels to its last, oriented alike."""
    sides = [(n - 1) * s for n, s in zip(geometry.size_xyz, geometry.spacing_xyz, strict=True)]
    nx, ny, nz = (max(1, round(side / spacing_mm)) + 1 for side in sides)
    # An axis of a single voxel still needs a spacing above zero.
    sx, sy, sz = (max(side, 1e-3) / (n - 1) for side, n in zip(sides, (nx, ny, nz), strict=True))
    return Geometry((nx, ny, nz), (sx, sy, sz), geometry.origin_xyz, geometry.direction)


def voxel_centres_mm(geometry: Geometry) -> FloatArray:
    """World positions of all voxels, (z * y * x, 3) LPS mm, in the order of a raveled array."""
    indices_zyx = np.indices(geometry.shape_zyx, np.float64).reshape(3, -1)
    return geometry.voxel_to_world(indices_zyx[::-1].T)


def sample_on_grid(transform: Transform, geometry: Geometry, linear: LinearTransform) -> FieldTransform:
    """Any transform on a grid: ``linear`` and what is left of the transform after it."""
    places = voxel_centres_mm(geometry)
    left = linear.moving_to_fixed(transform.fixed_to_moving(places)) - places
    return FieldTransform(linear, left.astype(np.float32).reshape(*geometry.shape_zyx, 3), geometry)


def jacobian_determinants(transform: FieldTransform) -> FloatField:
    """Volume of a moving piece for a unit volume of fixed, at each voxel of the grid, (z, y, x)."""
    geometry = transform.geometry
    columns = np.asarray(geometry.direction, np.float64).reshape(3, 3)
    jacobian: Array = np.zeros((*geometry.shape_zyx, 3, 3), np.float32)
    for axis, n in enumerate(geometry.shape_zyx):
        if n < 2:
            continue
        slope = np.gradient(transform.displacement_mm, geometry.spacing_zyx[axis], axis=axis)
        # d u / d world = (d u / d index axis) times the axis' direction in the world.
        jacobian += slope[..., :, None] * columns[:, 2 - axis].astype(np.float32)
    jacobian += np.eye(3, dtype=np.float32)
    return np.asarray(np.linalg.det(jacobian) * transform.linear.determinant, np.float32)


def folding_share(transform: FieldTransform) -> float:
    """Share of the grid's voxels at which the transform folds or turns inside out."""
    return float(np.mean(jacobian_determinants(transform) <= 0))
