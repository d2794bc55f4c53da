"""Boxes and masks under known transforms, between grids of any spacing and orientation."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from model.case.case import MaskPrompt
from model.case.geometry import Array, Box, FloatArray, Geometry, Index
from model.propagation.points import Direction, propagate_points
from model.propagation.register import Transform
from model.propagation.register.field import FieldTransform, voxel_centres_mm
from model.propagation.register.linear import LinearTransform
from model.propagation.shapes import box_anchors, propagate_box, propagate_labels, propagate_mask

from ...helpers.registration_scans import turn

GRID = Geometry((40, 36, 30), (1.0, 1.0, 1.0), (-20.0, -18.0, -15.0))
IDENTITY = LinearTransform.identity()
BACK = {Direction.TO_FOLLOWUP: Direction.TO_BASELINE, Direction.TO_BASELINE: Direction.TO_FOLLOWUP}
directions = st.sampled_from(list(Direction))


@st.composite
def grids(draw: st.DrawFn) -> Geometry:
    """Oblique grid around the world's origin, large enough for the tests; any order and signs of axes."""
    order = draw(st.permutations(range(3)))
    signs = np.diag(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3)))
    direction = turn(draw(st.floats(-20, 20)), (0.5, 0.1, 0.8)) @ np.eye(3)[list(order)] @ signs
    spacing = np.asarray(draw(st.tuples(*[st.floats(0.7, 2.0)] * 3)))
    size = np.ceil(60 / spacing).astype(int)
    origin = -direction @ ((size - 1) / 2 * spacing)
    return Geometry(
        (int(size[0]), int(size[1]), int(size[2])),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        tuple(float(value) for value in direction.ravel()),
    )


@st.composite
def motions(draw: st.DrawFn) -> LinearTransform:
    offset = draw(st.tuples(*[st.floats(-8, 8)] * 3))
    return LinearTransform(turn(draw(st.floats(-30, 30))), np.asarray(offset))


def bend(height_mm: float = 5.0) -> FieldTransform:
    grid = Geometry((40, 40, 40), (4.0, 4.0, 4.0), (-78.0, -78.0, -78.0))
    field = height_mm * np.sin(voxel_centres_mm(grid)[:, [1, 2, 0]] / 15.0)
    return FieldTransform(
        LinearTransform(turn(10.0), np.zeros(3)), np.float32(field).reshape(40, 40, 40, 3), grid
    )


def ball(grid: Geometry, radius_mm: float, hole_mm: float = -1.0) -> MaskPrompt:
    """Ball around the origin of the world, as a mask over the whole grid."""
    away = np.linalg.norm(voxel_centres_mm(grid), axis=1).reshape(grid.shape_zyx)
    return MaskPrompt(Box.of_shape(grid.shape_zyx), (away <= radius_mm) & (away > hole_mm))


def volume_mm3(mask: MaskPrompt, grid: Geometry) -> float:
    return float(mask.voxels.sum() * np.prod(grid.spacing_xyz))


def centres(mask: MaskPrompt) -> FloatArray:
    return np.asarray(np.argwhere(mask.voxels) + np.asarray(mask.box.start_zyx), np.float64)


def holds(mask: MaskPrompt, points: FloatArray) -> npt.NDArray[np.bool_]:
    places = np.floor(points + 0.5).astype(int) - np.asarray(mask.box.start_zyx)
    inside = ((places >= 0) & (places < mask.box.shape_zyx)).all(axis=1)
    held = np.zeros(len(points), np.bool_)
    held[inside] = mask.voxels[tuple(places[inside].T)]
    return held


def one(start: Index, grid: Geometry = GRID, shape: Index = (1, 1, 1)) -> MaskPrompt:
    return MaskPrompt(Box.of_shape(shape, start), np.ones(shape, np.bool_))


# --- boxes


@pytest.mark.parametrize(
    "box", [Box((3, 4, 5), (10, 12, 14)), Box((3, 4, 5), (4, 12, 14)), Box((-3, 30, 5), (2, 50, 6))]
)
@pytest.mark.parametrize("direction", list(Direction))
def test_a_box_is_unchanged_on_its_own_grid(box: Box, direction: Direction) -> None:
    assert propagate_box(box, GRID, GRID, IDENTITY, direction) == box


