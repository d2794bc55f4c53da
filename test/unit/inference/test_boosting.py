"""Asking more than once: what is asked, what is made of the answers, and what failures cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from model.case.case import LesionPrompt, LesionResult, PointSource, PromptPoint, Scan
from model.case.geometry import AxisMap, Box, Geometry, Vector
from model.errors import InputError, MemoryExhaustedError
from model.inference.boost_views import TURNS, TurnedScans, moved_prompt, perturbed_points, turned_scan
from model.inference.boosting import BoostedSegmenter, Boosting, BoostOptions
from model.inference.combine import agreement
from model.inference.segmenter import LesionFailure
from model.network.encoding import encode_lesion
from model.network.plan import read_plan
from test.helpers.paths import GOLDEN_MODEL

from ...helpers.tracking_phantoms import (
    SHAPE,
    SPACING_ZYX,
    Fake,
    answer,
    cuboid,
    mask_prompt,
    prompt,
    scan,
    volume_of,
    with_place,
)

EMPTY = np.zeros(SHAPE, np.float32)
# A lesion of which a point at its rim finds a part only.
WHOLE = cuboid((2, 9), (4, 15), (4, 19))
PART = cuboid((2, 7), (4, 11), (4, 11), value=0.8)
PART_MIDDLE = (4.0, 7.0, 7.0)  # the voxel deepest inside the part
RIM = (2.0, 4.0, 4.0)
TWO_ROUNDS = (Boosting.REPROMPT, Boosting.ADDITIVE, Boosting.MERGED)
ONE_ROUND = (Boosting.PERTURBED, Boosting.CLICKS, Boosting.ROTATED)


def _by_point(asked: LesionPrompt) -> np.ndarray:
    return PART if asked.followup_point.point_zyx == RIM else WHOLE


def _boosted(fake: Fake, method: Boosting, **options: object) -> BoostedSegmenter:
    return BoostedSegmenter(fake, BoostOptions(method, **options))  # type: ignore[arg-type]


def _only(segmenter: BoostedSegmenter, asked: LesionPrompt) -> LesionResult:
    (found,) = segmenter.segment([asked])
    assert isinstance(found, LesionResult) and found.prompt is asked
    return found


def test_none_is_the_segmenter_itself() -> None:
    fake, asked = Fake(_by_point), prompt(RIM)
    boosted = _boosted(fake, Boosting.NONE)
    np.testing.assert_array_equal(volume_of(_only(boosted, asked)), PART)
    assert fake.batches[0][0] is asked and len(fake.batches) == 1
    assert boosted.agreement(asked) is None


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_no_prompts_no_answers(method: Boosting) -> None:
    assert list(_boosted(Fake(_by_point), method).segment([])) == []


# --- two rounds


def test_reprompt_asks_all_lesions_again_in_one_batch_and_the_second_answer_counts() -> None:
    fake = Fake(_by_point)
    asked = [prompt(RIM, lesion_id) for lesion_id in (3, 65_535)]
    boosted = _boosted(fake, Boosting.REPROMPT)
    found = list(boosted.segment(asked))
    assert [len(batch) for batch in fake.batches] == [2, 2]
    assert {again.followup_point.point_zyx for again in fake.batches[1]} == {PART_MIDDLE}
    assert {again.followup_point.source for again in fake.batches[1]} == {PointSource.PROPAGATED}
    assert {id(result.prompt) for result in found} == {id(one) for one in asked}
    for result in found:
        assert isinstance(result, LesionResult)
        np.testing.assert_array_equal(volume_of(result), WHOLE)
    dice = 2 * (PART > 0).sum() / ((PART > 0).sum() + (WHOLE > 0).sum())
    assert boosted.agreement(asked[1]) == pytest.approx(dice)


def test_reprompt_starts_from_the_piece_at_the_point() -> None:
    far = cuboid((0, 12), (16, 20), (0, 24))  # larger, and its middle is deeper
    fake = Fake(lambda asked: PART + far)
    _only(_boosted(fake, Boosting.REPROMPT), prompt(RIM))
    assert fake.batches[1][0].followup_point.point_zyx == PART_MIDDLE


def test_the_middle_of_a_ring_is_on_the_ring() -> None:
    ring = cuboid((5, 6), (2, 18), (2, 22)) - cuboid((5, 6), (5, 15), (8, 16))
    fake = Fake(lambda asked: ring)
    _only(_boosted(fake, Boosting.REPROMPT), prompt((5.0, 10.0, 12.0)))
    z, y, x = (int(value) for value in fake.batches[1][0].followup_point.point_zyx)
    assert ring[z, y, x] > 0


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_an_empty_first_answer_stays(method: Boosting) -> None:
    fake = Fake(lambda asked: EMPTY)
    assert not _only(_boosted(fake, method), prompt(RIM)).mask.any()
    assert len(fake.batches) == 1


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_an_empty_second_answer_falls_back_to_the_first(method: Boosting) -> None:
    fake = Fake(lambda asked: PART if asked.followup_point.point_zyx == RIM else EMPTY)
    boosted, asked = _boosted(fake, method), prompt(RIM)
    np.testing.assert_array_equal(volume_of(_only(boosted, asked)), PART)
    assert boosted.agreement(asked) == 0.0


def test_a_first_answer_out_of_reach_is_not_asked_again() -> None:
    fake = Fake(lambda asked: WHOLE)
    asked = prompt((11.0, 19.0, 23.0))
    np.testing.assert_array_equal(
        volume_of(_only(_boosted(fake, Boosting.REPROMPT, limit_mm=2.0), asked)), WHOLE
    )
    assert len(fake.batches) == 1


def test_nothing_is_asked_twice_when_the_point_is_the_middle_already() -> None:
    fake = Fake(lambda asked: PART)
    boosted, asked = _boosted(fake, Boosting.REPROMPT), prompt(PART_MIDDLE)
    _only(boosted, asked)
    assert len(fake.batches) == 1 and boosted.agreement(asked) is None


def test_a_box_and_a_mask_are_replaced_by_those_of_the_first_answer() -> None:
    fake = Fake(_by_point)
    _only(_boosted(fake, Boosting.REPROMPT), with_place(prompt(RIM), cuboid((0, 2), (0, 2), (0, 2))))
    again = fake.batches[1][0]
    assert again.followup_box == Box((2, 4, 4), (7, 11, 11))
    assert again.followup_mask is not None and again.followup_mask.box == again.followup_box
    assert again.followup_mask.voxels.all()


def test_additive_holds_the_voxels_of_both_with_the_higher_probability() -> None:
    other = cuboid((4, 12), (7, 20), (7, 24), value=0.7)
    fake = Fake(lambda asked: PART if asked.followup_point.point_zyx == RIM else other)
    found = _only(_boosted(fake, Boosting.ADDITIVE), prompt(RIM))
    np.testing.assert_array_equal(volume_of(found), np.maximum(PART, other))
    assert found.box == Box((2, 4, 4), (12, 20, 24))


def test_merged_probabilities_are_the_mean_also_of_what_is_below_one_half() -> None:
    first = np.where(PART > 0, PART, np.float32(0.125))
    second = np.where(PART > 0, np.float32(0.4), np.float32(0.125))
    second[WHOLE > 0] = np.where(PART > 0, 0.4, 0.9)[WHOLE > 0]
    fake = Fake(lambda asked: first if asked.followup_point.point_zyx == RIM else second, keep_support=True)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.MERGED), keep_support=True)
    found = _only(boosted, prompt(RIM))
    np.testing.assert_allclose(volume_of(found, soft=True), (first + second) / 2, atol=1e-6)
    np.testing.assert_array_equal(volume_of(found) > 0.5, (first + second) / 2 > 0.5)
    # 0.9 and 0.125 make a voxel of the lesion; with nothing instead of the 0.125 they would not.
    assert (volume_of(found) > 0.5)[8, 14, 18]


def test_without_a_support_what_lies_outside_of_the_box_counts_as_nothing() -> None:
    second = cuboid((2, 9), (4, 15), (4, 19), value=0.9)
    fake = Fake(lambda asked: PART if asked.followup_point.point_zyx == RIM else second)
    found = _only(_boosted(fake, Boosting.MERGED), prompt(RIM))
    np.testing.assert_allclose(volume_of(found), np.where(PART > 0, 0.85, 0).astype(np.float32))
    assert found.support is None


def test_a_scan_asked_about_itself_moves_both_points() -> None:
    alone = scan()
    point = PromptPoint(RIM, PointSource.GIVEN)
    fake = Fake(_by_point)
    _only(_boosted(fake, Boosting.REPROMPT), LesionPrompt(1, alone, point, alone, point, has_mask=False))
    again = fake.batches[1][0]
    assert again.baseline_point.point_zyx == again.followup_point.point_zyx == PART_MIDDLE
    fake = Fake(_by_point)
    _only(_boosted(fake, Boosting.REPROMPT), prompt(RIM))
    assert fake.batches[1][0].baseline_point.point_zyx == (3.0, 4.0, 5.0)


# --- perturbed points


def _distances_mm(points: Sequence[Vector], centre: Vector) -> np.ndarray:
    return np.linalg.norm((np.asarray(points) - centre) * SPACING_ZYX, axis=1)


def test_perturbed_points_fill_the_ball() -> None:
    big = scan(np.zeros((40, 60, 80), np.int16))
    centre = (20.25, 30.0, 40.0)
    points = perturbed_points(prompt(centre, followup=big), 4000, 5.0, seed=0)
    distances = _distances_mm(points, centre)
    assert distances.max() <= 5.0
    # Uniform by volume: the share within a radius is its cube.
    assert np.mean(distances < 2.5) == pytest.approx(1 / 8, abs=0.02)
    assert np.abs((np.asarray(points) - centre).mean(axis=0) * SPACING_ZYX).max() < 0.15


def test_perturbed_points_depend_on_the_seed_and_the_lesion_alone() -> None:
    one, again = prompt(RIM, 7), prompt(RIM, 7)
    assert perturbed_points(one, 3, 5.0, 1) == perturbed_points(again, 3, 5.0, 1)
    assert perturbed_points(one, 3, 5.0, 1) != perturbed_points(one, 3, 5.0, 2)
    assert perturbed_points(one, 3, 5.0, 1) != perturbed_points(prompt(RIM, 8), 3, 5.0, 1)


@pytest.mark.parametrize("point", [(0.0, 0.0, 0.0), (11.0, 19.0, 23.0)])
def test_perturbed_points_stay_inside_of_the_image(point: Vector) -> None:
    points = np.asarray(perturbed_points(prompt(point), 50, 5.0, 0))
    assert len(points) == 50 and (points >= 0).all() and (points <= np.asarray(SHAPE) - 1).all()
    assert _distances_mm([*points], point).max() <= 5.0
    flat = scan(np.zeros((1, 20, 24), np.int16))
    assert {p[0] for p in perturbed_points(prompt((0.0, 5.0, 5.0), followup=flat), 4, 5.0, 0)} == {0.0}


def test_perturbed_asks_once_and_averages() -> None:
    values = {RIM: 0.9}

    def volume(asked: LesionPrompt) -> np.ndarray:
        value = values.setdefault(asked.followup_point.point_zyx, 0.2 + 0.25 * len(values))
        return cuboid((2, 7), (4, 11), (4, 11), value=value)

    fake = Fake(volume, keep_support=True)
    boosted, asked = _boosted(fake, Boosting.PERTURBED), prompt(RIM)
    found = _only(boosted, asked)
    assert [len(batch) for batch in fake.batches] == [3]
    mean = np.mean([0.9, 0.45, 0.7])
    np.testing.assert_allclose(volume_of(found), cuboid((2, 7), (4, 11), (4, 11), value=mean), rtol=1e-6)
    # Two of the three are full and agree; one is empty.
    assert boosted.agreement(asked) == pytest.approx(1 / 3)
    assert found.support is None


def test_perturbing_shifts_the_box_and_the_mask_along() -> None:
    place = cuboid((4, 8), (6, 12), (0, 5))
    asked = with_place(prompt((5.0, 8.0, 3.0)), place)
    moved = moved_prompt(asked, (6.4, 7.5, 1.0))  # by +1, 0, -2 voxels
    assert moved.followup_box == Box((5, 6, 0), (9, 12, 3))
    assert moved.followup_mask is not None
    assert moved.followup_mask.box == moved.followup_box and moved.followup_mask.voxels.shape == (4, 6, 3)
    assert asked.followup_box == Box((4, 6, 0), (8, 12, 5))
    gone = moved_prompt(asked, (5.0, 8.0, -30.0))
    assert gone.followup_box == asked.followup_box and gone.followup_mask is asked.followup_mask


# --- click majority


def _votes(volumes: dict[Vector, np.ndarray]) -> Fake:
    return Fake(lambda asked: volumes[asked.followup_point.point_zyx])


A, B, C = (
    cuboid((2, 6), (2, 6), (2, 6), value=0.9),
    cuboid((2, 6), (2, 6), (4, 9), value=0.6),
    cuboid((4, 6), (2, 6), (4, 9), value=0.8),
)
SECOND, THIRD = (4.0, 4.0, 5.0), (5.0, 3.0, 7.0)


def test_click_majority_is_strict() -> None:
    fake = _votes({RIM: A, SECOND: B, THIRD: C})
    asked = prompt(RIM)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: [SECOND, THIRD]})
    found = _only(boosted, asked)
    votes = (A > 0).astype(int) + (B > 0) + (C > 0)
    np.testing.assert_array_equal(volume_of(found) > 0.5, votes >= 2)
    assert volume_of(found)[4, 3, 4] == pytest.approx((0.9 + 0.6 + 0.8) / 3)
    assert volume_of(found)[2, 3, 4] == pytest.approx((0.9 + 0.6) / 2)
    assert volume_of(found)[4, 3, 8] == pytest.approx((0.6 + 0.8) / 2)
    expected = np.mean([_dice(A, B), _dice(A, C), _dice(B, C)])
    assert boosted.agreement(asked) == pytest.approx(expected)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * ((one > 0) & (other > 0)).sum() / ((one > 0).sum() + (other > 0).sum())


def test_one_of_two_is_no_majority() -> None:
    fake = _votes({RIM: A, SECOND: B})
    found = _only(BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: [SECOND]}), prompt(RIM))
    np.testing.assert_array_equal(volume_of(found) > 0.5, (A > 0) & (B > 0))


def test_the_least_probability_above_one_half_is_a_vote() -> None:
    least = float(np.nextafter(np.float32(0.5), np.float32(1)))
    fake = _votes({p: cuboid((2, 6), (2, 6), (2, 6), value=least) for p in (RIM, SECOND, THIRD)})
    found = _only(BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: [SECOND, THIRD]}), prompt(RIM))
    np.testing.assert_array_equal(volume_of(found) > 0.5, A > 0)


def test_points_outside_or_given_twice_have_no_vote() -> None:
    fake = _votes({RIM: A, SECOND: B})
    points = [SECOND, RIM, SECOND, (-2.0, 0.0, 0.0), (float("nan"), 0.0, 0.0)]
    _only(BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: points}), prompt(RIM))
    assert sorted(one.followup_point.point_zyx for one in fake.batches[0]) == sorted([RIM, SECOND])


def test_lesions_without_further_points_get_perturbed_ones() -> None:
    fake = Fake(lambda asked: A)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS, count=4), {2: [SECOND]})
    assert len(list(boosted.segment([prompt(RIM, 1), prompt(RIM, 2)]))) == 2
    assert [sum(one.lesion_id == i for one in fake.batches[0]) for i in (1, 2)] == [5, 2]


# --- rotated


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turn_is_a_rotation_in_the_axial_plane(degrees: int) -> None:
    volume = np.random.default_rng(0).random((3, 4, 5))
    turned = TURNS[degrees].array(volume)
    np.testing.assert_array_equal(turned, np.rot90(volume, degrees // 90, axes=(2, 1)))


def _oblique(signs: tuple[int, int, int], degrees: float) -> tuple[float, ...]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(signs)
    return tuple(float(value) for value in matrix.ravel())


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_a_turned_scan_keeps_axial_axes_and_the_place_of_two_scans_to_each_other(
    signs: tuple[int, int, int], degrees: int
) -> None:
    one, other = scan(direction=_oblique(signs, 4.0)), scan(direction=_oblique((1, 1, 1), -3.0))
    turn = TURNS[degrees]
    ours, theirs = turned_scan(one, turn), turned_scan(other, turn)
    assert ours.ct.shape == ours.geometry.shape_zyx == turn.triple(SHAPE)
    assert ours.geometry.axial_map().is_identity
    assert np.abs(np.diag(np.reshape(ours.geometry.direction, (3, 3)))).min() > 0.9
    corners = [(0.0, 0.0, 0.0), (3.0, 5.0, 7.0)]
    before = np.subtract(one.geometry.zyx_to_world(corners[1]), other.geometry.zyx_to_world(corners[1]))
    places = [turn.point(corners[1], SHAPE) for _ in range(2)]
    after = np.subtract(ours.geometry.zyx_to_world(places[0]), theirs.geometry.zyx_to_world(places[1]))
    # Lengths stay, and so does the part along z; the rest has turned.
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before))
    assert after[2] == pytest.approx(before[2])


PLAN = read_plan(GOLDEN_MODEL / "plans.json")


def _noise(shape: tuple[int, int, int], direction: Sequence[float], seed: int, name: str) -> Scan:
    rng = np.random.default_rng(seed)
    made = scan(rng.normal(0, 300, shape).astype(np.int16), (2.0, 1.0, 1.0), direction, name)
    return replace(made, mask=(rng.random(shape) < 0.3).astype(np.uint8))


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (3.0, -3.0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, 1), (-1, 1, -1)])
def test_the_network_sees_both_scans_turned_alike(
    signs: tuple[int, int, int], tilt: tuple[float, float]
) -> None:
    """A baseline stored with other axis signs than its follow-up, both perhaps a little oblique."""
    plan = replace(PLAN, patch_size_zyx=(9, 15, 15), spacing_zyx=(2.0, 1.0, 1.0))
    followup = _noise((11, 40, 36), _oblique((1, 1, 1), tilt[0]), 1, "followup")
    baseline = _noise((12, 38, 42), _oblique(signs, tilt[1]), 2, "baseline")
    asked = replace(
        prompt((5.0, 21.0, 17.0), 1, followup, baseline),
        baseline_point=PromptPoint((6.0, 16.0, 22.0), PointSource.GIVEN),
    )
    straight = encode_lesion(asked, plan).channels
    for degrees, turn in TURNS.items():
        turned = encode_lesion(TurnedScans().prompt(asked, degrees), plan).channels
        back = np.stack([turn.inverse().array(channel) for channel in turned])
        np.testing.assert_allclose(back, straight, atol=1e-5)


def _bright(asked: LesionPrompt) -> np.ndarray:
    """A segmenter that no turn confuses: what is as bright as at the point, in both scans."""
    index = tuple(int(value) for value in asked.followup_point.point_zyx)
    value = asked.followup.ct[index]
    return np.where(asked.followup.ct == value, np.float32(0.8), np.float32(0.1))


def test_rotated_answers_come_back_to_their_grid() -> None:
    ct = np.zeros(SHAPE, np.int16)
    ct[cuboid((2, 5), (3, 9), (15, 23)) > 0] = 70
    fake = Fake(_bright, keep_support=True)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.ROTATED), keep_support=True)
    asked = prompt((3.0, 4.0, 21.0), followup=scan(ct))
    found = _only(boosted, asked)
    np.testing.assert_allclose(volume_of(found, soft=True), np.where(ct > 0, 0.8, 0.1), rtol=1e-6)
    assert found.box == Box((2, 3, 15), (5, 9, 23)) and boosted.agreement(asked) == 1.0
    (batch,) = fake.batches
    assert [one.followup.ct.shape for one in batch] == [(12, 20, 24), (12, 24, 20)] * 2
    assert all(one.followup.ct[tuple(int(p) for p in one.followup_point.point_zyx)] == 70 for one in batch)
    assert all(one.baseline.geometry.shape_zyx == one.followup.geometry.shape_zyx for one in batch)


def test_rotated_is_the_mean_over_the_views() -> None:
    shapes: list[tuple[int, ...]] = []

    def volume(asked: LesionPrompt) -> np.ndarray:
        shapes.append(asked.followup.ct.shape)
        return cuboid((2, 5), (0, 3), (0, 4), shape=shapes[-1], value=0.9)  # a corner, another one each time

    found = _only(_boosted(Fake(volume), Boosting.ROTATED, turns=(180,)), prompt((3.0, 1.0, 1.0)))
    assert len(shapes) == 2 and not found.mask.any()  # 0.45 in each corner


def test_boxes_and_masks_turn_along() -> None:
    place = cuboid((4, 8), (6, 12), (0, 5))
    place[4, 6, 0] = 0
    asked = with_place(prompt((5.0, 8.0, 3.0)), place)
    for degrees, turn in TURNS.items():
        turned = TurnedScans().prompt(asked, degrees)
        assert turned.followup_box == mask_prompt(turn.array(place)).box
        assert turned.followup_mask is not None
        np.testing.assert_array_equal(turned.followup_mask.voxels, mask_prompt(turn.array(place)).voxels)


def test_scans_are_turned_once_for_all_lesions() -> None:
    after, before = scan(), scan(name="baseline")
    fake = Fake(lambda asked: np.zeros(asked.followup.ct.shape, np.float32))
    boosted = _boosted(fake, Boosting.ROTATED)
    list(boosted.segment([prompt(RIM, i, after, before) for i in (1, 2, 3)]))
    assert len(fake.batches[0]) == 12
    assert len({id(one.followup) for one in fake.batches[0]}) == 4


def test_scans_whose_files_have_their_axes_in_another_order() -> None:
    axes = AxisMap((2, 0, 1), (False, True, False))
    stored = np.random.default_rng(1).integers(0, 5, axes.inverse().triple(SHAPE)).astype(np.int16)
    z, y, x = stored.shape
    file_geometry = Geometry((x, y, z), (0.5, 3.0, 1.0), (1.0, 2.0, 3.0), (0, 0, 1, 1, 0, 0, 0, 1, 0))
    odd = replace(scan(), file_geometry=file_geometry, axes=axes, ct=axes.array(stored))
    for turn in TURNS.values():
        turned = turned_scan(odd, turn)
        np.testing.assert_array_equal(turned.ct, turned.axes.array(stored))
        assert turned.geometry.shape_zyx == turned.ct.shape


# --- when things go wrong


def _failing(is_failing: object) -> Fake:
    def volume(asked: LesionPrompt) -> np.ndarray:
        if is_failing(asked):  # type: ignore[operator]
            raise ValueError("no luck")
        return np.full(asked.followup.ct.shape, 0.75, np.float32)

    return Fake(volume)


def _is_first(asked: LesionPrompt) -> bool:
    return asked.followup_point.point_zyx == RIM and asked.followup.ct.shape == SHAPE


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_a_further_view_that_fails_is_left_out(method: Boosting, caplog: pytest.LogCaptureFixture) -> None:
    fake = _failing(lambda asked: not _is_first(asked))
    boosted = (
        _boosted(fake, method) if method is not Boosting.ROTATED else _boosted(fake, method, turns=(90,))
    )
    asked = prompt(RIM)
    found = _only(boosted, asked)
    np.testing.assert_allclose(volume_of(found), 0.75)
    assert boosted.agreement(asked) is None
    assert "further view failed" in caplog.text and "no luck" in caplog.text


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_a_first_view_that_fails_is_the_answer(method: Boosting) -> None:
    asked = [prompt(RIM, 1), prompt((3.0, 3.0, 3.0), 2)]
    fake = _failing(lambda one: one.lesion_id == 1 and _is_first(one))
    found = {answer.prompt.lesion_id: answer for answer in _boosted(fake, method).segment(asked)}
    failure = found[1]
    assert isinstance(failure, LesionFailure) and failure.prompt is asked[0]
    assert str(failure.error) == "no luck"
    assert isinstance(found[2], LesionResult) and found[2].prompt is asked[1]


class _Broken:
    """Answers so many prompts of a batch, then raises, or just ends."""

    def __init__(self, batches: Sequence[int], error: Exception | None) -> None:
        self._batches = list(batches)
        self._error = error

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        for asked in prompts[: self._batches.pop(0)]:
            yield answer(asked, WHOLE)
        if self._error is not None:
            raise self._error


def _answers(method: Boosting, inner: _Broken, count: int) -> tuple[list[LesionResult | LesionFailure], bool]:
    boosted, found, has_raised = BoostedSegmenter(inner, BoostOptions(method)), [], False
    asked = [prompt(RIM, lesion_id) for lesion_id in range(1, count + 1)]
    try:
        for one in boosted.segment(asked):
            found.append(one)
    except MemoryExhaustedError:
        has_raised = True
    assert {id(one.prompt) for one in found} <= {id(one) for one in asked}
    assert len({id(one.prompt) for one in found}) == len(found)
    return found, has_raised


OUT_OF_MEMORY = MemoryExhaustedError("out of memory")


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_an_error_in_the_second_round_costs_no_lesion(method: Boosting) -> None:
    class Second(_Broken):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            self._error = OUT_OF_MEMORY if len(self._batches) == 1 else None
            return super().segment(prompts)

    found, has_raised = _answers(method, Second([3, 1], None), 3)
    assert len(found) == 3 and not has_raised
    assert all(isinstance(one, LesionResult) and one.mask.any() for one in found)


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_an_error_in_the_first_round_is_raised_after_what_is_answered(method: Boosting) -> None:
    found, has_raised = _answers(method, _Broken([2], OUT_OF_MEMORY), 3)
    assert len(found) == 2 and has_raised


def test_an_error_in_the_only_round_is_raised_when_it_costs_a_lesion() -> None:
    found, has_raised = _answers(Boosting.PERTURBED, _Broken([4], OUT_OF_MEMORY), 3)  # 3 + 1 of 9 views
    assert [one.prompt.lesion_id for one in found] == [1, 2] and has_raised
    found, has_raised = _answers(Boosting.PERTURBED, _Broken([7], OUT_OF_MEMORY), 3)
    assert len(found) == 3 and not has_raised


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_a_segmenter_that_forgets_prompts(method: Boosting) -> None:
    found, _ = _answers(method, _Broken([1, 0], None), 2)
    kinds = {one.prompt.lesion_id: type(one) for one in found}
    assert kinds == {1: LesionResult, 2: LesionFailure}
    (failure,) = [one for one in found if isinstance(one, LesionFailure)]
    assert str(failure.error) == "the segmenter gave no answer"


def test_answers_nobody_asked_for_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    class Chatty(Fake):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            for asked in prompts:
                yield answer(replace(asked), EMPTY)
                yield answer(asked, WHOLE)
                yield answer(asked, EMPTY)

    found = _only(BoostedSegmenter(Chatty(_by_point), BoostOptions(Boosting.PERTURBED)), prompt(RIM))
    np.testing.assert_allclose(volume_of(found), WHOLE)
    assert caplog.text.count("was ignored") == 6


def test_views_that_cannot_be_joined_leave_the_first(caplog: pytest.LogCaptureFixture) -> None:
    class Crooked(Fake):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            for asked in prompts:
                whole = answer(asked, WHOLE)
                is_first = asked.followup_point.point_zyx == RIM
                yield whole if is_first else replace(whole, box=Box.of_shape((3, 3, 3)))

    with caplog.at_level(logging.ERROR):
        found = _only(BoostedSegmenter(Crooked(_by_point), BoostOptions(Boosting.PERTURBED)), prompt(RIM))
    np.testing.assert_allclose(volume_of(found), WHOLE)
    assert "could not be joined" in caplog.text


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_one_odd_first_answer_does_not_end_the_round(method: Boosting) -> None:
    class Odd(Fake):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            for asked in prompts:
                part = answer(asked, _by_point(asked))
                yield replace(part, probability=part.probability[0]) if asked.lesion_id == 1 else part

    boosted = BoostedSegmenter(Odd(_by_point), BoostOptions(method))
    found = {one.prompt.lesion_id: one for one in boosted.segment([prompt(RIM, 1), prompt(RIM, 2)])}
    assert found.keys() == {1, 2}
    assert isinstance(found[2], LesionResult) and found[2].mask.any()


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_one_prompt_given_twice_and_one_lesion_in_two_scans(method: Boosting) -> None:
    one = prompt(RIM, 5)
    other = prompt(RIM, 5, scan(name="secondary"))
    fake = Fake(lambda asked: cuboid((2, 9), (4, 15), (4, 19), shape=asked.followup.ct.shape))
    found = list(_boosted(fake, method).segment([one, one, other]))
    assert sorted(id(answer.prompt) for answer in found) == sorted([id(one), id(one), id(other)])


# --- agreement and options


def test_agreement_of_empty_answers() -> None:
    asked = prompt(RIM)
    empty, whole = answer(asked, EMPTY), answer(asked, WHOLE)
    assert agreement([empty, empty]) == 1.0
    assert agreement([empty, whole]) == 0.0
    assert agreement([whole, whole, empty]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="two answers"):
        agreement([whole])


@pytest.mark.parametrize(
    "wrong",
    [
        {"perturbation_mm": 5.1},
        {"perturbation_mm": 0.0},
        {"perturbation_mm": float("nan")},
        {"count": 0},
        {"seed": -1},
        {"turns": ()},
        {"turns": (45,)},
        {"turns": (90, 90)},
    ],
)
def test_options_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        BoostOptions(**wrong)  # type: ignore[arg-type]


def test_which_methods_want_a_support() -> None:
    wanting = {method for method in Boosting if BoostOptions(method).uses_support}
    assert wanting == {Boosting.MERGED, Boosting.PERTURBED, Boosting.ROTATED}
    assert {str(method) for method in Boosting} == {
        "none",
        "reprompt",
        "additive",
        "merged-probabilities",
        "perturbed",
        "click-majority",
        "rotated",
    }
