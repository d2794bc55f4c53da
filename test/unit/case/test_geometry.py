"""Grids, orientation and boxes, over all 48 orientations and random grids."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.case.geometry import AxisMap, Box, Geometry, voxel_at
from test.helpers.orientations import ORDERS, ORIENTATIONS

shapes = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.floats(0.2, 8)] * 3)
origins = st.tuples(*[st.floats(-1500, 1500)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)
points = st.tuples(*[st.floats(-20, 600)] * 3)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    direction = Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix()
    return Geometry(draw(shapes), draw(spacings), draw(origins), tuple(direction.ravel().tolist()))


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("axes", ORIENTATIONS, ids=str)
def test_orientation_of_arrays_points_boxes_and_worlds(axes: AxisMap) -> None:
    array = np.arange(60).reshape(3, 4, 5)
    grid = Geometry((5, 4, 3), (0.7, 1.1, 2.3), (4.0, -5.0, 6.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    turned, turned_grid = axes.array(array), grid.reoriented(axes)
    assert turned.shape == turned_grid.shape_zyx
    for point in product(range(3), range(4), range(5)):
        moved = axes.point(point, array.shape)
        assert turned[tuple(int(v) for v in moved)] == array[point]
        assert np.allclose(turned_grid.zyx_to_world(moved), grid.zyx_to_world(point))
    box = Box((0, 1, 2), (2, 4, 5))
    assert set(turned[axes.box(box, array.shape).slices].ravel()) == set(array[box.slices].ravel())
    assert np.array_equal(axes.inverse().array(turned), array)
    assert axes.then(axes.inverse()).is_identity
    for other in ORIENTATIONS[::7]:
        assert np.array_equal(axes.then(other).array(array), other.array(turned))


@given(geometries(), points)
def test_voxel_to_world_and_back(grid: Geometry, point: tuple[float, float, float]) -> None:
    assert np.allclose(grid.world_to_voxel(grid.voxel_to_world(point)), point, atol=1e-6)
    assert np.allclose(grid.world_to_zyx(grid.zyx_to_world(point)), point, atol=1e-6)


@given(geometries())
def test_the_axial_map_leads_to_axial_order(grid: Geometry) -> None:
    axial = grid.reoriented(grid.axial_map())
    assert axial.axial_map().order == (0, 1, 2)
    diagonal = np.abs(np.diag(np.reshape(axial.direction, (3, 3)))).sum()
    for order in ORDERS:
        other = np.reshape(grid.reoriented(AxisMap(order)).direction, (3, 3))
        assert diagonal >= np.abs(np.diag(other)).sum() - 1e-5


@pytest.mark.slow
@given(geometries(), geometries())
def test_the_sign_map_leads_to_the_axis_signs_of_the_other_grid(first: Geometry, second: Geometry) -> None:
    first, second = first.reoriented(first.axial_map()), second.reoriented(second.axial_map())
    turned = first.reoriented(first.sign_map(second))
    assert turned.axis_signs_zyx() == second.axis_signs_zyx()
    assert turned.axial_map().is_identity


@given(geometries(), points)
def test_depth_is_positive_inside_only(grid: Geometry, point: tuple[float, float, float]) -> None:
    inside = all(-0.5 <= p <= n - 0.5 for p, n in zip(point, grid.shape_zyx, strict=True))
    assert (grid.depth_mm(point) >= 0) == inside
    assert grid.depth_mm(grid.clip(point)) > 0


def test_depth_in_mm() -> None:
    grid = Geometry((10, 10, 10), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    assert grid.depth_mm((0, 5, 5)) == pytest.approx(1.5)
    assert grid.depth_mm((5, 5, -1.5)) == pytest.approx(-1)
    assert grid.depth_mm((-1.5, 5, -4.5)) == pytest.approx(-5)


def test_same_grid_allows_rounding_only() -> None:
    grid = Geometry((10, 10, 10), (0.9765625, 0.9765625, 3.0), (-250.1, 0.0, 0.0))
    assert grid.same_grid(Geometry((10, 10, 10), (0.97656, 0.97656, 3.0), (-250.1001, 0.0, 0.0)))
    assert not grid.same_grid(Geometry((10, 10, 11), grid.spacing_xyz, grid.origin_xyz))
    assert not grid.same_grid(Geometry((10, 10, 10), grid.spacing_xyz, (-249.5, 0.0, 0.0)))
    assert not grid.same_grid(Geometry((10, 10, 10), (0.99, 0.9765625, 3.0), grid.origin_xyz))


@pytest.mark.slow
@given(shapes, st.tuples(*[st.integers(-12, 12)] * 3), shapes)
@settings(max_examples=200)
def test_boxes_at_and_beyond_borders(
    shape: tuple[int, int, int], start: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    whole, box = Box.of_shape(shape), Box.of_shape(size, start)
    inside = box.intersection(whole)
    painted = np.zeros(shape, bool)
    for voxel in np.ndindex(*size):
        place = tuple(int(v) + s for v, s in zip(voxel, start, strict=True))
        if all(0 <= p < n for p, n in zip(place, shape, strict=True)):
            painted[place] = True
    assert inside.is_empty == (not painted.any())
    if not inside.is_empty:
        assert painted[inside.slices].all() and painted.sum() == np.prod(inside.shape_zyx)
    assert box.relative_to(box).start_zyx == (0, 0, 0) and box.shifted((1, 1, 1)).shape_zyx == size


def test_voxel_to_world_agrees_with_itk() -> None:
    direction = Rotation.from_euler("zyx", (20, -50, 8), degrees=True).as_matrix()
    grid = Geometry((4, 5, 6), (0.5, 1.5, 3.0), (7.0, -8.0, 9.0), tuple(direction.ravel().tolist()))
    image = sitk.Image(4, 5, 6, sitk.sitkInt16)
    image.SetSpacing(grid.spacing_xyz)
    image.SetOrigin(grid.origin_xyz)
    image.SetDirection(grid.direction)
    point = (1.25, -2.0, 3.5)
    assert grid.voxel_to_world(point) == pytest.approx(image.TransformContinuousIndexToPhysicalPoint(point))


@pytest.mark.parametrize("axes", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("degrees", [-44, 0, 44])
def test_a_tilted_scan_gets_the_axial_order_of_its_nearest_axes(
    axes: AxisMap, axis: str, degrees: float
) -> None:
    stored = Geometry((5, 4, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0)).reoriented(axes)
    tilt = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    tilted = replace(stored, direction=tuple((tilt @ np.reshape(stored.direction, (3, 3))).ravel()))
    to_axial = tilted.axial_map()
    assert not any(to_axial.flipped)  # signs are left alone
    assert axes.then(to_axial).order == (0, 1, 2)


def test_no_permutation_at_45_degrees() -> None:
    tilt = Rotation.from_euler("x", 45, degrees=True).as_matrix()
    assert Geometry((4, 4, 4), (1, 1, 1), (0, 0, 0), tuple(tilt.ravel())).axial_map().is_identity


@pytest.mark.slow
@given(geometries(), points, st.sampled_from(ORIENTATIONS))
@settings(deadline=None)
def test_depth_and_clip_are_the_same_in_every_orientation(
    grid: Geometry, point: tuple[float, float, float], axes: AxisMap
) -> None:
    turned, moved = grid.reoriented(axes), axes.point(point, grid.shape_zyx)
    assert turned.depth_mm(moved) == pytest.approx(grid.depth_mm(point), abs=1e-6)
    assert turned.clip(moved) == pytest.approx(axes.point(grid.clip(point), grid.shape_zyx), abs=1e-9)


@pytest.mark.slow
@given(geometries(), st.tuples(*[st.integers(-9, 9)] * 3), shapes)
@settings(deadline=None)
def test_a_cropped_grid_starts_at_its_box(
    grid: Geometry, start: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    cropped = grid.cropped(Box.of_shape(size, start))
    assert cropped.shape_zyx == size
    there = grid.zyx_to_world(np.add(start, (1, 2, 3)).tolist())
    assert cropped.zyx_to_world((1, 2, 3)) == pytest.approx(there, abs=1e-8)


@pytest.mark.slow
@given(geometries(), st.integers(0, 2))
@settings(deadline=None)
def test_a_rotated_or_mirrored_grid_differs(grid: Geometry, axis: int) -> None:
    assert grid.same_grid(grid)
    turn = Rotation.from_euler("xyz"[axis], 0.5, degrees=True).as_matrix()
    turned = tuple((turn @ np.reshape(grid.direction, (3, 3))).ravel())
    assert not grid.same_grid(replace(grid, direction=turned))
    flips = (axis == 0, axis == 1, axis == 2)
    assert not grid.same_grid(grid.reoriented(AxisMap(flipped=flips)))


def test_the_voxel_of_a_point() -> None:
    assert voxel_at((2.5, 3.49, -0.5)) == (3, 3, 0)
    assert voxel_at((1.5, -0.51, 7.0)) == (2, -1, 7)
