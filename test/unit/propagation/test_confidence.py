"""Estimated errors of propagated points, and their flags."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import FloatArray, Geometry
from model.propagation.confidence import ConfidenceOptions, propagate_with_confidence
from model.propagation.points import Direction, propagate_points, refine_near
from model.propagation.register import Registration, Transform
from model.propagation.register.field import FieldTransform, voxel_centres_mm
from model.propagation.register.linear import LinearTransform

from ...helpers.registration_scans import turn

BASELINE = Geometry((60, 50, 40), (2.0, 2.0, 3.0), (-60.0, -50.0, -60.0))
FOLLOWUP = Geometry((50, 50, 50), (2.5, 2.0, 2.4), (-70.0, 48.0, 55.0), (1, 0, 0, 0, -1, 0, 0, 0, -1))
MIDDLE = [(20.0, 25.0, 30.0)]
PLAIN = ConfidenceOptions(floor_mm=0.0, spread_weight=1.0, dissimilarity_mm=0.0, linear_factor=1.0)
LINEAR = ConfidenceOptions().linear_factor
BOTH = st.sampled_from(list(Direction))


def registered(transform: Transform, similarity: float = 1.0, is_reliable: bool = True) -> Registration:
    return Registration(transform, similarity, is_reliable)


def grids(direction: Direction) -> tuple[Geometry, Geometry]:
    """Grids of source and target."""
    return (BASELINE, FOLLOWUP) if direction is Direction.TO_FOLLOWUP else (FOLLOWUP, BASELINE)


def waves(height_mm: float, length_mm: float) -> FieldTransform:
    grid = Geometry((60, 60, 60), (2.5, 2.5, 2.5), (-75.0, -75.0, -75.0))
    x = voxel_centres_mm(grid)[:, :1]
    field = height_mm * np.sin(2 * np.pi * x / length_mm) * [[0.0, 1.0, 0.0]]
    return FieldTransform(LinearTransform.identity(), field.astype(np.float32).reshape(60, 60, 60, 3), grid)


@settings(max_examples=30, deadline=None)
@given(st.floats(-180, 180), st.tuples(*[st.floats(-20, 20)] * 3), BOTH)
def test_a_rigid_motion_does_not_lower_confidence(
    degrees: float, offset: tuple[float, float, float], direction: Direction
) -> None:
    transform = LinearTransform(turn(degrees), np.asarray(offset))
    source, target = grids(direction)
    points = [(20.0, 25.0, 30.0), (3.0, 4.0, 5.0), (-30.0, 2.0, 90.0)]
    propagated = propagate_with_confidence(
        points, source, target, registered(transform), direction, None, PLAIN
    )
    expected_zyx = propagate_points(points, source, target, transform, direction)
    assert np.allclose([point.point_zyx for point in propagated], expected_zyx)
    assert max(point.confidence_mm for point in propagated) < 1e-6
    for point in propagated:
        assert point.in_view == (target.depth_mm(point.point_zyx) >= 0)
        assert point.is_flagged != point.in_view


@pytest.mark.parametrize("direction", list(Direction))
def test_stretching_by_a_tenth_adds_half_a_millimetre(direction: Direction) -> None:
    matrix = np.eye(3) * (1.1 if direction is Direction.TO_BASELINE else 1 / 1.1)
    registration = registered(LinearTransform(matrix, np.zeros(3)))
    point = propagate_with_confidence(MIDDLE, *grids(direction), registration, direction, None, PLAIN)[0]
    assert point.confidence_mm == pytest.approx(0.5)


def test_irregular_mappings_lower_confidence() -> None:
    def confidence(height_mm: float, length_mm: float) -> float:
        registration = registered(waves(height_mm, length_mm))
        point = FOLLOWUP.world_to_zyx((0.0, 0.0, 0.0))
        return propagate_with_confidence(
            [point], FOLLOWUP, BASELINE, registration, Direction.TO_BASELINE, None, PLAIN
        )[0].confidence_mm

    calm, swell, rough = confidence(5.0, 120.0), confidence(10.0, 60.0), confidence(10.0, 15.0)
    assert calm < 1.0 < swell < rough


def test_a_mirrored_neighbourhood_is_not_taken_for_a_rotated_one() -> None:
    registration = registered(LinearTransform(np.diag([1.0, 1.0, -1.0]), np.zeros(3)))
    point = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registration, options=PLAIN)[0]
    assert point.confidence_mm > 4.0


@pytest.mark.parametrize("direction", list(Direction))
def test_inverse_inconsistency_lowers_confidence(direction: Direction) -> None:
    there = LinearTransform(turn(10.0), np.asarray([1.0, 2.0, 3.0]))
    inverse = np.asarray(np.linalg.inv(there.matrix), np.float64)
    exact = LinearTransform(inverse, -inverse @ there.offset_mm)
    off = LinearTransform(inverse, -inverse @ there.offset_mm + [3.0, 0.0, 4.0])

    def confidence(reverse: LinearTransform, options: ConfidenceOptions) -> float:
        return propagate_with_confidence(
            MIDDLE, *grids(direction), registered(there), direction, registered(reverse), options
        )[0].confidence_mm

    assert confidence(exact, PLAIN) == pytest.approx(0.0, abs=1e-6)
    assert confidence(off, PLAIN) == pytest.approx(5.0)
    halved = replace(PLAIN, floor_mm=2.0, inconsistency_weight=0.5)
    assert confidence(off, halved) == pytest.approx(np.hypot(2.0, 2.5))


def test_dissimilar_scans_lower_confidence() -> None:
    identity = LinearTransform.identity()
    found = [
        propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity, similarity))[0]
        for similarity in (0.99, 0.84, -0.21, float("nan"))
    ]
    assert [point.confidence_mm for point in found] == pytest.approx(
        [LINEAR * error_mm for error_mm in (np.hypot(1, 1), np.hypot(1, 4), np.hypot(1, 11), 1.0)]
    )
    assert [point.is_flagged for point in found] == [False, False, True, False]


def test_estimates_of_linear_transforms_have_a_factor_of_their_own() -> None:
    class Still:
        """The identity, by a transform that could have been deformed."""

        def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
            return np.asarray(points_mm, np.float64)

        moving_to_fixed = fixed_to_moving

    linear, deformable = (
        propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(transform, 0.84))[0]
        for transform in (LinearTransform.identity(), Still())
    )
    assert linear.confidence_mm == pytest.approx(LINEAR * deformable.confidence_mm)


@pytest.mark.parametrize("direction", list(Direction))
def test_ambiguity_is_measured_at_the_point_of_the_followup(direction: Direction) -> None:
    transform = LinearTransform.translation([3.0, 4.0, 5.0])
    asked = []

    def ambiguity(points_mm: npt.ArrayLike, given: Transform) -> FloatArray:
        assert given is transform
        asked.append(np.asarray(points_mm))
        return np.array([6.0, np.nan])

    points = [(20.0, 25.0, 30.0), (21.0, 25.0, 30.0)]
    source, target = grids(direction)
    registration = replace(registered(transform), ambiguity=ambiguity)
    found = propagate_with_confidence(points, source, target, registration, direction, None, PLAIN)
    assert [point.confidence_mm for point in found] == pytest.approx([3.0, 8.0])
    places = points if direction is Direction.TO_BASELINE else [point.point_zyx for point in found]
    assert np.allclose(asked[0], FOLLOWUP.voxel_to_world(np.array(places)[:, ::-1]))


def test_fall_backs_are_flagged_and_an_unreliable_reverse_adds_no_mm() -> None:
    identity = LinearTransform.identity()
    lost = registered(LinearTransform.translation([300.0, 0.0, 0.0]), is_reliable=False)
    sure = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity))[0]
    doubted = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity, is_reliable=False))[
        0
    ]
    half = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity), reverse=lost)[0]
    assert not sure.is_flagged and doubted.is_flagged and half.is_flagged
    assert sure.confidence_mm == doubted.confidence_mm == half.confidence_mm == LINEAR


@dataclass(frozen=True, eq=False)
class Holed:
    """Identity that loses all points of x above 20 mm, and must not be called with lost ones."""

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        points = np.array(points_mm, np.float64)
        assert np.isfinite(points).all()
        points[points[:, 0] > 20.0] = np.nan
        return points

    moving_to_fixed = fixed_to_moving


def test_lost_points_do_not_affect_others() -> None:
    places_mm = [(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (19.0, 0.0, 0.0)]
    points = [BASELINE.world_to_zyx(place) for place in places_mm] + [(np.nan, 1.0, 2.0)]
    for reverse in (None, registered(Holed())):
        good, lost, edge, never = propagate_with_confidence(
            points, BASELINE, FOLLOWUP, registered(Holed()), reverse=reverse
        )
        assert good.confidence_mm == 1.0 and good.in_view and not good.is_flagged
        assert np.isfinite(edge.point_zyx).all() and edge.confidence_mm == np.inf
        assert edge.in_view and edge.is_flagged
        for point in (lost, never):
            assert np.isnan(point.point_zyx).all() and point.confidence_mm == np.inf
            assert point.is_flagged and not point.in_view


def test_no_points() -> None:
    registration = registered(LinearTransform.identity())
    assert propagate_with_confidence([], BASELINE, FOLLOWUP, registration, reverse=registration) == []


@dataclass
class Refiner:
    """Records the points near which it is called."""

    refined_at_mm: FloatArray | None = None
    error: Exception | None = None

    def __call__(self, points_mm: npt.ArrayLike) -> Transform:
        self.refined_at_mm = np.asarray(points_mm)
        if self.error:
            raise self.error
        return LinearTransform.translation([1.0, 0.0, 0.0])


@pytest.mark.parametrize("direction", list(Direction))
def test_refinement_gets_points_in_the_world_of_the_followup(direction: Direction) -> None:
    refiner = Refiner()
    rough = LinearTransform.translation([0.0, 7.0, 0.0])
    registration = Registration(rough, 1.0, refine=refiner)
    source, target = grids(direction)
    point_mm = np.zeros((1, 3)) if direction is Direction.TO_BASELINE else rough.fixed_to_moving([[0, 0, 0]])
    point = source.world_to_zyx(point_mm[0])
    propagated = propagate_with_confidence(
        [point, (900.0, 0.0, 0.0)], source, target, registration, direction
    )[0]
    assert refiner.refined_at_mm == pytest.approx(np.zeros((1, 3)))
    sign = 1.0 if direction is Direction.TO_BASELINE else -1.0
    assert target.zyx_to_world(propagated.point_zyx) == pytest.approx(tuple(point_mm[0] + [sign, 0, 0]))
    assert propagated.confidence_mm == pytest.approx(LINEAR)


def test_a_failing_refinement_keeps_the_unrefined_transform() -> None:
    rough = LinearTransform.translation([0.0, 7.0, 0.0])
    registration = Registration(rough, 1.0, refine=Refiner(error=RuntimeError("out of memory")))
    near = refine_near(MIDDLE, BASELINE, FOLLOWUP, registration)
    assert near.transform is rough and near.refine is None
    far = Registration(rough, 1.0, refine=Refiner())
    assert refine_near([(900.0, 0.0, 0.0)], BASELINE, FOLLOWUP, far).transform is rough
    assert refine_near([], BASELINE, FOLLOWUP, far).transform is rough


def test_incomparable_scans_have_unknown_confidence() -> None:
    fall_back = registered(LinearTransform.identity(), float("nan"), is_reliable=False)
    (point,) = propagate_with_confidence(MIDDLE, BASELINE, BASELINE, fall_back)
    assert point.confidence_mm == np.inf and point.is_flagged and point.in_view
    assert point.point_zyx == MIDDLE[0]
