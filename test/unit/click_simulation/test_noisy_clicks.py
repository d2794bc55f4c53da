"""The second scheme of clicks in training: classes, depths, and probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from model.case.tumor_clicks import ClickKind
from model.click_simulation.noisy_clicks import NoisyRules, noisy_clicks
from test.unit.click_simulation.test_challenge_clicks import BoolArray, masks


def _ball(radius: float) -> BoolArray:
    z, y, x = np.indices((31, 31, 31)) - 15
    ball: BoolArray = z**2 + y**2 + x**2 <= radius**2
    return ball


@pytest.mark.slow
@given(masks, st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_clicks_stay_in_their_class(lesions: BoolArray, seed: int, offset: int) -> None:
    pet = np.random.default_rng(seed).normal(size=lesions.shape)
    clicks = noisy_clicks(lesions, pet, NoisyRules(6, 4, offset), np.random.default_rng(seed))
    inside = [lesions[tuple(int(i) for i in click.point_zyx)] for click in clicks]
    assert inside == [click.kind is ClickKind.TUMOR for click in clicks]
    assert sum(inside) == 6 * lesions.any() and len(clicks) - sum(inside) in (0, 4)


def test_the_first_click_of_a_lesion_is_deeper_than_those_near_its_border() -> None:
    lesions, rng = _ball(10), np.random.default_rng(0)
    depth = ndimage.distance_transform_edt(lesions)
    drawn = np.asarray(
        [
            [
                depth[tuple(int(i) for i in click.point_zyx)]
                for click in noisy_clicks(lesions, depth * 0, NoisyRules(3, 0, 0), rng)
            ]
            for _ in range(20)
        ]
    )
    assert drawn[:, 1:].max() < 3 < np.median(drawn[:, 0])
    assert len(np.unique(drawn[:, 0])) > 1  # noise moves it


def test_background_is_clicked_in_proportion_to_its_uptake() -> None:
    pet = np.zeros((1, 1, 1000), np.float32)
    pet[..., 100], pet[..., 200], pet[..., 300] = 1, 3, np.nan
    nothing = np.zeros(pet.shape, bool)
    clicks = noisy_clicks(nothing, pet, NoisyRules(5, 4000), np.random.default_rng(1))
    places = [int(click.point_zyx[2]) for click in clicks]
    assert set(places) == {100, 200}
    assert 0.7 < places.count(200) / 4000 < 0.8


def test_without_uptake_there_is_no_background_click() -> None:
    lesions = _ball(3)
    assert (
        len(noisy_clicks(lesions, -np.ones(lesions.shape), NoisyRules(2, 5), np.random.default_rng(1))) == 2
    )
