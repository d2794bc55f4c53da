"""Displaced points of the measurement of boosting on the cohort."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.case import PointSource
from test.cohort.step1 import displaced

from ..helpers.tracking_phantoms import make_prompt


def test_points_move_by_the_distance_in_a_direction_of_their_own() -> None:
    prompt = make_prompt((6.0, 10.0, 12.0))
    geometry = prompt.followup.geometry
    moved = displaced(prompt, 2.0, "pair")
    offset = np.subtract(
        geometry.zyx_to_world(moved.followup_point.point_zyx), geometry.zyx_to_world((6.0, 10.0, 12.0))
    )
    assert np.linalg.norm(offset) == pytest.approx(2.0)
    assert moved.followup_point == displaced(prompt, 2.0, "pair").followup_point
    assert moved.followup_point != displaced(prompt, 2.0, "other").followup_point
    assert moved.followup_point.source is PointSource.PROPAGATED
    assert displaced(prompt, 0.0, "pair").followup_point.point_zyx == pytest.approx((6.0, 10.0, 12.0))
    assert geometry.depth_mm(displaced(prompt, 500.0, "pair").followup_point.point_zyx) >= 0
