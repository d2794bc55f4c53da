"""The estimate of a propagated point's error: what raises it, what does not, what gets a flag."""

from __future__ import annotations

from dataclasses import dataclass

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
PLAIN = ConfidenceOptions(floor_mm=0.0, dissimilarity_mm=0.0)
BOTH = st.sampled_from(list(Direction))


def registered(transform: Transform, similarity: float = 1.0, is_reliable: bool = True) -> Registration:
    return Registration(transform, similarity, is_reliable)


def grids(direction: Direction) -> tuple[Geometry, Geometry]:
    """Source and target."""
    return (BASELINE, FOLLOWUP) if direction is Direction.TO_FOLLOWUP else (FOLLOWUP, BASELINE)


def waves(height_mm: float, length_mm: float) -> FieldTransform:
    grid = Geometry((60, 60, 60), (2.5, 2.5, 2.5), (-75.0, -75.0, -75.0))
    x = voxel_centres_mm(grid)[:, :1]
    field = height_mm * np.sin(2 * np.pi * x / length_mm) * [[0.0, 1.0, 0.0]]
    return FieldTransform(LinearTransform.identity(), field.astype(np.float32).reshape(60, 60, 60, 3), grid)


@settings(max_examples=30, deadline=None)
@given(st.floats(-180, 180), st.tuples(*[st.floats(-20, 20)] * 3), BOTH)
def test_a_rigid_motion_is_no_sign_of_error(
    degrees: float, offset: tuple[float, float, float], direction: Direction
) -> None:
    transform = LinearTransform(turn(degrees), np.asarray(offset))
    source, target = grids(direction)
    points = [(20.0, 25.0, 30.0), (3.0, 4.0, 5.0), (-30.0, 2.0, 90.0)]
    answers = propagate_with_confidence(points, source, target, registered(transform), direction, None, PLAIN)
    places = propagate_points(points, source, target, transform, direction)
    assert np.allclose([answer.point_zyx for answer in answers], places)
    assert max(answer.confidence_mm for answer in answers) < 1e-6
    for answer in answers:
        assert answer.in_view == (target.depth_mm(answer.point_zyx) >= 0)
        assert answer.is_flagged != answer.in_view


@pytest.mark.parametrize("direction", list(Direction))
def test_stretching_by_a_tenth_leaves_half_a_millimetre(direction: Direction) -> None:
    matrix = np.eye(3) * (1.1 if direction is Direction.TO_BASELINE else 1 / 1.1)
    registration = registered(LinearTransform(matrix, np.zeros(3)))
    answer = propagate_with_confidence(MIDDLE, *grids(direction), registration, direction, None, PLAIN)[0]
    assert answer.confidence_mm == pytest.approx(0.5)


def test_the_wilder_the_mapping_the_less_is_it_trusted() -> None:
    def confidence(height_mm: float, length_mm: float) -> float:
        registration = registered(waves(height_mm, length_mm))
        point = FOLLOWUP.world_to_zyx((0.0, 0.0, 0.0))
        return propagate_with_confidence(
            [point], FOLLOWUP, BASELINE, registration, Direction.TO_BASELINE, None, PLAIN
        )[0].confidence_mm

    calm, swell, rough = confidence(5.0, 120.0), confidence(10.0, 60.0), confidence(10.0, 15.0)
    assert calm < 1.0 < swell < rough


def test_a_mirrored_neighbourhood_is_never_taken_for_a_turned_one() -> None:
    registration = registered(LinearTransform(np.diag([1.0, 1.0, -1.0]), np.zeros(3)))
    answer = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registration, options=PLAIN)[0]
    assert answer.confidence_mm > 4.0


@pytest.mark.parametrize("direction", list(Direction))
def test_the_way_missing_there_and_back_counts(direction: Direction) -> None:
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
    halved = ConfidenceOptions(floor_mm=2.0, dissimilarity_mm=0.0, inconsistency_weight=0.5)
    assert confidence(off, halved) == pytest.approx(np.hypot(2.0, 2.5))


def test_scans_that_stay_unlike_are_less_sure() -> None:
    identity = LinearTransform.identity()
    found = [
        propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity, similarity))[0]
        for similarity in (0.99, 0.84, 0.36, float("nan"))
    ]
    assert [answer.confidence_mm for answer in found] == pytest.approx(
        [np.hypot(1, 2), np.hypot(1, 8), np.hypot(1, 16), 1.0]
    )
    assert [answer.is_flagged for answer in found] == [False, False, True, False]