def test_a_box_computed_by_hand() -> None:
    """Shifted 10 mm towards -x; half the spacing along x, twice along z, y reversed."""
    target = Geometry((80, 36, 15), (0.5, 1.0, 2.0), (-20.0, 17.0, -15.0), (1, 0, 0, 0, -1, 0, 0, 0, 1))
    transform = LinearTransform.translation((10.0, 0.0, 0.0))
    moved = propagate_box(Box((4, 2, 20), (8, 5, 24)), GRID, target, transform)
    # x: faces 19.5 .. 23.5 -> -0.5 .. 3.5 mm -> -10.5 .. ; z: voxels 4 to 7 -> centres 2 and 3.
    assert (moved.start_zyx[0], moved.stop_zyx[0]) == (2, 4)
    assert (moved.start_zyx[1], moved.stop_zyx[1]) == (31, 34)
    assert (moved.start_zyx[2], moved.stop_zyx[2]) == (19, 28)


def test_a_flat_box_is_one_voxel_thick_on_thick_slices() -> None:
    target = Geometry((40, 36, 6), (1.0, 1.0, 5.0), (-20.0, -18.0, -15.0))
    moved = propagate_box(Box((8, 5, 5), (9, 10, 10)), GRID, target, IDENTITY)
    assert moved == Box((2, 5, 5), (3, 10, 10))


@settings(max_examples=30, deadline=None)
@given(grids(), grids(), motions(), directions)
def test_a_propagated_box_contains_the_inside(
    source: Geometry, target: Geometry, motion: LinearTransform, direction: Direction
) -> None:
    middle = np.asarray(source.shape_zyx) // 2
    box = Box.of_shape((9, 7, 8), [int(value) for value in middle - 4])
    inside = np.argwhere(np.ones(box.shape_zyx)) + np.asarray(box.start_zyx)
    moved = propagate_box(box, source, target, motion, direction)
    points = propagate_points(inside, source, target, motion, direction)
    # Voxels belong to a box by their centres: half a voxel of the inside may stick out of it.
    assert (points >= np.asarray(moved.start_zyx) - 1.0).all()
    assert (points <= np.asarray(moved.stop_zyx)).all()


def test_a_box_bulges_with_the_field() -> None:
    box = Box((5, 5, 5), (25, 30, 35))
    moved = propagate_box(box, GRID, GRID, bend())
    corners = np.asarray([[z, y, x] for z in (4.5, 24.5) for y in (4.5, 29.5) for x in (4.5, 34.5)])
    tips = propagate_points(corners, GRID, GRID, bend())
    assert (tips >= np.asarray(moved.start_zyx) - 1).all() and (tips <= np.asarray(moved.stop_zyx)).all()


def test_boxes_may_leave_the_target() -> None:
    away = LinearTransform.translation((100.0, 0.0, 0.0))
    moved = propagate_box(Box((3, 3, 3), (6, 6, 6)), GRID, GRID, away)
    assert moved == Box((3, 3, -97), (6, 6, -94))


@dataclass(frozen=True, eq=False)
class Lost:
    """Maps points of x above a limit to NaN."""

    limit_mm: float

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        points = np.array(points_mm, np.float64)
        points[points[:, 0] > self.limit_mm] = np.nan
        return points

    moving_to_fixed = fixed_to_moving


def test_boxes_that_cannot_be_propagated() -> None:
    with pytest.raises(ValueError, match="empty"):
        propagate_box(Box((3, 3, 3), (3, 6, 6)), GRID, GRID, IDENTITY)
    with pytest.raises(ValueError, match="loses"):
        propagate_box(Box((3, 3, 3), (6, 6, 6)), GRID, GRID, Lost(-1e3))
    half = propagate_box(Box((3, 3, 3), (6, 6, 40)), GRID, GRID, Lost(0.0))
    assert half.start_zyx == (3, 3, 3) and 15 < half.stop_zyx[2] <= 21


def test_anchors_are_centres_of_the_box_or_its_parts() -> None:
    assert box_anchors(Box((0, 0, 0), (3, 4, 5)), GRID) == [(1.0, 1.5, 2.0)]
    assert box_anchors(Box((0, 0, 0), (1, 1, 100)), GRID) == [
        (0.0, 0.0, pytest.approx(100 / 6 - 0.5)),
        (0.0, 0.0, 49.5),
        (0.0, 0.0, pytest.approx(500 / 6 - 0.5)),
    ]


# --- masks


def ring() -> MaskPrompt:
    return ball(GRID, 9.0, 6.5)


def sprinkle() -> MaskPrompt:
    return MaskPrompt(Box((2, 3, 4), (12, 13, 14)), np.random.default_rng(0).random((10, 10, 10)) < 0.2)


