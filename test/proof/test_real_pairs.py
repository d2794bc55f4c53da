"""Errors of propagated points on real pairs of scans: limits of the default registration.

Each pair is registered once, with one set of defaults, and its points are propagated like a patient's
lesions: from the grid of one scan to that of the other, with refinement near them. The lung in the other
order and the breathing pair are registered on half as many voxels, and have to keep their limits with them.
`test.benchmark.registration` prints the same figures for all back ends.
"""

from __future__ import annotations

import pytest

from model.propagation.points import Direction
from model.propagation.register import Registration
from model.propagation.register.field import FieldTransform

from ..helpers.real_pairs import (
    Pair,
    Registered,
    breathing_pair,
    lung_pair,
    registered_by,
    registered_coarsely,
)

pytestmark = pytest.mark.slow

BACKEND = "deformable"
BOTH_WAYS = pytest.mark.parametrize("direction", list(Direction))


@pytest.fixture(scope="module")
def lung() -> Pair:
    """51 landmarks of two dates, 35 mm apart by the headers."""
    pair = lung_pair()
    assert len(pair.fixed_mm) == 51 and 35.0 < pair.start_mm() < 35.6
    return pair


@pytest.fixture(scope="module")
def lung_forward(lung: Pair) -> Registered:
    return registered_by(BACKEND, lung)


@pytest.fixture(scope="module")
def lung_backward(lung: Pair) -> Registered:
    """The later scan as the baseline, registered again."""
    return registered_coarsely(lung.swapped())


@BOTH_WAYS
def test_landmarks_of_a_lung(lung_forward: Registered, direction: Direction) -> None:
    assert lung_forward.registration.is_reliable
    assert lung_forward.errors_mm(direction).mean() <= 1.4


@BOTH_WAYS
def test_landmarks_of_a_lung_without_refinement(lung_forward: Registered, direction: Direction) -> None:
    assert lung_forward.errors_everywhere_mm(direction).mean() <= 1.6


@BOTH_WAYS
def test_landmarks_of_a_lung_backwards(lung_backward: Registered, direction: Direction) -> None:
    assert lung_backward.registration.is_reliable
    assert lung_backward.errors_mm(direction).mean() <= 1.6


@BOTH_WAYS
def test_landmarks_of_a_lung_by_the_affine_step(lung_forward: Registered, direction: Direction) -> None:
    deformed = lung_forward.registration.transform
    assert isinstance(deformed, FieldTransform)
    affine = Registered(
        lung_forward.pair, Registration(deformed.linear, lung_forward.registration.similarity)
    )
    assert affine.errors_mm(direction).mean() <= 6.1


@pytest.fixture(scope="module")
def breathing() -> Registered:
    """Two phases; the tumour moves by 8.5 mm, and a rigid registration leaves 6.9."""
    pair = breathing_pair()
    assert pair.start_mm() == pytest.approx(8.5, abs=0.1)
    return registered_coarsely(pair)


@BOTH_WAYS
def test_tumour_of_two_phases_of_breathing(breathing: Registered, direction: Direction) -> None:
    assert breathing.registration.is_reliable
    assert breathing.errors_mm(direction).max() <= 3.0
