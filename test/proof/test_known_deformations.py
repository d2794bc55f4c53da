"""Errors of propagated points on a real thorax under known deformations: limits of the default registration.

As in `test_real_pairs`, each pair is registered once, and its points are propagated like a patient's lesions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.case.geometry import FloatArray
from model.propagation.confidence import PropagatedPoint, propagate_with_confidence
from model.propagation.points import Direction

from ..helpers.real_pairs import (
    HALF,
    LARGE,
    Deformation,
    Deformed,
    Registered,
    depths_mm,
    registered_by,
    registered_coarsely,
    thorax_pair,
    voxels_zyx,
)

pytestmark = pytest.mark.slow

BACKEND = "deformable"
BOTH_WAYS = pytest.mark.parametrize("direction", list(Direction))

# A point this near to the end of a scan may be taken for one just outside: there is no image beyond it.
BORDER_MM = 10.0


@pytest.fixture(scope="module")
def thorax() -> Registered:
    """A real thorax under a random smooth deformation: the truth is known everywhere."""
    return registered_by(BACKEND, _checked(thorax_pair(LARGE), LARGE).common)


@BOTH_WAYS
def test_known_deformation(thorax: Registered, direction: Direction) -> None:
    assert thorax.registration.is_reliable
    _assert_within_limits(thorax.errors_everywhere_mm(direction))


@pytest.fixture(scope="module")
def known_half() -> Deformed:
    """Each scan shows three quarters of the thorax, so that half is in both."""
    return _checked(thorax_pair(HALF), HALF)


@pytest.fixture(scope="module")
def half(known_half: Deformed) -> Registered:
    """On half as many voxels as by default: voxels as large as the whole thorax gets, worth a refinement."""
    return registered_coarsely(known_half.common)


@BOTH_WAYS
def test_known_deformation_of_half(half: Registered, direction: Direction) -> None:
    assert half.registration.is_reliable
    _assert_within_limits(half.errors_everywhere_mm(direction))


@BOTH_WAYS
def test_known_deformation_of_half_near_lesions(half: Registered, direction: Direction) -> None:
    _assert_refinement_helps(half, direction)


@BOTH_WAYS
def test_points_of_the_other_half_are_out_of_view(
    known_half: Deformed, half: Registered, direction: Direction
) -> None:
    """Without refinement, which is meant for dozens of lesions."""
    pair = known_half.pair
    ends = (pair.fixed, pair.fixed_mm), (pair.moving, pair.moving_mm)
    (source, start_mm), (target, true_mm) = ends[::-1] if direction is Direction.TO_FOLLOWUP else ends
    is_seen = depths_mm(source.geometry, start_mm) >= 0
    points = voxels_zyx(source.geometry, start_mm)[is_seen]
    depth_mm = depths_mm(target.geometry, true_mm)[is_seen]
    coarse = replace(half.registration, refine=None)
    found = propagate_with_confidence(points, source.geometry, target.geometry, coarse, direction)
    outside, inside = _of(found, depth_mm < -BORDER_MM), _of(found, depth_mm > BORDER_MM)
    assert len(outside) >= 200 and len(inside) >= 500
    assert not any(point.in_view for point in outside) and all(point.is_flagged for point in outside)
    assert all(point.in_view for point in inside)
    assert np.mean([point.is_flagged for point in inside]) < 0.05


def _of(found: list[PropagatedPoint], is_meant: np.ndarray) -> list[PropagatedPoint]:
    return [point for point, meant in zip(found, is_meant, strict=True) if meant]


def _checked(known: Deformed, options: Deformation) -> Deformed:
    """Check that the deformation is as smooth and as large as the limits assume."""
    assert min(known.knots_mm) >= 50.0
    assert options.peak_mm - 2.0 <= known.moved_mm().max() <= options.peak_mm + 1.0
    assert np.count_nonzero(known.is_common) >= 500
    return known


def _assert_within_limits(errors_mm: FloatArray) -> None:
    assert np.median(errors_mm) <= 1.0
    assert np.percentile(errors_mm, 95) <= 3.0


def _assert_refinement_helps(registered: Registered, direction: Direction) -> None:
    """A dozen lesions are too few for a median; refinement must not increase their mean error."""
    assert registered.refined(direction).transform is not registered.registration.transform
    refined_mm = registered.errors_mm(direction)
    coarse_mm = registered.errors_everywhere_mm(direction)[: len(refined_mm)]
    assert np.percentile(refined_mm, 95) <= 3.0
    assert refined_mm.mean() <= coarse_mm.mean() + 0.05