@pytest.mark.parametrize("mask", [ring(), sprinkle(), one((0, 0, 0)), one((29, 35, 39))])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_mask_is_unchanged_on_its_own_grid(mask: MaskPrompt, direction: Direction) -> None:
    moved = propagate_mask(mask, GRID, GRID, IDENTITY, direction)
    assert np.array_equal(centres(moved), centres(mask))
    assert moved.voxels.any(axis=(1, 2)).all() and moved.voxels.any(axis=(0, 1)).all()  # cropped


def test_a_mask_is_unchanged_with_reversed_axes() -> None:
    signs = (1, 0, 0, 0, -1, 0, 0, 0, -1)
    turned = Geometry(GRID.size_xyz, GRID.spacing_xyz, (-20.0, 17.0, 14.0), signs)
    moved = propagate_mask(sprinkle(), GRID, turned, IDENTITY)
    assert np.array_equal(moved.voxels, sprinkle().voxels[::-1, ::-1])  # touches all sides of its box


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(grids(), grids(), motions(), directions, st.floats(7, 12))
def test_masks_keep_volume_and_inside_between_any_grids(
    source: Geometry, target: Geometry, motion: LinearTransform, direction: Direction, radius_mm: float
) -> None:
    mask = ball(source, radius_mm)
    moved = propagate_mask(mask, source, target, motion, direction)
    diagonals_mm = float(np.linalg.norm(source.spacing_xyz) + np.linalg.norm(target.spacing_xyz)) / 2
    # The surface of a small ball may fall on whole layers of voxels of one of the grids.
    tolerance = max(0.1, 0.5 * diagonals_mm / radius_mm)
    assert volume_mm3(moved, target) == pytest.approx(volume_mm3(mask, source), rel=tolerance)
    # Points deeper than a voxel's diagonal stay inside.
    deep = ball(source, radius_mm - 1.1 * diagonals_mm)
    points = propagate_points(centres(deep), source, target, motion, direction)
    assert holds(moved, points).all()
    back = propagate_mask(moved, target, source, motion, BACK[direction])
    assert dice(back, mask) > 0.85


def dice(first: MaskPrompt, second: MaskPrompt) -> float:
    voxels, others = ({tuple(p) for p in centres(m).astype(int).tolist()} for m in (first, second))
    return 2 * len(voxels & others) / (len(voxels) + len(others))


@pytest.mark.parametrize("direction", list(Direction))
def test_a_ring_mask_keeps_its_hole_there_and_back(direction: Direction) -> None:
    target = Geometry((60, 60, 20), (1.2, 1.2, 3.0), (-36.0, -36.0, -30.0))
    moved = propagate_mask(ring(), GRID, target, bend(), direction)
    middle = propagate_points([GRID.world_to_zyx((0, 0, 0))], GRID, target, bend(), direction)
    assert not holds(moved, middle).any()
    back = propagate_mask(moved, target, GRID, bend(), BACK[direction])
    assert dice(back, ring()) > 0.75
    assert volume_mm3(back, GRID) == pytest.approx(volume_mm3(ring(), GRID), rel=0.1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_voxel_mask_keeps_its_volume_on_a_fine_grid(count: int) -> None:
    spacing_mm = 1 / count
    x, y, z = (value + (spacing_mm - 1) / 2 for value in GRID.origin_xyz)
    fine = Geometry((40 * count, 36 * count, 30 * count), (spacing_mm,) * 3, (x, y, z))
    moved = propagate_mask(one((7, 8, 9)), GRID, fine, IDENTITY)
    assert moved.voxels.sum() == count**3
    if count == 2:  # on finer grids it becomes rounder
        assert moved.box == Box.of_shape((2, 2, 2), (14, 16, 18))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 20, 20), (20, 1, 1)])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_thin_masks_are_kept_on_wide_voxels(shape: Index, shift: int) -> None:
    wide = Geometry((8, 8, 8), (5.0, 5.0, 5.0), (-18.0, -16.0, -13.0))
    mask = one((5 + shift, 5 + shift, 5 + shift), shape=shape)
    moved = propagate_mask(mask, GRID, wide, IDENTITY)
    assert moved.voxels.any()
    assert volume_mm3(moved, wide) == pytest.approx(volume_mm3(mask, GRID), rel=0.35, abs=125)
    touched = np.floor(propagate_points(centres(mask), GRID, wide, IDENTITY) + 0.5).astype(int)
    assert {tuple(p) for p in centres(moved).astype(int).tolist()} <= {tuple(p) for p in touched.tolist()}


