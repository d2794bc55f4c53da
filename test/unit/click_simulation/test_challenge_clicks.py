"""The challenge's click simulation: equal to the published script, and by its rule where that deviates."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from model.case.tumor_clicks import ClickKind, TumorClick
from model.click_simulation.challenge_clicks import (
    CHALLENGE_SEED,
    ChallengeRules,
    challenge_clicks,
    first_clicks,
    hot_voxels,
    shifted_click,
)
from model.errors import LongilesionError
from test.helpers.golden_pet_ct import PET_CT, PET_CT_CASES, GoldenPetCt

PUBLISHED = ChallengeRules(published=True)
BoolArray = npt.NDArray[np.bool_]
masks = arrays(np.bool_, st.tuples(*[st.integers(2, 7)] * 3), elements=st.sampled_from([False, False, True]))


def _seeded(seed: int = CHALLENGE_SEED) -> np.random.RandomState:
    return np.random.RandomState(seed)


def _voxels(clicks: tuple[TumorClick, ...], kind: ClickKind) -> list[tuple[int, int, int]]:
    return [
        (int(z), int(y), int(x)) for z, y, x in (click.point_zyx for click in clicks if click.kind is kind)
    ]


def _is_border(mask: BoolArray) -> BoolArray:
    """Voxels that share a face with a voxel of the image outside of the mask."""
    border: BoolArray = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return border


def _blocks() -> tuple[BoolArray, npt.NDArray[np.float32]]:
    """Two lesions; two hot places, of which one is a single row of voxels."""
    lesions, pet = np.zeros((12, 14, 80), bool), np.ones((12, 14, 80), np.float32)
    lesions[2:7, 2:7, 2:7] = lesions[3, 9, 9] = True
    pet[4:7, 4:7, 20:23] = 8
    pet[9, 9, 30:33] = 7
    return lesions, pet


@pytest.mark.parametrize("name", PET_CT_CASES)
def test_the_published_script_is_repeated_click_by_click(name: str) -> None:
    case = GoldenPetCt(name)
    clicks = challenge_clicks(case.truth, case.pet, PUBLISHED, _seeded())
    published = json.loads((PET_CT / "clicks" / f"{name}.json").read_text())
    drawn = {kind: [list(voxel[::-1]) for voxel in _voxels(clicks, kind)] for kind in ClickKind}
    assert drawn == published


def test_only_missing_background_clicks_deviate_from_the_published_script() -> None:
    case = GoldenPetCt("p5_thick_slices_small_z")
    published = challenge_clicks(case.truth, case.pet, PUBLISHED, _seeded())
    mended = challenge_clicks(case.truth, case.pet, ChallengeRules(), _seeded())
    assert mended[:12] == published[:12] and mended != published  # two components of background
    hot = hot_voxels(case.truth, case.pet, 99.75)
    is_hot = [hot[voxel] for voxel in _voxels(published, ClickKind.BACKGROUND)]
    assert not all(is_hot)  # one component is thin
    border = _is_border(hot)
    assert all(border[voxel] for voxel in _voxels(mended, ClickKind.BACKGROUND)[2:])


def test_centres_come_first_then_borders_in_turn() -> None:
    lesions, pet = _blocks()
    clicks = challenge_clicks(lesions, pet, ChallengeRules(), _seeded(0))
    assert [click.kind for click in clicks] == [ClickKind.TUMOR] * 10 + [ClickKind.BACKGROUND] * 10
    tumor, background = (_voxels(clicks, kind) for kind in ClickKind)
    assert set(tumor[:2]) == {(4, 4, 4), (3, 9, 9)}
    assert set(background[:2]) == {(5, 5, 21), (9, 9, 30)}
    for number in range(2, 10):
        assert _is_border(lesions)[tumor[number]]
        is_single = tumor[number] == (3, 9, 9)
        assert is_single == (tumor[number % 2] == (3, 9, 9))  # the two lesions take turns
        assert (background[number][2] >= 30) == (background[number % 2][2] >= 30)


def test_more_lesions_than_clicks_are_drawn_without_repetition() -> None:
    lesions, pet = np.zeros((3, 3, 60), bool), np.zeros((3, 3, 60), np.float32)
    lesions[1, 1, ::4] = True
    pet[1, 1, 2::4] = 5
    rules = ChallengeRules(tumor=7, background=9, percentile=90)
    drawn = [challenge_clicks(lesions, pet, rules, _seeded(seed)) for seed in range(2)]
    for clicks in drawn:
        assert len(set(_voxels(clicks, ClickKind.TUMOR))) == 7
        assert len(set(_voxels(clicks, ClickKind.BACKGROUND))) == 9
    assert drawn[0] != drawn[1]


def test_without_a_component_there_is_no_click_where_the_published_script_never_ends() -> None:
    nothing, flat = np.zeros((4, 5, 6), bool), np.full((4, 5, 6), 2.0, np.float32)
    assert challenge_clicks(nothing, flat, ChallengeRules(), _seeded()) == ()
    with pytest.raises(LongilesionError, match="never ends"):
        challenge_clicks(nothing, flat, PUBLISHED, _seeded())
    inclusive = challenge_clicks(nothing, flat, ChallengeRules(inclusive=True), _seeded())
    assert len(inclusive) == 10


def test_the_published_script_stops_at_a_background_click_inside_of_a_lesion() -> None:
    lesions, pet = np.ones((3, 3, 300), bool), np.zeros((3, 3, 300), np.float32)
    lesions[1, 1, ::2] = False
    pet[1, 1, 10] = 5
    with pytest.raises(LongilesionError, match="inside of a lesion"):
        challenge_clicks(lesions, pet, PUBLISHED, _seeded())


@pytest.mark.slow
@given(masks, st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_clicks_stay_in_their_class(lesions: BoolArray, seed: int, offset: int) -> None:
    pet = np.random.default_rng(seed).normal(size=lesions.shape)
    rules = ChallengeRules(4, 5, percentile=90, offset_voxels=offset)
    clicks = challenge_clicks(lesions, pet, rules, np.random.default_rng(seed))
    assert clicks == challenge_clicks(lesions, pet, rules, np.random.default_rng(seed))
    tumor, background = (_voxels(clicks, kind) for kind in ClickKind)
    assert len(tumor) == 4 * lesions.any() and all(lesions[voxel] for voxel in tumor)
    hot = hot_voxels(lesions, pet, 90)
    assert len(background) == 5 * hot.any() and not any(lesions[voxel] for voxel in background)
    assert offset or all(hot[voxel] for voxel in background)


def test_voxels_that_are_not_finite_are_neither_counted_nor_clicked() -> None:
    lesions, pet = _blocks()
    pet[:, :, 25:] = np.nan
    hot = hot_voxels(lesions, pet, 99)
    assert hot.any() and not hot[:, :, 25:].any()


def test_a_shift_reaches_its_whole_range_and_never_leaves_the_mask() -> None:
    allowed, rng = np.ones((9, 9, 9), bool), np.random.default_rng(3)
    allowed[:, :, 6] = False
    shifts = np.asarray([shifted_click((4, 1, 4), allowed, 2, rng) for _ in range(400)]) - (4, 1, 4)
    assert shifts.min(0).tolist() == [-2, -1, -2] and shifts.max(0).tolist() == [2, 2, 1]
    alone = np.zeros((9, 9, 9), bool)
    assert shifted_click((4, 4, 4), alone, 3, rng) == (4, 4, 4)


def test_a_step_takes_the_first_clicks_of_each_kind() -> None:
    clicks = challenge_clicks(*_blocks(), ChallengeRules(), _seeded())
    assert first_clicks(clicks[::-1], 0) == ()
    assert first_clicks(clicks, 3) == (*clicks[:3], *clicks[10:13])
    assert first_clicks(clicks[:4], 10) == clicks[:4]
