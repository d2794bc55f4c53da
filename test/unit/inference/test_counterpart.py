"""Counterparts in the baseline of follow-up points that are moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.case.case import LesionPrompt, PointSource
from model.case.geometry import Vector
from model.inference.counterpart import counterpart, middle_counterpart, moved_prompt, recentred_prompt

from ...helpers.tracking_phantoms import SHAPE, SPACING_ZYX, cuboid, make_prompt, make_scan

START: Vector = (2.0, 4.0, 4.0)
MOVED: Vector = (4.0, 7.0, 7.0)
BASELINE: Vector = (3.0, 4.0, 5.0)  # of `make_prompt`
EVERYWHERE = np.ones(SHAPE)


def _prompt(labels: np.ndarray, spacing_zyx: Vector = SPACING_ZYX) -> LesionPrompt:
    scan = make_scan(name="baseline", spacing_zyx=spacing_zyx)
    return make_prompt(START, baseline=replace(scan, mask=labels.astype(np.uint16)))


def test_the_offset_in_millimetres_is_the_same_in_both_scans() -> None:
    assert counterpart(_prompt(EVERYWHERE), MOVED) == pytest.approx((5.0, 7.0, 8.0))
    assert counterpart(_prompt(EVERYWHERE, (6.0, 2.0, 1.0)), MOVED) == pytest.approx((4.0, 5.5, 6.5))
    assert counterpart(_prompt(EVERYWHERE), START) == BASELINE


def test_the_registration_maps_the_way_if_there_is_one() -> None:
    mapped = replace(_prompt(EVERYWHERE), to_baseline=lambda point: (point[0], 9.0 - point[1], 1.0))
    assert counterpart(mapped, MOVED) == pytest.approx((5.0, 1.0, 5.0))
    lost = replace(mapped, to_baseline=lambda point: (np.nan, 0.0, 0.0))
    assert counterpart(lost, MOVED) == pytest.approx((5.0, 7.0, 8.0))


def test_the_baseline_point_stays_if_its_counterpart_is_not_in_the_lesion() -> None:
    assert counterpart(_prompt(cuboid((3, 5), (4, 7), (5, 8), value=1.0)), MOVED) == BASELINE
    assert counterpart(_prompt(2 * EVERYWHERE), MOVED) == BASELINE  # another lesion
    far = replace(make_prompt(START), to_baseline=lambda point: (10 * point[0], point[1], point[2]))
    assert counterpart(far, MOVED) == BASELINE


def test_without_a_baseline_mask_the_scan_is_the_limit() -> None:
    assert counterpart(replace(_prompt(EVERYWHERE * 2), has_mask=False), MOVED) == pytest.approx((5, 7, 8))
    assert counterpart(make_prompt(START), MOVED) == pytest.approx((5.0, 7.0, 8.0))


def test_a_middle_belongs_to_the_middle_of_the_baseline_lesion() -> None:
    small = cuboid((1, 4), (2, 9), (4, 9), value=1.0)  # its deepest voxel is (2, 5, 6)
    assert middle_counterpart(_prompt(small), MOVED) == (2.0, 5.0, 6.0)
    moved = recentred_prompt(_prompt(small), MOVED)
    assert moved.baseline_point.point_zyx == (2.0, 5.0, 6.0) and moved.followup_point.point_zyx == MOVED
    assert moved.baseline_point.source is PointSource.GIVEN
    assert moved.followup_point.source is PointSource.PROPAGATED


def test_a_middle_in_another_part_of_a_large_lesion_is_not_taken() -> None:
    ends = cuboid((0, 6), (2, 6), (2, 8), value=1.0) + cuboid((0, 12), (10, 20), (2, 22), value=1.0)
    prompt = _prompt(ends)  # two parts of one lesion, the deepest voxel in the second
    nearby: Vector = (2.0, 5.0, 4.0)
    assert middle_counterpart(prompt, nearby) == pytest.approx((3.0, 5.0, 5.0))
    assert middle_counterpart(prompt, nearby) == counterpart(prompt, nearby)


def test_a_mask_prompt_without_the_lesion_has_no_middle() -> None:
    assert middle_counterpart(make_prompt(START), MOVED) == pytest.approx((5.0, 7.0, 8.0))


def test_box_and_mask_are_left_to_the_caller() -> None:
    prompt = make_prompt(START)
    assert moved_prompt(prompt, MOVED).followup_mask is prompt.followup_mask
    assert moved_prompt(prompt, START).baseline_point == prompt.baseline_point
