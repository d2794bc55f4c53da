"""Transforms by displacement fields, the result of all deformable back ends, and tools for transforms."""

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
"""Outside of their grid displacements fade linearly to zero within this distance."""

_TOLERANCE_MM = 0.01
_ITERATIONS = 30
# A point whose step has shrunk to this has no inverse near it (the field folds there).
_SMALLEST_STEP = 1 / 64

FloatField = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FieldTransform:
    """moving = linear(fixed + u(fixed)), in world coordinates, LPS mm.

    u is interpolated linearly; outside of its grid it is that of the nearest border voxel, fading to zero
    within `FADE_MM`.

    Attributes:
        linear: applied after the displacement.
        displacement_mm: u, (z, y, x, 3) float32, last axis x, y, z of the world.
        geometry: grid of u in the world of the fixed scan, in any orientation.
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
        """Evaluate u at points (N, 3) of the follow-up, LPS mm.

        Returns:
            (N, 3) displacements x, y, z in mm.
        """
        voxels = self.geometry.world_to_voxel(np.asarray(points_mm, np.float64).reshape(-1, 3))
        last = np.subtract(self.geometry.size_xyz, 1)
        inside = np.clip(voxels, 0, last)
        outside_mm = np.linalg.norm((voxels - inside) * self.geometry.spacing_xyz, axis=1)
        weight: FloatArray = np.clip(1.0 - outside_mm / FADE_MM, 0.0, 1.0)
        reached = np.flatnonzero(weight)
        places = np.ascontiguousarray(inside[reached, ::-1].T)
        values = np.zeros((len(voxels), 3))
        for axis in range(3):
            component = self.displacement_mm[..., axis]
            values[reached, axis] = map_coordinates(component, places, np.float64, order=1, mode="nearest")
        return values * weight[:, None]

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        return self.linear.fixed_to_moving(points + self.displacement(points))

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, LPS mm, to the follow-up, to 0.01 mm where u is invertible.

        Returns:
            (N, 3) points of the follow-up, LPS mm; where the field folds, the best solution found.
        """
        goal_mm = self.linear.moving_to_fixed(np.asarray(points_mm, np.float64).reshape(-1, 3))
        return invert_displacement(self.displacement, goal_mm)


def invert_displacement(displacement: Callable[[FloatArray], FloatArray], goal_mm: FloatArray) -> FloatArray:
    """Solve p + displacement(p) = goal for points p by damped fixed-point iteration.

    Args:
        displacement: maps points (N, 3), mm, to displacements (N, 3), mm.
        goal_mm: (N, 3), mm.

    Returns:
        The points p (N, 3), mm, to 0.01 mm where the displacement is invertible.
    """
    points = goal_mm - displacement(goal_mm)
    residual = goal_mm - points - displacement(points)
    error = np.linalg.norm(residual, axis=1)
    step = np.ones(len(points))
    for _ in range(_ITERATIONS):
        active = np.flatnonzero((error > _TOLERANCE_MM) & (step >= _SMALLEST_STEP))
        if len(active) == 0:
            break
        trial = points[active] + step[active, None] * residual[active]
        trial_residual = goal_mm[active] - trial - displacement(trial)
        trial_error = np.linalg.norm(trial_residual, axis=1)
        nearer = trial_error < error[active]
        step[active[~nearer]] /= 2
        active = active[nearer]
        points[active], residual[active] = trial[nearer], trial_residual[nearer]
        error[active] = trial_error[nearer]
    return points


@dataclass(frozen=True, eq=False)
class Composition:
    """One transform after another: fixed -> ``first`` -> ``second`` -> moving."""

    first: Transform
    second: Transform

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        return self.second.fixed_to_moving(self.first.fixed_to_moving(points_mm))

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, LPS mm, to the follow-up.

        Returns:
            (N, 3) points of the follow-up, LPS mm.
        """
        return self.first.moving_to_fixed(self.second.moving_to_fixed(points_mm))


def compose_transforms(first: Transform, second: Transform) -> Transform:
    """Compose fixed -> first -> second -> moving; two linear transforms are merged into one."""
    if isinstance(first, LinearTransform) and isinstance(second, LinearTransform):
        return LinearTransform(second.matrix @ first.matrix, second.fixed_to_moving(first.offset_mm[None])[0])
    return Composition(first, second)


def coarser_grid(geometry: Geometry, spacing_mm: float) -> Geometry:
    """Coarser grid of about the given spacing over the same extent, with the same orientation."""
    sides = [(n - 1) * s for n, s in zip(geometry.size_xyz, geometry.spacing_xyz, strict=True)]
    nx, ny, nz = (max(1, round(side / spacing_mm)) + 1 for side in sides)
    # An axis of a single voxel still needs a spacing above zero.
    sx, sy, sz = (max(side, 1e-3) / (n - 1) for side, n in zip(sides, (nx, ny, nz), strict=True))
    return Geometry((nx, ny, nz), (sx, sy, sz), geometry.origin_xyz, geometry.direction)


def voxel_centres_mm(geometry: Geometry) -> FloatArray:
    """World positions of all voxel centres of a grid.

    Returns:
        (z * y * x, 3) points x, y, z, LPS mm, in the order of a raveled (z, y, x) array.
    """
    indices_zyx = np.indices(geometry.shape_zyx, np.float64).reshape(3, -1)
    return geometry.voxel_to_world(indices_zyx[::-1].T)


def sample_on_grid(transform: Transform, geometry: Geometry, linear: LinearTransform) -> FieldTransform:
    """Sample any transform on a grid, as the given linear transform and the displacements before it."""
    centres = voxel_centres_mm(geometry)
    displacements = linear.moving_to_fixed(transform.fixed_to_moving(centres)) - centres
    return FieldTransform(linear, displacements.astype(np.float32).reshape(*geometry.shape_zyx, 3), geometry)


def jacobian_determinants(transform: FieldTransform) -> FloatField:
    """Local change of volume from the fixed to the moving scan at each voxel of the field.

    Returns:
        Jacobian determinants (z, y, x) float32; zero or negative where the transform folds.
    """
    geometry = transform.geometry
    columns = np.asarray(geometry.direction, np.float64).reshape(3, 3)
    jacobian: Array = np.zeros((*geometry.shape_zyx, 3, 3), np.float32)
    for axis, n in enumerate(geometry.shape_zyx):
        if n < 2:
            continue
        slope = np.gradient(transform.displacement_mm, geometry.spacing_zyx[axis], axis=axis)
        # d u / d world = (d u / d index axis) times the direction of that axis in the world.
        jacobian += slope[..., :, None] * columns[:, 2 - axis].astype(np.float32)
    jacobian += np.eye(3, dtype=np.float32)
    return np.asarray(np.linalg.det(jacobian) * transform.linear.determinant, np.float32)


def folding_share(transform: FieldTransform) -> float:
    """Share of the grid's voxels at which the transform folds (non-positive Jacobian determinant)."""
    return float(np.mean(jacobian_determinants(transform) <= 0))