def test_a_mask_between_the_samples_is_kept() -> None:
    """Voxels of 0.1 mm, which the samples in one of 5 mm miss."""
    tiny = Geometry((20, 20, 20), (0.1, 0.1, 0.1), (0.3, 0.3, 0.3))
    wide = Geometry((8, 8, 8), (5.0, 5.0, 5.0), (-20.0, -20.0, -20.0))
    moved = propagate_mask(one((1, 1, 1), tiny), tiny, wide, IDENTITY)
    assert moved.box == Box((4, 4, 4), (5, 5, 5)) and moved.voxels.all()


def test_masks_partly_and_wholly_out_of_view() -> None:
    mask = one((5, 5, 0), shape=(10, 10, 10))
    half = propagate_mask(mask, GRID, GRID, LinearTransform.translation((4.0, 0.0, 0.0)))
    assert half.box == Box((5, 5, 0), (15, 15, 6)) and half.voxels.all()
    for shift in (11.0, 500.0):
        gone = propagate_mask(mask, GRID, GRID, LinearTransform.translation((shift, 0.0, 0.0)))
        assert gone.box.is_empty and gone.voxels.shape == gone.box.shape_zyx


def test_empty_and_lost_masks() -> None:
    nothing = MaskPrompt(Box((1, 1, 1), (4, 4, 4)), np.zeros((3, 3, 3), np.bool_))
    assert propagate_mask(nothing, GRID, GRID, IDENTITY).box.is_empty
    with pytest.raises(ValueError, match="loses"):
        propagate_mask(ring(), GRID, GRID, Lost(-1e3))
    half = propagate_mask(ring(), GRID, GRID, Lost(0.0))
    assert half.voxels.any() and half.box.stop_zyx[2] <= 21


@pytest.mark.slow
def test_a_field_is_evaluated_at_few_points_without_loss_of_accuracy() -> None:
    @dataclass
    class Counting:
        inner: Transform
        points: int = 0

        def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
            self.points += len(np.asarray(points_mm))
            return self.inner.fixed_to_moving(points_mm)

        def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
            self.points += len(np.asarray(points_mm))
            return self.inner.moving_to_fixed(points_mm)

    grid = Geometry((150, 150, 150), (0.8, 0.8, 0.8), (-60.0, -60.0, -60.0))
    mask = ball(grid, 45.0)
    counting = Counting(bend())
    start = time.perf_counter()
    moved = propagate_mask(mask, grid, grid, counting)
    assert time.perf_counter() - start < 8.0
    assert counting.points < 100_000 < mask.voxels.sum()
    indices = np.argwhere(np.ones(moved.box.shape_zyx))[::37] + np.asarray(moved.box.start_zyx)
    truth = holds(mask, np.clip(propagate_points(indices, grid, grid, bend(), Direction.TO_BASELINE), 0, 149))
    assert np.mean(truth == holds(moved, indices.astype(np.float64))) > 0.995


# --- labelmaps


def test_labelmaps_keep_ids_and_dtype() -> None:
    labels = np.zeros(GRID.shape_zyx, np.uint16)
    labels[5:15, 5:15, 5:15] = 65_535
    labels[8:10, 8:10, 8:10] = 3
    labels[20, 20, 0] = 9
    moved = propagate_labels(labels, GRID, GRID, LinearTransform.translation((1.0, 0.0, 0.0)))
    expected: Array = np.roll(labels, -1, axis=2)
    expected[20, 20, -1] = 0
    assert moved.dtype == np.uint16 and np.array_equal(moved, expected)
    assert np.array_equal(propagate_labels(labels, GRID, GRID, IDENTITY), labels)
    assert not propagate_labels(labels, GRID, GRID, Lost(-1e3)).any()


def test_overlapping_voxels_are_assigned_to_the_smaller_lesion() -> None:
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[5:25, 5:25, 5:25] = 1
    labels[14, 14, 14] = 2
    wide = Geometry((8, 8, 8), (5.0, 5.0, 5.0), (-18.0, -16.0, -13.0))
    moved = propagate_labels(labels, GRID, wide, IDENTITY)
    assert (moved == 2).sum() == 1 and (moved == 1).sum() == pytest.approx(64, abs=2)


@settings(max_examples=10, deadline=None)
@given(grids(), motions(), directions)
def test_inner_voxels_keep_their_label(
    target: Geometry, motion: LinearTransform, direction: Direction
) -> None:
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[5:25, 5:30, 5:20], labels[5:25, 5:30, 20:35] = 4, 200
    moved = propagate_labels(labels, GRID, target, motion, direction)
    for lesion_id in (4, 200):
        deep = np.argwhere(binary_erosion(labels == lesion_id, iterations=4))
        z, y, x = np.floor(propagate_points(deep, GRID, target, motion, direction) + 0.5).astype(int).T
        assert (moved[z, y, x] == lesion_id).all()
