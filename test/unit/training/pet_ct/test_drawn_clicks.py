"""Numbers and places of the clicks of a training sample."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.case.tumor_clicks import ClickKind
from model.training.interactive_settings import InteractiveSettings
from model.training.pet_ct.drawn_clicks import CLICK_PROBABILITIES, draw_clicks

from ....helpers.study_phantoms import study

STUDY = study("S", (24, 24, 24))
TUMOR, PET = STUDY.labels > 0, STUDY.pet


def test_few_clicks_are_drawn_more_often_than_many() -> None:
    expected = np.array([log(12 - count) for count in range(11)])
    np.testing.assert_allclose(CLICK_PROBABILITIES, expected / expected.sum())
    assert CLICK_PROBABILITIES[[0, 10]] == pytest.approx([0.124, 0.035], abs=5e-4)
    assert CLICK_PROBABILITIES @ np.arange(11) == pytest.approx(4.1, abs=0.05)


@pytest.mark.slow
def test_both_numbers_follow_the_probabilities_independently() -> None:
    rng, settings = np.random.default_rng(0), InteractiveSettings(noisy_clicks=0.5)
    drawn = [draw_clicks(TUMOR, PET, settings, rng) for _ in range(400)]
    counts = np.array([[len(clicks[kind]) for kind in ClickKind] for clicks in drawn])
    for column in counts.T:
        assert column.min() == 0 and column.max() == 10
        assert column.mean() == pytest.approx(4.1, abs=0.6)
    assert abs(np.corrcoef(counts.T)[0, 1]) < 0.15
    tumour_alone = (counts[:, 0] > 0) & (counts[:, 1] == 0)  # never in the published training
    assert tumour_alone.mean() == pytest.approx((1 - 0.124) * 0.124, abs=0.06)


@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.0, 0.2, 1.0]), offset=st.integers(0, 4))
def test_clicks_lie_in_their_class(seed: int, share: float, offset: int) -> None:
    settings = InteractiveSettings(noisy_clicks=share, click_offset=offset)
    clicks = draw_clicks(TUMOR, PET, settings, np.random.default_rng(seed))
    assert all(TUMOR[voxel] for voxel in clicks[ClickKind.TUMOR])
    assert not any(TUMOR[voxel] for voxel in clicks[ClickKind.BACKGROUND])
    again = draw_clicks(TUMOR, PET, settings, np.random.default_rng(seed))
    assert clicks == again


def test_a_patch_without_tumour_has_background_clicks_alone() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_clicks(np.zeros_like(TUMOR), PET, InteractiveSettings(), rng) for _ in range(20)]
    assert not any(clicks[ClickKind.TUMOR] for clicks in drawn)
    assert any(clicks[ClickKind.BACKGROUND] for clicks in drawn)


@pytest.mark.parametrize("noisy", [0.0, 1.0])
def test_the_hottest_background_is_clicked_even_if_it_is_clipped_to_one_value(noisy: float) -> None:
    pet = np.full(TUMOR.shape, -0.8, np.float32)
    hot = np.zeros_like(TUMOR)
    hot[-6:, :6, :6] = True
    pet[hot] = 5
    settings = InteractiveSettings(noisy_clicks=noisy, click_offset=0)
    drawn = [draw_clicks(TUMOR, pet, settings, np.random.default_rng(seed)) for seed in range(10)]
    voxels = [voxel for clicks in drawn for voxel in clicks[ClickKind.BACKGROUND]]
    assert voxels and all(hot[voxel] for voxel in voxels)


def test_a_fully_labelled_patch_has_tumour_clicks_alone() -> None:
    drawn = [
        draw_clicks(np.ones_like(TUMOR), PET, InteractiveSettings(), np.random.default_rng(seed))
        for seed in range(6)
    ]
    assert not any(clicks[ClickKind.BACKGROUND] for clicks in drawn)
    assert any(clicks[ClickKind.TUMOR] for clicks in drawn)
