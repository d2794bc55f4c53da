"""Some pairs that are hard to align (`test.benchmark.robustness`), by `affine`, from which others start."""

from __future__ import annotations

import numpy as np
import pytest

from model.propagation.confidence import propagate_with_confidence
from model.propagation.points import Direction
from model.propagation.register import Registration, backend

from ..helpers.real_pairs import voxels_zyx
from ..helpers.robust_cases import robust_cases
from ..helpers.robust_pairs import RobustPair, make_pair

pytestmark = pytest.mark.slow

# A point this near to the end of a scan may be taken to lie on either side of it.
BORDER_MM = 10.0


def registered(kind: str, source: str) -> tuple[RobustPair, Registration]:
    (case,) = (case for case in robust_cases() if (case.kind, case.source) == (kind, source))
    pair = make_pair(case, points=40)
    return pair, backend("affine").register(pair.fixed, pair.moving)


@pytest.mark.parametrize(
    ("kind", "source"), [("tenth in common", "pelvis"), ("couch, half in common", "liver")]
)
def test_partly_common_scans_are_aligned(kind: str, source: str) -> None:
    pair, registration = registered(kind, source)
    found_mm = registration.transform.moving_to_fixed(pair.moving_mm)
    is_common = (pair.followup_depth_mm >= 0) & (pair.baseline_depth_mm >= 0)
    assert np.count_nonzero(is_common) >= 10
    assert np.linalg.norm(found_mm - pair.fixed_mm, axis=1)[is_common].max() <= 25.0
    assert_out_of_view(pair, registration)


def test_scans_with_nothing_in_common_are_not_aligned() -> None:
    pair, registration = registered("disjoint", "pelvis")
    assert not registration.is_reliable
    assert_out_of_view(pair, registration)


def assert_out_of_view(pair: RobustPair, registration: Registration) -> None:
    """The baseline's points that are well outside of the follow-up are said to be so."""
    outside = (pair.baseline_depth_mm >= 0) & (pair.followup_depth_mm < -BORDER_MM)
    assert np.count_nonzero(outside) >= 10
    points = voxels_zyx(pair.moving.geometry, pair.moving_mm[outside])
    found = propagate_with_confidence(
        points, pair.moving.geometry, pair.fixed.geometry, registration, Direction.TO_FOLLOWUP
    )
    assert not any(point.in_view for point in found) and all(point.is_flagged for point in found)
