"""Simulated prompts: positions by each rule, and reproducibility by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.case.case import MaskPrompt
from model.case.geometry import Box, Vector
from model.case.labelmaps import lesion_masks
from model.prompts.sampling import deepest_point
from model.prompts.simulation import (
    ClickRule,
    SimulationOptions,
    enlarge_box,
    simulate_boxes,
    simulate_clicks,
)

UNIT = (1.0, 1.0, 1.0)
labelmaps = arrays(
    np.uint16, st.tuples(*[st.integers(1, 7)] * 3), elements=st.sampled_from([0, 0, 3, 65_535])
)
ON_THE_LESION = [rule for rule in ClickRule if rule is not ClickRule.CENTRE]


def _ball() -> np.ndarray:
    z, y, x = np.indices((11, 12, 13))
    inside: np.ndarray = ((z - 5) ** 2 + (y - 6) ** 2 + (x - 7) ** 2) <= 16
    return inside.astype(np.uint16)


def _clicks(
    labels: np.ndarray, options: SimulationOptions, spacing: Vector = UNIT
) -> list[dict[int, Vector]]:
    return simulate_clicks(lesion_masks(labels), labels.shape, spacing, options)


@pytest.mark.slow
@given(labelmaps, st.sampled_from(ON_THE_LESION), st.integers(0, 2**40))
def test_clicks_lie_on_their_lesion(labels: np.ndarray, rule: ClickRule, seed: int) -> None:
    options = SimulationOptions(rule, draws=3, seed=seed)
    draws = _clicks(labels, options)
    assert draws == _clicks(labels, options)
    assert len(draws) == 3
    for clicks in draws:
        assert list(clicks) == [int(label) for label in np.unique(labels) if label]
        for lesion_id, (z, y, x) in clicks.items():
            assert labels[int(z), int(y), int(x)] == lesion_id


@pytest.mark.slow
@given(labelmaps, st.sampled_from(ClickRule), st.integers(1, 4))
def test_further_draws_and_lesions_do_not_change_the_others(
    labels: np.ndarray, rule: ClickRule, perturbation: int
) -> None:
    few = _clicks(labels, SimulationOptions(rule, 2, 5, perturbation))
    many = _clicks(labels, SimulationOptions(rule, 4, 5, perturbation))
    assert many[:2] == few
    alone = _clicks(np.where(labels == 3, labels, 0), SimulationOptions(rule, 2, 5, perturbation))
    assert alone == [{key: value for key, value in clicks.items() if key == 3} for clicks in few]


def test_clicks_at_the_centre_of_gravity_are_fractional() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 0] = labels[1, 1, 1] = labels[1, 1, 3] = 9
    (clicks,) = _clicks(labels, SimulationOptions(ClickRule.CENTRE))
    assert clicks[9] == pytest.approx((1, 1, 4 / 3))


def test_clicks_at_the_deepest_voxel() -> None:
    (clicks,) = _clicks(_ball(), SimulationOptions(ClickRule.DEEPEST))
    assert clicks == {1: (5, 6, 7)}
    mask = _ball() == 1
    assert clicks[1] == deepest_point(mask, Box.of_shape(mask.shape), UNIT)


def test_clicks_at_the_border() -> None:
    labels = _ball()
    for clicks in _clicks(labels, SimulationOptions(ClickRule.BORDER, draws=40)):
        z, y, x = (int(value) for value in clicks[1])
        cross = [
            labels[z - 1, y, x],
            labels[z + 1, y, x],
            labels[z, y - 1, x],
            labels[z, y + 1, x],
            labels[z, y, x - 1],
            labels[z, y, x + 1],
        ]
        assert labels[z, y, x] and not all(cross)


def test_clicks_by_the_rule_of_the_challenge() -> None:
    """The first click is the deepest voxel, further ones lie at the border."""
    first, *others = _clicks(_ball(), SimulationOptions(ClickRule.CHALLENGE, draws=6))
    assert first == {1: (5, 6, 7)}
    assert all(np.linalg.norm(np.subtract(clicks[1], (5, 6, 7))) > 3 for clicks in others)
    assert len({clicks[1] for clicks in others}) > 1


def test_weighted_clicks_prefer_deep_voxels() -> None:
    def mean_distance(rule: ClickRule) -> float:
        draws = _clicks(_ball(), SimulationOptions(rule, draws=300))
        return float(np.mean([np.linalg.norm(np.subtract(clicks[1], (5, 6, 7))) for clicks in draws]))

    assert mean_distance(ClickRule.WEIGHTED) < mean_distance(ClickRule.UNIFORM) - 0.3


def test_perturbed_clicks_stay_near_and_in_the_image() -> None:
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[0, 4, 4] = 1
    draws = _clicks(labels, SimulationOptions(ClickRule.DEEPEST, draws=300, perturbation=2))
    points = np.asarray([clicks[1] for clicks in draws])
    assert points.min(axis=0).tolist() == [0, 2, 2] and points.max(axis=0).tolist() == [2, 6, 6]
    assert np.bincount(points[:, 1].astype(int), minlength=7)[2:] == pytest.approx([60] * 5, abs=30)


@given(
    st.tuples(*[st.integers(0, 30)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(0, 6),
    st.integers(0, 99),
)
def test_simulated_boxes_hold_their_lesion(
    start: tuple[int, int, int], extent: tuple[int, int, int], perturbation: int, seed: int
) -> None:
    tight = Box.of_shape(extent, start)
    shape = (40, 39, 41)
    options = SimulationOptions(draws=3, seed=seed, perturbation=perturbation)
    draws = simulate_boxes([(8, tight)], shape, options)
    assert draws == simulate_boxes([(8, tight)], shape, options)
    for drawn in draws:
        box = drawn[8]
        assert box.intersection(tight) == tight and box.intersection(Box.of_shape(shape)) == box
        for axis in range(3):
            assert tight.start_zyx[axis] - box.start_zyx[axis] <= perturbation
            assert box.stop_zyx[axis] - tight.stop_zyx[axis] <= perturbation


def test_an_enlarged_box_is_clipped_to_the_image() -> None:
    box = enlarge_box(Box((1, 5, 5), (3, 6, 7)), (2, 2, 2), (3, 3, 3), (5, 20, 8))
    assert box == Box((0, 3, 3), (5, 9, 8))


def test_without_lesions_every_draw_is_empty() -> None:
    options = SimulationOptions(draws=2)
    assert simulate_clicks([], (3, 3, 3), UNIT, options) == [{}, {}]
    assert simulate_boxes([], (3, 3, 3), options) == [{}, {}]


def test_clicks_are_on_the_grid_of_the_image() -> None:
    lesion = MaskPrompt(Box((10, 20, 30), (11, 21, 31)), np.ones((1, 1, 1), bool))
    for rule in ClickRule:
        (clicks,) = simulate_clicks([(1, lesion)], (50, 50, 50), UNIT, SimulationOptions(rule))
        assert clicks == {1: (10, 20, 30)}
