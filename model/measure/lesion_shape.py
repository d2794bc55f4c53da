"""Sphericity of masks, by the surface of marching cubes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..case.geometry import Vector


def sphericity(mask: npt.NDArray[np.bool_], spacing_zyx: Vector) -> float:
    """Surface of the ball of a mask's volume, as a share of the mask's own surface ([Zwanenburg2020]).

    Volume and surface are those of the mesh of marching cubes at half height. Steps of voxels add to a
    surface, so that a ball has 0.9 to 1. Several pieces have a surface each.

    Args:
        mask: booleans (z, y, x), at least one of them true.
        spacing_zyx: mm.

    Returns:
        More than 0, 1 for a perfect ball.
    """
    from skimage.measure import marching_cubes, mesh_surface_area  # takes a second to import

    solid = np.pad(mask, 1).astype(np.float32)
    vertices, faces, *_ = marching_cubes(solid, 0.5, spacing=tuple(spacing_zyx))
    corners = np.asarray(vertices, np.float64)[faces]
    volume_mm3 = abs(float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])))) / 6
    area_mm2 = float(mesh_surface_area(vertices, faces))
    return float(math.cbrt(math.pi * 36 * volume_mm3**2)) / area_mm2
