"""Measurements of lesions of known size on all kinds of grids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.case.axes import flip_order
from model.case.case import Scan
from model.case.geometry import IDENTITY_DIRECTION, Geometry
from model.measure.lesion_measures import LesionMeasures, measure_lesions
from test.helpers.orientations import ORIENTATIONS
from test.helpers.sheared_grids import ball_on, tilted, world_of

SPACING = (2.5, 0.8, 0.9)
ORIGIN_XYZ = (-20.0, 35.0, 110.0)


def _scan(
    labels: npt.NDArray[Any],
    hu: npt.NDArray[Any] | None = None,
    direction: npt.ArrayLike = IDENTITY_DIRECTION,
    spacing_zyx: tuple[float, float, float] = SPACING,
) -> Scan:
    ct = np.full(labels.shape, 40, np.int16) if hu is None else hu
    return Scan.from_array(ct, spacing_zyx, origin_xyz=ORIGIN_XYZ, direction=direction, mask=labels)


def _measured(scan: Scan) -> dict[int, LesionMeasures]:
    assert scan.mask is not None
    return measure_lesions(scan, scan.mask)


def _bar() -> npt.NDArray[np.uint8]:
    """Lesion 3: 1 x 5 x 20 voxels, longest along x."""
    labels = np.zeros((6, 16, 30), np.uint8)
    labels[2, 5:10, 4:24] = 3
    return labels


def test_everything_about_a_bar() -> None:
    hu = np.full((6, 16, 30), -700, np.int16)
    hu[2, 5:10, 4:24] = np.arange(100).reshape(5, 20)
    ((lesion_id, lesion),) = _measured(_scan(_bar(), hu)).items()
    assert (lesion_id, lesion.lesion_id, lesion.voxels, lesion.pieces) == (3, 3, 100, 1)
    assert lesion.volume_ml == pytest.approx(100 * 2.5 * 0.8 * 0.9 / 1000)
    assert lesion.axial.slice_index == 2 and not lesion.touches_border
    assert lesion.axial.long.length_mm == pytest.approx(np.hypot(20 * 0.9, 4 * 0.8))
    assert lesion.longest.length_mm == pytest.approx(np.hypot(20 * 0.9, 4 * 0.8))
    assert lesion.centroid.voxel_xyz == pytest.approx((13.5, 7, 2))
    assert lesion.centroid.world_mm == pytest.approx((-20 + 13.5 * 0.9, 35 + 7 * 0.8, 110 + 2 * 2.5))
    density = lesion.density
    assert density is not None
    assert (density.min, density.max, density.mean) == pytest.approx((0, 99, 49.5))
    assert density.std == pytest.approx(np.arange(100).std())
    assert density.percentiles == pytest.approx({"10": 9.9, "25": 24.75, "50": 49.5, "75": 74.25, "90": 89.1})
    (part,) = lesion.parts
    assert (part.volume_ml, part.long_mm) == (lesion.volume_ml, lesion.axial.long.length_mm)


def test_ends_lie_in_world_coordinates_where_the_length_is_measured() -> None:
    turn = np.radians(20)
    direction = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    straight, oblique = (_measured(_scan(_bar(), direction=one))[3] for one in (np.eye(3), direction))
    for name in ("long", "short"):
        line, turned = getattr(straight.axial, name), getattr(oblique.axial, name)
        assert turned.length_mm == pytest.approx(line.length_mm)
        assert (turned.start.voxel_xyz, turned.end.voxel_xyz) == (line.start.voxel_xyz, line.end.voxel_xyz)
        distance = np.linalg.norm(np.subtract(turned.start.world_mm, turned.end.world_mm))
        assert distance == pytest.approx(turned.length_mm)
    assert oblique.centroid.world_mm != pytest.approx(straight.centroid.world_mm)


@pytest.mark.parametrize("axes", ORIENTATIONS[::5], ids=str)
def test_the_order_of_axes_in_the_file_changes_nothing(axes: Any) -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random((5, 9, 11)) < 0.4).astype(np.uint8)
    hu = rng.integers(-100, 100, labels.shape).astype(np.int16)
    grid = Geometry(flip_order(labels.shape), flip_order(SPACING), ORIGIN_XYZ)
    stored = grid.reoriented(axes)
    other = Scan.from_array(
        axes.array(hu),
        stored.spacing_zyx,
        origin_xyz=stored.origin_xyz,
        direction=stored.direction,
        mask=axes.array(labels),
    )
    one, turned = _measured(_scan(labels, hu))[1], _measured(other)[1]
    for name in ("voxels", "volume_ml", "density", "pieces", "touches_border"):
        assert getattr(turned, name) == getattr(one, name)
    assert turned.centroid.world_mm == pytest.approx(one.centroid.world_mm)
    assert stored.voxel_to_world(turned.centroid.voxel_xyz) == pytest.approx(np.array(one.centroid.world_mm))
    assert turned.axial.long.length_mm == pytest.approx(one.axial.long.length_mm)
    assert turned.axial.short.length_mm == pytest.approx(one.axial.short.length_mm)
    assert turned.longest.length_mm == pytest.approx(one.longest.length_mm)
    start = stored.voxel_to_world(turned.axial.long.start.voxel_xyz)
    assert start == pytest.approx(np.array(turned.axial.long.start.world_mm))


def test_a_ball_on_the_grid_of_a_tilted_gantry() -> None:
    geometry = tilted((44, 44, 22), (1.0, 1.0, 2.0), 15)
    centre = tuple(world_of(geometry).reshape(-1, 3).mean(axis=0))
    ball = ball_on(geometry, centre, 12.0)
    scan = Scan.from_array(
        np.full(ball.shape, 40, np.int16),
        geometry.spacing_zyx,
        direction=geometry.direction,
        mask=ball.astype(np.uint8),
    )
    lesion = _measured(scan)[1]
    assert lesion.volume_ml == pytest.approx(ball.sum() * geometry.voxel_volume_ml)
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.03)
    assert lesion.axial.long.length_mm == pytest.approx(24, abs=1.5)
    assert lesion.axial.short.length_mm == pytest.approx(24, abs=1.5)
    assert lesion.longest.length_mm == pytest.approx(24, abs=2)
    assert not lesion.touches_border
    # Each voxel is shifted to the nearest one of the orthogonal grid.
    assert lesion.centroid.world_mm == pytest.approx(centre, abs=0.5)
    touching = np.zeros_like(ball, np.uint8)
    touching[0, 20, 20] = 1
    bordering = Scan.from_array(
        np.zeros(ball.shape, np.int16), geometry.spacing_zyx, direction=geometry.direction, mask=touching
    )
    assert _measured(bordering)[1].touches_border


@pytest.mark.parametrize("radius", [4, 9])
def test_sphericity_of_balls_and_rods(radius: int) -> None:
    offsets = np.indices([2 * radius + 3] * 3) - (radius + 1)
    ball = (np.sum(offsets**2, axis=0) <= radius**2).astype(np.uint8)
    rod = np.zeros((3, 3, 40), np.uint8)
    rod[1, 1, 1:-1] = 1
    round_one, long_one = (
        _measured(_scan(labels, spacing_zyx=(1.0, 1.0, 1.0)))[1].sphericity for labels in (ball, rod)
    )
    assert 0.9 < round_one <= 1
    assert long_one < 0.5


def test_a_single_voxel_at_the_border() -> None:
    labels = np.zeros((4, 5, 6), np.uint16)
    labels[3, 2, 2], labels[1, 1, 1] = 700, 2
    lesions = _measured(_scan(labels))
    assert lesions.keys() == {2, 700}
    assert lesions[700].touches_border and not lesions[2].touches_border
    one = lesions[2]
    assert (one.axial.long.length_mm, one.axial.short.length_mm) == pytest.approx((0.9, 0.8))
    assert one.longest.length_mm == pytest.approx(2.5)
    assert 0 < one.sphericity < 1


def test_pieces_and_crumbs() -> None:
    labels = np.zeros((3, 20, 60), np.uint8)
    labels[1, 5:15, 2:22] = 1  # 200 voxels
    labels[1, 5:15, 40:50] = 1  # 100 voxels
    labels[1, 18, 58] = 1  # a crumb
    lesion = _measured(_scan(labels, spacing_zyx=(1.0, 1.0, 1.0)))[1]
    assert (lesion.pieces, len(lesion.parts)) == (3, 2)
    assert [part.volume_ml for part in lesion.parts] == pytest.approx([0.2, 0.1])
    assert lesion.axial.long.length_mm == lesion.parts[0].long_mm == pytest.approx(np.hypot(20, 9))
    assert lesion.longest.length_mm == pytest.approx(np.hypot(20, 9))


def test_voxels_without_a_number_are_left_out_of_the_density() -> None:
    labels = _bar()
    hu = np.full(labels.shape, 10.0, np.float32)
    hu[2, 5, 4:14] = np.nan
    lesion = _measured(_scan(labels, hu))[3]
    assert lesion.density is not None
    assert (lesion.density.not_a_number, lesion.density.mean) == (10, 10)
    hu[:] = np.inf
    hu[0, 0, 0] = 0
    assert _measured(_scan(labels, hu))[3].density is None
