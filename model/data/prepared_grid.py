"""Where a scan's voxels and points lie on the grid that it is prepared on: the network grid of inference."""

from __future__ import annotations

from ..case.geometry import Geometry, Vector, flip_order
from ..network.patches import NetworkGrid, network_grid
from ..network.plan import Plan


def prepared_grid(geometry: Geometry, like: Geometry, plan: Plan) -> NetworkGrid:
    """The network grid of a scan whose axis signs become those of another scan.

    Args:
        geometry: of the scan's file.
        like: of the file of the scan that gives the signs, the follow-up as at inference.
    """
    return network_grid(geometry.in_axial_order(), plan, like.in_axial_order())


def prepared_point(point_xyz: Vector, geometry: Geometry, grid: NetworkGrid) -> Vector:
    """A voxel index of the scan's file (x, y, z) as one of the prepared grid (z, y, x), not rounded.

    Truncated it is the voxel that inference takes: multiplied, then divided, without a half-voxel term, and
    kept inside the image.
    """
    axial = geometry.axial_map().point(flip_order(point_xyz), geometry.shape_zyx)
    moved = grid.axes.point(axial, grid.axial_shape_zyx)
    z, y, x = (
        min(max(p * s / t, 0.0), n - 1.0)
        for p, s, t, n in zip(moved, grid.source_spacing_mm, grid.target_spacing_mm, grid.shape, strict=True)
    )
    return (z, y, x)
