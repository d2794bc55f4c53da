"""Displacement fields: sampling, fading and inversion on grids of any orientation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import FloatArray, Geometry
from model.propagation.register.field import (
    FADE_MM,
    FieldTransform,
    coarser_grid,
    compose_transforms,
    folding_share,
    jacobian_determinants,
    sample_on_grid,
    voxel_centres_mm,
)
from model.propagation.register.linear import LinearTransform

from ....helpers.registration_scans import turn

FLIPS = list(itertools.product((1.0, -1.0), repeat=3))
ORDERS = list(itertools.permutations(range(3)))


def grid(
    flip: tuple[float, ...] = (1.0, 1.0, 1.0), order: tuple[int, ...] = (0, 1, 2), degrees: float = 0.0
) -> Geometry:
    direction = turn(degrees) @ np.eye(3)[:, list(order)] * np.asarray(flip)
    return Geometry((14, 12, 10), (8.0, 9.0, 11.0), (-40.0, 25.0, -300.0), tuple(direction.ravel()))


def smooth(geometry: Geometry, linear: LinearTransform, seed: int, peak_mm: float = 12.0) -> FieldTransform:
    """Waves of 100 mm and more."""
    rng = np.random.default_rng(seed)
    places = voxel_centres_mm(geometry)
    field = np.zeros_like(places)
    for _ in range(3):
        wave = rng.normal(size=3)
        wave *= 2 * np.pi / rng.uniform(100, 200) / np.linalg.norm(wave)
        field += np.sin(places @ wave + rng.uniform(0, 6))[:, None] * rng.normal(size=3)
    field *= peak_mm / np.linalg.norm(field, axis=1).max()
    return FieldTransform(linear, field.astype(np.float32).reshape(*geometry.shape_zyx, 3), geometry)


def linear(degrees: float = 7.0) -> LinearTransform:
    return LinearTransform(turn(degrees) * 1.05, np.asarray([12.0, -30.0, 45.0]))


def inside(geometry: Geometry, count: int = 200, margin: float = 0.0) -> FloatArray:
    rng = np.random.default_rng(1)
    return geometry.voxel_to_world(
        rng.uniform(-margin, np.subtract(geometry.size_xyz, 1) + margin, (count, 3))
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(FLIPS), st.sampled_from(ORDERS), st.floats(-40, 40), st.integers(0, 1000), st.floats(0, 3)
)
def test_the_directions_are_inverse_to_each_other(
    flip: tuple[float, ...], order: tuple[int, ...], degrees: float, seed: int, margin: float
) -> None:
    transform = smooth(grid(flip, order, degrees), linear(), seed)
    points = inside(transform.geometry, margin=margin)
    there_and_back = transform.moving_to_fixed(transform.fixed_to_moving(points))
    assert np.abs(there_and_back - points).max() < 0.05
    back_and_there = transform.fixed_to_moving(transform.moving_to_fixed(points))
    assert np.abs(back_and_there - points).max() < 0.05


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(FLIPS), st.sampled_from(ORDERS), st.floats(-40, 40))
def test_a_linear_field_is_the_linear_transform(
    flip: tuple[float, ...], order: tuple[int, ...], degrees: float
) -> None:
    truth = LinearTransform(turn(3.0), np.asarray([1.0, 2.0, -3.0]))
    transform = sample_on_grid(truth, grid(flip, order, degrees), LinearTransform.identity())
    points = inside(transform.geometry)
    assert np.allclose(transform.fixed_to_moving(points), truth.fixed_to_moving(points), atol=1e-3)
    assert folding_share(transform) == 0.0
    assert np.allclose(jacobian_determinants(transform), 1.0, atol=1e-3)


def test_displacements_are_read_in_world_axes_at_their_voxels() -> None:
    geometry = grid((1.0, -1.0, 1.0), (2, 0, 1), 20.0)
    field = np.zeros((*geometry.shape_zyx, 3), np.float32)
    field[3, 4, 5] = (1.0, 2.0, 3.0)
    transform = FieldTransform(LinearTransform.identity(), field, geometry)
    point = np.asarray([geometry.zyx_to_world((3, 4, 5))])
    assert np.allclose(transform.fixed_to_moving(point), point + [[1.0, 2.0, 3.0]])


def test_displacements_fade_outside_of_the_grid() -> None:
    geometry = grid()
    field = np.full((*geometry.shape_zyx, 3), 4.0, np.float32)
    transform = FieldTransform(LinearTransform.identity(), field, geometry)
    corner = np.asarray(geometry.origin_xyz)
    away_mm = np.asarray([0.0, FADE_MM / 2, FADE_MM, 10 * FADE_MM])
    points = corner - away_mm[:, None] * [[0.0, 0.0, 1.0]]
    assert np.allclose(transform.displacement(points)[:, 0], [4.0, 2.0, 0.0, 0.0])


def test_a_folded_field_gives_finite_points() -> None:
    rng = np.random.default_rng(0)
    geometry = grid()
    field = rng.normal(0, 30, (*geometry.shape_zyx, 3)).astype(np.float32)
    transform = FieldTransform(linear(), field, geometry)
    assert folding_share(transform) > 0.1
    assert np.isfinite(transform.moving_to_fixed(linear().fixed_to_moving(inside(geometry)))).all()


def test_a_steep_field_is_inverted() -> None:
    """Stretching by more than two, where plain fixed-point iteration diverges."""
    geometry = Geometry((41, 3, 3), (5.0, 50.0, 50.0), (-100.0, -50.0, -50.0))
    field = np.zeros((*geometry.shape_zyx, 3), np.float32)
    field[..., 0] = 1.5 * np.linspace(-100, 100, 41)
    transform = FieldTransform(LinearTransform.identity(), field, geometry)
    points = np.asarray([[x, 0.0, 0.0] for x in (-20.0, -10.0, 3.0, 25.0)])
    assert np.allclose(transform.moving_to_fixed(transform.fixed_to_moving(points)), points, atol=0.05)


def test_no_points() -> None:
    transform = smooth(grid(), linear(), 0)
    assert transform.fixed_to_moving(np.empty((0, 3))).shape == (0, 3)
    assert transform.moving_to_fixed([]).shape == (0, 3)


def test_invalid_displacements_are_rejected() -> None:
    with pytest.raises(ValueError, match="shape"):
        FieldTransform(linear(), np.zeros((2, 2, 2, 3), np.float32), grid())
    with pytest.raises(ValueError, match="finite"):
        FieldTransform(linear(), np.full((*grid().shape_zyx, 3), np.nan, np.float32), grid())


def test_compositions() -> None:
    first, second = linear(7.0), linear(-12.0)
    points = inside(grid())
    both = compose_transforms(first, second)
    assert isinstance(both, LinearTransform)
    assert np.allclose(both.fixed_to_moving(points), second.fixed_to_moving(first.fixed_to_moving(points)))
    mixed = compose_transforms(smooth(grid(), LinearTransform.identity(), 3), second)
    assert np.allclose(mixed.moving_to_fixed(mixed.fixed_to_moving(points)), points, atol=0.05)


def test_a_grid_over_a_scan_spans_it() -> None:
    geometry = grid((1.0, -1.0, 1.0), (1, 0, 2), 10.0)
    coarse = coarser_grid(geometry, 20.0)
    last = np.subtract(geometry.size_xyz, 1), np.subtract(coarse.size_xyz, 1)
    assert np.allclose(geometry.voxel_to_world(last[0]), coarse.voxel_to_world(last[1]))
    assert max(coarse.spacing_xyz) < 30.0
    assert coarser_grid(Geometry((5, 5, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), 2.0).size_xyz == (3, 3, 2)
