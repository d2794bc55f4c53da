"""Grids of a tilted gantry, and balls on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.case.geometry import Array, FloatArray, Geometry, Index, Vector


def tilted(
    size_xyz: Index, spacing_xyz: Vector, degrees: float, origin_xyz: Vector = (0.0, 0.0, 0.0)
) -> Geometry:
    """A grid with axial slices, each shifted towards the back against the one below it."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    direction = (1.0, 0.0, 0.0, 0.0, 1.0, float(sine), 0.0, 0.0, float(cosine))
    return Geometry(size_xyz, spacing_xyz, origin_xyz, direction)


def world_of(geometry: Geometry) -> FloatArray:
    """World coordinates of all voxels, (z, y, x, 3) LPS mm."""
    indices = np.moveaxis(np.indices(geometry.shape_zyx), 0, -1)[..., ::-1]
    return geometry.voxel_to_world(indices)


def ball_on(geometry: Geometry, centre_mm: Vector, radius_mm: float) -> npt.NDArray[np.bool_]:
    """Voxels (z, y, x) of a grid whose centres lie in a ball."""
    return np.asarray(np.linalg.norm(world_of(geometry) - centre_mm, axis=-1) <= radius_mm)


def centroid_mm(mask: Array, geometry: Geometry) -> FloatArray:
    """Centre of gravity of a mask (z, y, x) in LPS mm."""
    return np.asarray(geometry.voxel_to_world(np.argwhere(mask)[:, ::-1]).mean(axis=0))
