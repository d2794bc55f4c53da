"""The component rule, on masks with distances that can be computed by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from model.case.connected_components import label_components
from model.case.geometry import Box
from model.inference.components import keep_component, result_at_point
from model.inference.segmenter import lesion_result

from ...helpers.tracking_phantoms import (
    SHAPE,
    SPACING_ZYX,
    cuboid,
    make_prompt,
    make_result,
    mask_prompt,
    volume_of,
)

ONE_MM = (1.0, 1.0, 1.0)


def _mask(*voxels: tuple[int, int, int], shape: tuple[int, int, int] = (9, 30, 40)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_component_at_the_point_is_kept() -> None:
    mask = _mask((1, 1, 1), (1, 1, 2), (2, 2, 3), (1, 1, 5))  # the third touches by a corner
    kept = keep_component(mask, ONE_MM, (1.0, 1.0, 1.0))
    assert np.argwhere(kept).tolist() == [[1, 1, 1], [1, 1, 2], [2, 2, 3]]


def test_points_between_voxels_are_rounded_half_up() -> None:
    mask = _mask((2, 10, 10), (0, 10, 10))
    assert np.argwhere(keep_component(mask, SPACING_ZYX, (1.5, 10.0, 10.0))).tolist() == [[2, 10, 10]]


def test_nearest_component_in_mm_is_kept_for_a_background_point() -> None:
    # 5 voxels of 0.5 mm are nearer than 2 slices of 3 mm.
    mask = _mask((4, 10, 15), (6, 10, 10))
    kept = keep_component(mask, SPACING_ZYX, (4.0, 10.0, 10.0))
    assert np.argwhere(kept).tolist() == [[4, 10, 15]]
    kept = keep_component(mask, ONE_MM, (4.0, 10.0, 10.0))
    assert np.argwhere(kept).tolist() == [[6, 10, 10]]


def test_limit_is_inclusive_and_in_mm() -> None:
    mask = _mask((4, 10, 30))  # 10 mm away
    assert keep_component(mask, SPACING_ZYX, (4.0, 10.0, 10.0), limit_mm=10.0).any()
    assert not keep_component(mask, SPACING_ZYX, (4.0, 10.0, 10.0), limit_mm=9.99).any()
    assert keep_component(mask, SPACING_ZYX, (4.0, 10.0, 10.0)).any()


def test_ring_is_kept_for_a_point_in_its_hole() -> None:
    y, x = np.mgrid[:30, :40]
    radius = np.hypot(y - 15, x - 20)
    mask = np.zeros((3, 30, 40), bool)
    mask[1] = (radius > 5) & (radius < 8)
    ring = mask.copy()
    mask[1, 15, 35] = True
    np.testing.assert_array_equal(keep_component(mask, ONE_MM, (1.0, 15.0, 20.0)), ring)


def test_larger_of_equally_near_components_is_kept() -> None:
    mask = _mask((4, 10, 7), (4, 10, 13), (4, 10, 14))
    kept = keep_component(mask, ONE_MM, (4.0, 10.0, 10.0))
    assert np.argwhere(kept)[:, 2].tolist() == [13, 14]
    kept = keep_component(mask[:, :, ::-1], ONE_MM, (4.0, 10.0, 29.0))
    assert np.argwhere(kept)[:, 2].tolist() == [25, 26]


def test_points_outside_of_the_mask_and_empty_masks() -> None:
    mask = _mask((0, 0, 0), (8, 29, 39))
    assert np.argwhere(keep_component(mask, ONE_MM, (-3.0, -2.0, 0.0))).tolist() == [[0, 0, 0]]
    assert np.argwhere(keep_component(mask, ONE_MM, (12.0, 29.0, 39.4))).tolist() == [[8, 29, 39]]
    for shape in ((4, 4, 4), (0, 3, 3)):
        kept = keep_component(np.zeros(shape, bool), ONE_MM, (1.0, 1.0, 1.0))
        assert kept.shape == shape and kept.dtype == bool and not kept.any()


@given(st.integers(0, 500), st.tuples(*[st.floats(-4, 12)] * 3), st.floats(0, 12))
@settings(max_examples=80, deadline=None)
def test_component_rule_against_a_literal_implementation(
    seed: int, point: tuple[float, float, float], limit: float
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 7, 8)) < 0.08
    kept = keep_component(mask, SPACING_ZYX, point, limit)
    labels, count = label(mask, np.ones((3, 3, 3)))
    assert label_components(mask)[1] == count
    voxel = tuple(int(np.floor(p + 0.5)) for p in point)
    if all(0 <= i < n for i, n in zip(voxel, mask.shape, strict=True)) and mask[voxel]:
        np.testing.assert_array_equal(kept, labels == labels[voxel])
        return
    nearest = {
        number: np.linalg.norm((np.argwhere(labels == number) - point) * SPACING_ZYX, axis=1).min()
        for number in range(1, count + 1)
    }
    if not nearest or min(nearest.values()) > limit + 1e-6:
        assert not kept.any()
        return
    owners = np.unique(labels[kept])
    assert len(owners) == 1 and nearest[int(owners[0])] <= min(nearest.values()) + 1e-6
    np.testing.assert_array_equal(kept, labels == owners[0])


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_component_rule_does_not_depend_on_axis_order(
    order: tuple[int, int, int], flip: tuple[int, ...]
) -> None:
    mask = _mask((4, 10, 15), (4, 10, 16), (6, 10, 10), (2, 3, 9))
    expected = keep_component(mask, SPACING_ZYX, (4.0, 10.0, 10.0))
    point = [4.0, 10.0, 10.0]
    for axis in flip:
        mask, expected = np.flip(mask, axis), np.flip(expected, axis)
        point[axis] = mask.shape[axis] - 1 - point[axis]
    z, y, x = (point[axis] for axis in order)
    a, b, c = (SPACING_ZYX[axis] for axis in order)
    kept = keep_component(mask.transpose(order), (a, b, c), (z, y, x))
    np.testing.assert_array_equal(kept, expected.transpose(order))


# --- results


def _two_components() -> np.ndarray:
    return cuboid((2, 4), (3, 8), (4, 9)) + cuboid((8, 10), (14, 20), (16, 24), value=0.8)


def test_result_is_cropped_to_the_component_at_its_point() -> None:
    prompt = make_prompt((9.0, 16.0, 20.0))
    whole = make_result(prompt, _two_components())
    reduced = result_at_point(whole)
    assert reduced.prompt is prompt
    assert reduced.box == Box((8, 14, 16), (10, 20, 24))
    np.testing.assert_array_equal(volume_of(reduced), cuboid((8, 10), (14, 20), (16, 24), value=0.8))
    assert whole.mask.sum() == 2 * 5 * 5 + 2 * 6 * 8  # unchanged


def test_result_of_one_component_is_returned_unchanged() -> None:
    whole = make_result(make_prompt((3.0, 5.0, 12.0)), cuboid((2, 4), (3, 8), (4, 9)))
    assert result_at_point(whole) is whole


def test_result_too_far_from_its_point_becomes_empty() -> None:
    reduced = result_at_point(make_result(make_prompt((0.0, 0.0, 0.0)), cuboid((10, 12), (3, 8), (4, 9))))
    assert reduced.box.is_empty and not reduced.mask.any() and reduced.probability.dtype == np.float32
    empty = make_result(make_prompt((0.0, 0.0, 0.0)), np.zeros(SHAPE, np.float32))
    assert result_at_point(empty) is empty


def test_components_that_overlap_the_expected_mask_are_kept() -> None:
    third = cuboid((2, 4), (14, 19), (0, 2), value=0.7)
    result = make_result(make_prompt((3.0, 5.0, 5.0)), _two_components() + third)
    kept = result_at_point(result, keep=mask_prompt(cuboid((9, 12), (19, 20), (23, 24))))
    np.testing.assert_array_equal(volume_of(kept), _two_components())
    # Even if no component is near enough to the point.
    lost = replace(result, prompt=make_prompt((0.0, 0.0, 23.0)))
    kept = result_at_point(lost, limit_mm=1.0, keep=mask_prompt(cuboid((2, 3), (14, 15), (0, 1))))
    np.testing.assert_array_equal(volume_of(kept), third)
    elsewhere = mask_prompt(cuboid((11, 12), (0, 1), (0, 1)))
    assert not result_at_point(lost, limit_mm=1.0, keep=elsewhere).mask.any()


def test_dropped_components_are_cleared_in_the_support() -> None:
    soft = np.where(_two_components() > 0, _two_components(), np.float32(0.25))
    support = Box((1, 2, 3), (11, 20, 24))
    result = lesion_result(make_prompt((3.0, 5.0, 5.0)), support, soft[support.slices], keep_support=True)
    reduced = result_at_point(result)
    assert reduced.support == support
    expected = np.where(cuboid((8, 10), (14, 20), (16, 24)) > 0, 0, soft)
    np.testing.assert_array_equal(
        volume_of(reduced, with_support=True)[support.slices], expected[support.slices]
    )
    assert result.support_probability is not None and result.support_probability.max() > 0.85


def test_component_rule_at_the_image_border() -> None:
    corner = cuboid((0, 1), (0, 2), (0, 2)) + cuboid((11, 12), (19, 20), (23, 24))
    reduced = result_at_point(make_result(make_prompt((-0.4, 0.0, 0.0)), corner))
    assert reduced.box == Box((0, 0, 0), (1, 2, 2))
    reduced = result_at_point(make_result(make_prompt((11.0, 19.4, 23.4)), corner))
    assert reduced.box == Box((11, 19, 23), (12, 20, 24))
