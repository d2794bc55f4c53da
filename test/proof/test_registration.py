"""How near propagated places come to the true ones: limits of the default registration on real scans.

Each pair is registered once, by one and the same set of defaults, and its places are carried over as a
patient's lesions are: from the grid of one scan to that of the other, with the closer look round them.
`test.benchmark.registration` prints the same figures for all back ends.
"""

from __future__ import annotations

import numpy as np
import pytest

from model.case.geometry import FloatArray
from model.propagation.confidence import PropagatedPoint, propagate_with_confidence
from model.propagation.propagate import Direction
from model.propagation.register import Registration, backend

from ..pairs import (
    HALF,
    REAL,
    Deformation,
    Deformed,
    Pair,
    Registered,
    breathing_pair,
    depths_mm,
    lung_pair,
    thorax_pair,
    voxels_zyx,
)

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not on this machine")

BACKEND = "deformable"
BOTH_WAYS = pytest.mark.parametrize("direction", list(Direction))

# A place so near to the end of a scan may be taken for one just beyond it: nothing is seen on its other side.
BORDER_MM = 10.0


def registered_by(name: str, pair: Pair) -> Registered:
    return Registered(pair, backend(name).register(pair.fixed, pair.moving))


class TestTwoDatesOfALung:
    """51 landmarks, 35 mm apart at first."""

    @pytest.fixture(scope="class")
    def pair(self) -> Pair:
        pair = lung_pair()
        assert len(pair.fixed_mm) == 51 and 35.0 < pair.start_mm() < 35.6
        return pair

    @pytest.fixture(scope="class")
    def forward(self, pair: Pair) -> Registered:
        return registered_by(BACKEND, pair)

    @pytest.fixture(scope="class")
    def backward(self, pair: Pair) -> Registered:
        """The later scan taken for the baseline, registered anew."""
        return registered_by(BACKEND, pair.swapped())

    @BOTH_WAYS
    def test_landmarks(self, forward: Registered, direction: Direction) -> None:
        assert forward.registration.is_reliable
        assert forward.errors_mm(direction).mean() <= 1.4

    @BOTH_WAYS
    def test_landmarks_of_scans_in_the_other_order(self, backward: Registered, direction: Direction) -> None:
        assert backward.registration.is_reliable
        assert backward.errors_mm(direction).mean() <= 1.6

    @BOTH_WAYS
    def test_landmarks_without_a_closer_look(self, forward: Registered, direction: Direction) -> None:
        assert forward.errors_everywhere_mm(direction).mean() <= 1.6

    def test_affine_alone(self, pair: Pair) -> None:
        affine = registered_by("affine", pair)
        assert all(affine.errors_mm(direction).mean() <= 6.1 for direction in Direction)


class TestTwoPhasesOfBreathing:
    """The tumour moves by 8.5 mm; a rigid registration leaves 6.9."""

    @pytest.fixture(scope="class")
    def pair(self) -> Pair:
        pair = breathing_pair()
        assert pair.start_mm() == pytest.approx(8.5, abs=0.1)
        return pair

    @pytest.fixture(scope="class", params=["in order", "swapped"])
    def registered(self, pair: Pair, request: pytest.FixtureRequest) -> Registered:
        return registered_by(BACKEND, pair if request.param == "in order" else pair.swapped())

    @BOTH_WAYS
    def test_tumour(self, registered: Registered, direction: Direction) -> None:
        assert registered.registration.is_reliable
        assert registered.errors_mm(direction).max() <= 3.0


class TestKnownDeformation:
    """A real thorax under a random smooth deformation: the truth is known everywhere."""

    @pytest.fixture(scope="class")
    def known(self) -> Deformed:
        known = thorax_pair(Deformation())
        _assert_as_asked(known)
        return known

    @pytest.fixture(scope="class")
    def registered(self, known: Deformed) -> Registered:
        return registered_by(BACKEND, known.common)

    @BOTH_WAYS
    def test_lesions(self, registered: Registered, direction: Direction) -> None:
        assert registered.registration.is_reliable
        _assert_closer_look_helps(registered, direction)

    @BOTH_WAYS
    def test_everywhere(self, registered: Registered, direction: Direction) -> None:
        _assert_within_limits(registered.errors_everywhere_mm(direction))


class TestKnownDeformationOfHalf:
    """Each scan shows three quarters of the thorax, so that half is in both."""

    @pytest.fixture(scope="class")
    def known(self) -> Deformed:
        known = thorax_pair(HALF)
        _assert_as_asked(known)
        return known

    @pytest.fixture(scope="class")
    def registered(self, known: Deformed) -> Registered:
        return registered_by(BACKEND, known.common)

    @BOTH_WAYS
    def test_lesions(self, registered: Registered, direction: Direction) -> None:
        assert registered.registration.is_reliable
        _assert_closer_look_helps(registered, direction)

    @BOTH_WAYS
    def test_everywhere_in_common(self, registered: Registered, direction: Direction) -> None:
        _assert_within_limits(registered.errors_everywhere_mm(direction))

    @BOTH_WAYS
    def test_others_are_out_of_view(
        self, known: Deformed, registered: Registered, direction: Direction
    ) -> None:
        """Asked without the closer look, which is for lesions by the dozen."""
        ends = (known.pair.fixed, known.pair.fixed_mm), (known.pair.moving, known.pair.moving_mm)
        (source, start_mm), (target, true_mm) = ends[::-1] if direction is Direction.TO_FOLLOWUP else ends
        is_seen = depths_mm(source.geometry, start_mm) >= 0
        points, depth_mm = voxels_zyx(source.geometry, start_mm)[is_seen], depths_mm(target.geometry, true_mm)
        coarse = Registration(registered.registration.transform, registered.registration.similarity)
        found = propagate_with_confidence(points, source.geometry, target.geometry, coarse, direction)
        outside = _of(found, depth_mm[is_seen] < -BORDER_MM)
        inside = _of(found, depth_mm[is_seen] > BORDER_MM)
        assert len(outside) >= 200 and len(inside) >= 500
        assert not any(point.in_view for point in outside) and all(point.is_flagged for point in outside)
        assert all(point.in_view for point in inside)
        assert np.mean([point.is_flagged for point in inside]) < 0.05


def _of(found: list[PropagatedPoint], is_meant: np.ndarray) -> list[PropagatedPoint]:
    return [point for point, meant in zip(found, is_meant, strict=True) if meant]


def _assert_as_asked(known: Deformed) -> None:
    """The deformation is as smooth and as large as the limits are meant for."""
    assert min(known.knots_mm) >= 50.0
    assert 10.0 <= known.moved_mm().max() <= 15.0
    assert np.count_nonzero(known.is_common) >= 500


def _assert_within_limits(errors_mm: FloatArray) -> None:
    assert np.median(errors_mm) <= 1.0
    assert np.percentile(errors_mm, 95) <= 3.0


def _assert_closer_look_helps(registered: Registered, direction: Direction) -> None:
    """A dozen lesions are too few for a median; of the same ones none is asked in vain."""
    closer_mm = registered.errors_mm(direction)
    coarse_mm = registered.errors_everywhere_mm(direction)[: len(closer_mm)]
    assert np.percentile(closer_mm, 95) <= 3.0
    assert closer_mm.mean() <= coarse_mm.mean() + 0.05
