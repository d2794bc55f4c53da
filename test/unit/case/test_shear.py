"""Sheared grids: the orthogonal grid covers them, and labels, points and boxes come back as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.case.file_grid import FileGrid
from model.case.geometry import AxisMap, Box, Geometry, voxel_at
from model.case.shear import PADDING_HU, ShearMap, check_independent_axes, refuse_sheared
from model.errors import InputError
from test.helpers.orientations import ORIENTATIONS
from test.helpers.sheared_grids import ball_on, centroid_mm, tilted, world_of

shears = st.tuples(*[st.floats(-0.5, 0.5)] * 3).filter(lambda values: max(map(abs, values)) > 0.05)
angles = st.tuples(*[st.floats(-180, 180)] * 3)


@st.composite
def sheared_geometries(draw: st.DrawFn) -> Geometry:
    """Any shear of up to about 30 degrees between any axes, turned in any way, of any handedness."""
    a, b, c = draw(shears)
    turn = Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix()
    matrix = turn @ np.array([[1, a, b], [0, 1, c], [0, 0, draw(st.sampled_from([-1.0, 1.0]))]])
    direction = matrix / np.linalg.norm(matrix, axis=0)
    spacing = draw(st.tuples(*[st.floats(0.5, 5)] * 3))
    size = draw(st.tuples(*[st.integers(1, 5)] * 3))
    return Geometry(size, spacing, (11.0, -250.0, 37.5), tuple(direction.ravel().tolist()))


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(sheared_geometries())
def test_labels_come_back_voxel_by_voxel(geometry: Geometry) -> None:
    grid = FileGrid.of(geometry)
    labels = np.arange(1, np.prod(geometry.size_xyz) + 1, dtype=np.uint16).reshape(geometry.shape_zyx)
    axial = grid.axial_labels(labels)
    assert np.count_nonzero(axial) == labels.size  # none is lost, none doubled
    assert np.array_equal(grid.file_labels(axial), labels)
    assert grid.axial.voxel_volume_ml == pytest.approx(geometry.voxel_volume_ml, rel=1e-9)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(sheared_geometries())
def test_every_voxel_lies_in_its_partner(geometry: Geometry) -> None:
    """Points and labels agree: the centre of a voxel lies in the voxel that has its label."""
    grid = FileGrid.of(geometry)
    labels = np.arange(1, np.prod(geometry.size_xyz) + 1, dtype=np.uint16).reshape(geometry.shape_zyx)
    axial = grid.axial_labels(labels)
    assert not grid.axial.is_sheared
    for index in np.ndindex(labels.shape):
        point = grid.axial_point(index)
        assert axial[voxel_at(point)] == labels[index]
        assert np.allclose(grid.axial.zyx_to_world(point), geometry.zyx_to_world(index), atol=1e-4)
        assert np.allclose(grid.file_point(point), index, atol=1e-4)
        assert grid.axial.depth_mm(point) >= 0


@settings(deadline=None, max_examples=30)
@given(sheared_geometries(), st.integers(0, 10**6))
def test_boxes_enclose_their_voxels(geometry: Geometry, seed: int) -> None:
    grid, random = FileGrid.of(geometry), np.random.default_rng(seed)
    start = random.integers(0, geometry.shape_zyx)
    stop = random.integers(start, geometry.shape_zyx) + 1
    box = Box(tuple(start.tolist()), tuple(stop.tolist()))
    inside = np.zeros(geometry.shape_zyx, np.uint8)
    inside[box.slices] = 1
    there = grid.axial_box(box)
    found = np.argwhere(grid.axial_labels(inside))
    assert np.all(found >= there.start_zyx)
    assert np.all(found < there.stop_zyx)
    back = grid.file_box(there)
    assert back.intersection(box) == box


@settings(deadline=None, max_examples=15)
@given(sheared_geometries())
def test_what_was_not_scanned_is_out_of_view(geometry: Geometry) -> None:
    axial = FileGrid.of(geometry).axial
    inside = FileGrid.of(geometry).axial_labels(np.ones(geometry.shape_zyx, bool))
    far = [index for index in np.ndindex(axial.shape_zyx) if not inside[index]]
    for index in far[::5]:
        stored = geometry.world_to_zyx(axial.zyx_to_world(index))
        is_within = all(-0.5 <= p <= n - 0.5 for p, n in zip(stored, geometry.shape_zyx, strict=True))
        assert (axial.depth_mm(index) >= 0) == is_within
        assert axial.depth_mm(axial.clip(index)) >= -1e-6


@pytest.mark.slow
@pytest.mark.parametrize("axes", ORIENTATIONS[::5], ids=str)
def test_a_tilted_ct_keeps_its_slices_whichever_way_it_is_stored(axes: AxisMap) -> None:
    """HU move within their slice, by the fraction of a voxel that is left of the shift."""
    straight = tilted((9, 10, 7), (0.8, 0.9, 3.0), 20.0, (5.0, 6.0, 7.0))
    stored = straight.reoriented(axes)
    grid = FileGrid.of(stored)
    assert grid.axial.spacing_xyz == pytest.approx((0.8, 0.9, 3.0 * np.cos(np.radians(20))))
    hu = world_of(stored) @ (1.0, 2.0, -3.0)  # linear, so that interpolation is exact
    ct = grid.axial_ct(hu)
    depth = np.reshape([grid.axial.depth_mm(index) for index in np.ndindex(ct.shape)], ct.shape)
    inner = depth > 1.0
    assert np.allclose(ct[inner], (world_of(grid.axial) @ (1.0, 2.0, -3.0))[inner], atol=1e-3)
    assert inner.sum() > 200
    assert np.array_equal(ct > PADDING_HU, depth >= -1e-6)


@pytest.mark.parametrize("degrees", [15.0, -25.0])
def test_a_ball_stays_a_ball(degrees: float) -> None:
    centre, radius = (20.0, 30.0, 25.0), 9.0
    stored = tilted((40, 50, 17), (1.0, 1.0, 3.0), degrees, (0.0, -25.0 * np.sin(np.radians(degrees)), 0.0))
    grid = FileGrid.of(stored)
    mask = ball_on(stored, centre, radius)
    axial = grid.axial_labels(mask)
    assert np.linalg.norm(centroid_mm(axial, grid.axial) - centre) < 0.5
    truth = ball_on(grid.axial, centre, radius)
    assert 2 * np.count_nonzero(axial & truth) / (axial.sum() + truth.sum()) > 0.93
    volume_ml = 4 / 3 * np.pi * radius**3 / 1000
    assert mask.sum() * stored.voxel_volume_ml == pytest.approx(volume_ml, rel=0.05)
    hu = np.where(mask, 50.0, -1000.0)
    filled = grid.axial_ct(hu) > -475
    assert 2 * np.count_nonzero(filled & truth) / (filled.sum() + truth.sum()) > 0.93


def test_padding_and_missing_voxels_are_not_measured() -> None:
    stored = tilted((8, 8, 5), (1.0, 1.0, 2.0), 20.0)
    hu = np.full(stored.shape_zyx, 40.0)
    assert set(np.unique(FileGrid.of(stored).axial_ct(hu))) == {40.0, PADDING_HU}
    hu[2, 3, 3] = np.nan
    assert np.isfinite(FileGrid.of(stored).axial_ct(hu)).all()
    hu[2, 3, 3] = -3024
    assert FileGrid.of(stored).axial_ct(hu).min() == -3024


def test_values_of_a_box_come_back_where_they_were() -> None:
    stored = tilted((12, 12, 8), (1.0, 1.0, 2.0), 25.0)
    grid = FileGrid.of(stored)
    whole = np.zeros(grid.axial.shape_zyx, np.float32)
    whole[2:6, 3:9, 2:9] = 0.75
    box, values = grid.file_values(Box((2, 3, 2), (6, 9, 9)), whole[2:6, 3:9, 2:9])
    full = np.zeros(stored.shape_zyx, np.float32)
    full[box.slices] = values
    labels = grid.file_labels(whole > 0.5)
    assert np.count_nonzero(labels) > 150
    assert np.mean((full > 0.37) == labels) > 0.97


def test_axes_in_one_plane_are_refused_and_rounding_is_not_shear() -> None:
    flat = Geometry((3, 3, 3), (1, 1, 1), (0, 0, 0), (1, 0, 0.7, 0, 1, 0.7, 0, 0, 0.1))
    with pytest.raises(InputError, match="^scan: its axes lie in one plane"):
        check_independent_axes("scan", flat)
    rounded = tilted((3, 3, 3), (1, 1, 1), 0.3)
    assert not rounded.is_sheared
    refuse_sheared("scan", rounded)
    check_independent_axes("scan", tilted((3, 3, 3), (1, 1, 1), 45.0))
    with pytest.raises(InputError, match="^scan: its grid is sheared by 20.0 degrees"):
        refuse_sheared("scan", tilted((3, 3, 3), (1, 1, 1), 20.0))


def test_the_coarsest_axis_is_that_of_the_slices() -> None:
    coronal = Geometry((6, 6, 6), (1.0, 4.0, 1.0), (0, 0, 0), tilted((1, 1, 1), (1, 1, 1), 20.0).direction)
    assert ShearMap.of(coronal).order == (0, 2, 1)
    assert ShearMap.of(tilted((6, 6, 6), (1.0, 1.0, 0.999), 20.0)).order == (0, 1, 2)
