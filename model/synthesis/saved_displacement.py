"""Displacement of a whole follow-up as saved: sampled on a coarse grid in LPS mm, and its accuracy."""

from __future__ import annotations

import numpy as np

from ..case.geometry import Array, Geometry
from ..propagation.register.field import FieldTransform, jacobian_determinants
from ..propagation.register.linear import LinearTransform
from .displacement import grid_positions
from .label_warp import PositionMap

_CHECKED_VOXELS = 20_000
_JACOBIAN_NODES = 250_000


def smallest_jacobian(field: FieldTransform) -> float:
    """Compute the smallest Jacobian determinant of all nodes, a few slices at a time to save memory.

    Args:
        field: displacements (z, y, x, 3) in LPS mm on their grid.
    """
    u, grid = field.displacement_mm, field.geometry
    count = max(1, _JACOBIAN_NODES // (u.shape[1] * u.shape[2]))
    smallest = np.inf
    for start in range(0, len(u), count):
        first, last = max(0, start - 1), min(len(u), start + count + 1)
        shape = (u.shape[2], u.shape[1], last - first)
        slab = Geometry(shape, grid.spacing_xyz, grid.origin_xyz, grid.direction)
        found = jacobian_determinants(FieldTransform(field.linear, u[first:last], slab))
        smallest = min(smallest, float(found[start - first : start - first + count].min()))
    return smallest


def sample_displacement(pullback: PositionMap, geometry: Geometry, spacing_mm: float) -> FieldTransform:
    """Sample the displacement, baseline point - follow-up point, over the whole scan.

    Args:
        pullback: map of follow-up positions to baseline positions (3, N), axis mm (z, y, x).
        geometry: grid of the scan.
        spacing_mm: approximate spacing of the samples in mm.

    Returns:
        Displacements (z, y, x, 3) in LPS mm (x, y, z), float32, on a grid that spans the scan.
    """
    sides = [(n - 1) * s for n, s in zip(geometry.shape_zyx, geometry.spacing_zyx, strict=True)]
    counts = [max(1, round(side / spacing_mm)) + 1 for side in sides]
    # An axis of a single voxel still needs a spacing above zero.
    steps = [max(side, 1e-3) / (n - 1) for side, n in zip(sides, counts, strict=True)]
    axes = np.asarray(geometry.direction, np.float64).reshape(3, 3)
    u = np.empty((*counts, 3), np.float32)
    for z in range(counts[0]):
        positions = grid_positions((z * steps[0], 0.0, 0.0), steps, (1, *counts[1:]))
        displaced_xyz = (pullback(positions) - positions)[::-1]
        u[z] = (axes @ displaced_xyz).T.reshape(*counts[1:], 3)
    grid = Geometry(
        (counts[2], counts[1], counts[0]),
        (steps[2], steps[1], steps[0]),
        geometry.origin_xyz,
        geometry.direction,
    )
    return FieldTransform(LinearTransform.identity(), u, grid)


def field_error(pullback: PositionMap, field: FieldTransform, labels: Array) -> float:
    """Compute the largest distance in mm between the sampled and the exact displacement at lesion voxels.

    Args:
        pullback: map of follow-up positions to baseline positions (3, N), axis mm (z, y, x).
        field: its samples, from `sample_displacement`.
        labels: lesion ids (z, y, x) of the follow-up.
    """
    voxels = np.argwhere(labels)
    if len(voxels) == 0:
        return 0.0
    voxels = voxels[:: max(1, len(voxels) // _CHECKED_VOXELS)]
    geometry = field.geometry
    spacing = [
        s * (g - 1) / max(n - 1, 1)
        for s, g, n in zip(geometry.spacing_zyx, geometry.shape_zyx, labels.shape, strict=True)
    ]
    positions = voxels.T.astype(np.float64) * np.reshape(spacing, (3, 1))
    axes = np.asarray(geometry.direction, np.float64).reshape(3, 3)
    world = (axes @ positions[::-1]).T + np.asarray(geometry.origin_xyz)
    true = (axes @ (pullback(positions) - positions)[::-1]).T
    return float(np.linalg.norm(field.displacement(world) - true, axis=1).max())
