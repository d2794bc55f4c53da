"""Points on prepared grids."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import Geometry, Vector
from model.data.prepared_grid import prepared_grid, prepared_point
from model.network.plan import Plan
from test.helpers.data_sets import GRID, TURNED


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.floats(0, 25), st.floats(0, 21), st.floats(0, 13)), st.sampled_from([GRID, TURNED]))
def test_points_truncate_to_the_voxel_of_inference(plan: Plan, point: Vector, geometry: Geometry) -> None:
    grid = prepared_grid(geometry, GRID, plan)
    prepared = prepared_point(point, geometry, grid)
    assert tuple(int(value) for value in prepared) == grid.index((point[2], point[1], point[0]))