def test_fall_backs_are_flagged_with_a_reverse_of_no_worth_left_out() -> None:
    identity = LinearTransform.identity()
    lost = registered(LinearTransform.translation([300.0, 0.0, 0.0]), is_reliable=False)
    sure = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity))[0]
    doubted = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity, is_reliable=False))[
        0
    ]
    half = propagate_with_confidence(MIDDLE, BASELINE, FOLLOWUP, registered(identity), reverse=lost)[0]
    assert not sure.is_flagged and doubted.is_flagged and half.is_flagged
    assert sure.confidence_mm == doubted.confidence_mm == half.confidence_mm == 1.0


@dataclass(frozen=True, eq=False)
class Holed:
    """Identity that loses all points of x above 20 mm, and never expects to be asked for lost ones."""

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        points = np.array(points_mm, np.float64)
        assert np.isfinite(points).all()
        points[points[:, 0] > 20.0] = np.nan
        return points

    moving_to_fixed = fixed_to_moving


def test_lost_points_lose_no_others() -> None:
    places_mm = [(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (19.0, 0.0, 0.0)]
    points = [BASELINE.world_to_zyx(place) for place in places_mm] + [(np.nan, 1.0, 2.0)]
    for reverse in (None, registered(Holed())):
        good, lost, edge, never = propagate_with_confidence(
            points, BASELINE, FOLLOWUP, registered(Holed()), reverse=reverse
        )
        assert good.confidence_mm == 1.0 and good.in_view and not good.is_flagged
        assert np.isfinite(edge.point_zyx).all() and edge.confidence_mm == np.inf
        assert edge.in_view and edge.is_flagged
        for answer in (lost, never):
            assert np.isnan(answer.point_zyx).all() and answer.confidence_mm == np.inf
            assert answer.is_flagged and not answer.in_view


def test_no_points() -> None:
    registration = registered(LinearTransform.identity())
    assert propagate_with_confidence([], BASELINE, FOLLOWUP, registration, reverse=registration) == []


@dataclass
class Closer:
    """Remembers where it was asked to look closer."""

    asked: FloatArray | None = None
    error: Exception | None = None

    def __call__(self, points_mm: npt.ArrayLike) -> Transform:
        self.asked = np.asarray(points_mm)
        if self.error:
            raise self.error
        return LinearTransform.translation([1.0, 0.0, 0.0])


@pytest.mark.parametrize("direction", list(Direction))
def test_a_closer_look_is_taken_in_the_world_of_the_followup(direction: Direction) -> None:
    closer = Closer()
    rough = LinearTransform.translation([0.0, 7.0, 0.0])
    registration = Registration(rough, 1.0, refine=closer)
    source, target = grids(direction)
    point_mm = np.zeros((1, 3)) if direction is Direction.TO_BASELINE else rough.fixed_to_moving([[0, 0, 0]])
    point = source.world_to_zyx(point_mm[0])
    answer = propagate_with_confidence([point, (900.0, 0.0, 0.0)], source, target, registration, direction)[0]
    assert closer.asked == pytest.approx(np.zeros((1, 3)))
    sign = 1.0 if direction is Direction.TO_BASELINE else -1.0
    assert target.zyx_to_world(answer.point_zyx) == pytest.approx(tuple(point_mm[0] + [sign, 0, 0]))
    assert answer.confidence_mm == pytest.approx(1.0)


def test_a_closer_look_that_fails_leaves_the_whole_scans_transform() -> None:
    rough = LinearTransform.translation([0.0, 7.0, 0.0])
    registration = Registration(rough, 1.0, refine=Closer(error=RuntimeError("out of memory")))
    near = refine_near(MIDDLE, BASELINE, FOLLOWUP, registration)
    assert near.transform is rough and near.refine is None
    far = Registration(rough, 1.0, refine=Closer())
    assert refine_near([(900.0, 0.0, 0.0)], BASELINE, FOLLOWUP, far).transform is rough
    assert refine_near([], BASELINE, FOLLOWUP, far).transform is rough


def test_scans_of_which_nothing_could_be_compared_say_nothing_of_the_error() -> None:
    fall_back = registered(LinearTransform.identity(), float("nan"), is_reliable=False)
    (answer,) = propagate_with_confidence(MIDDLE, BASELINE, BASELINE, fall_back)
    assert answer.confidence_mm == np.inf and answer.is_flagged and answer.in_view
    assert answer.point_zyx == MIDDLE[0]
