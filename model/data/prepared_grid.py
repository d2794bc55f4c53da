"""The grid that a scan is prepared on: the network grid of inference."""

from __future__ import annotations

from ..case.geometry import Geometry, Vector, flip_order
from ..network.patches import NetworkGrid, network_grid
from ..network.plan import Plan


def prepared_grid(geometry: Geometry, like: Geometry, plan: Plan) -> NetworkGrid:
    """Return the network grid of a scan turned to the axis signs of another scan.

    Args:
        geometry: geometry of the scan's file.
        like: file geometry of the scan that gives the signs; at inference that is the follow-up.
        plan: gives the target spacing and the order of axes.
    """
    return network_grid(geometry.in_axial_order(), plan, like.in_axial_order())


def prepared_point(point_xyz: Vector, geometry: Geometry, grid: NetworkGrid) -> Vector:
    """Convert a point of a scan's file to its prepared grid.

    Truncated it is the voxel that inference uses (docs/model_recipe.md, step 3): multiplied, then divided,
    without a half-voxel shift, and kept inside the image.

    Args:
        point_xyz: voxel index (x, y, z) of the scan's file.
        geometry: geometry of that file.
        grid: the scan's `prepared_grid`.

    Returns:
        Voxel index (z, y, x) of the prepared grid, not rounded.
    """
    axial = geometry.axial_map().point(flip_order(point_xyz), geometry.shape_zyx)
    turned = grid.axes.point(axial, grid.axial_shape_zyx)
    z, y, x = (
        min(max(p * s / t, 0.0), n - 1.0)
        for p, s, t, n in zip(turned, grid.source_spacing_mm, grid.target_spacing_mm, grid.shape, strict=True)
    )
    return (z, y, x)
