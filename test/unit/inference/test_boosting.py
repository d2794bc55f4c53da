"""Boosting: prompts of further views, combination of their results, and failures."""

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
from model.inference.boost_options import Boosting, BoostOptions
from model.inference.boost_views import (
    ROTATIONS,
    RotatedScans,
    perturbed_points,
    rotated_scan,
    shifted_prompt,
)
from model.inference.boosting import BoostedSegmenter
from model.inference.combine import pairwise_agreement
from model.inference.segmenter import LesionFailure
from model.network.encoding import encode_lesion
from model.network.plan import read_plan
from test.helpers.paths import GOLDEN_MODEL

from ...helpers.tracking_phantoms import (
    SHAPE,
    SPACING_ZYX,
    FakeSegmenter,
    cuboid,
    make_prompt,
    make_result,
    make_scan,
    mask_prompt,
    volume_of,
    with_shapes,
)

EMPTY = np.zeros(SHAPE, np.float32)
# A lesion, of which a prompt at its rim finds only a part.
WHOLE = cuboid((2, 9), (4, 15), (4, 19))
PART = cuboid((2, 7), (4, 11), (4, 11), value=0.8)
PART_MIDDLE = (4.0, 7.0, 7.0)  # the voxel deepest inside the part
RIM = (2.0, 4.0, 4.0)
TWO_ROUNDS = (Boosting.REPROMPT, Boosting.ADDITIVE, Boosting.MERGED)
ONE_ROUND = (Boosting.PERTURBED, Boosting.CLICKS, Boosting.ROTATED)


def _by_point(prompt: LesionPrompt) -> np.ndarray:
    return PART if prompt.followup_point.point_zyx == RIM else WHOLE


def _boosted(fake: FakeSegmenter, method: Boosting, **options: object) -> BoostedSegmenter:
    return BoostedSegmenter(fake, BoostOptions(method, **options))  # type: ignore[arg-type]


def _only(segmenter: BoostedSegmenter, prompt: LesionPrompt) -> LesionResult:
    (found,) = segmenter.segment([prompt])
    assert isinstance(found, LesionResult) and found.prompt is prompt
    return found


def test_without_boosting_the_inner_segmenter_gets_the_prompts() -> None:
    fake, prompt = FakeSegmenter(_by_point), make_prompt(RIM)
    boosted = _boosted(fake, Boosting.NONE)
    np.testing.assert_array_equal(volume_of(_only(boosted, prompt)), PART)
    assert fake.batches[0][0] is prompt and len(fake.batches) == 1
    assert boosted.agreement(prompt) is None


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_boosting_without_prompts_returns_nothing(method: Boosting) -> None:
    assert list(_boosted(FakeSegmenter(_by_point), method).segment([])) == []


# --- two rounds


def test_reprompt_runs_a_second_batch_and_returns_its_results() -> None:
    fake = FakeSegmenter(_by_point)
    prompts = [make_prompt(RIM, lesion_id) for lesion_id in (3, 65_535)]
    boosted = _boosted(fake, Boosting.REPROMPT)
    found = list(boosted.segment(prompts))
    assert [len(batch) for batch in fake.batches] == [2, 2]
    assert {second.followup_point.point_zyx for second in fake.batches[1]} == {PART_MIDDLE}
    assert {second.followup_point.source for second in fake.batches[1]} == {PointSource.PROPAGATED}
    assert {id(result.prompt) for result in found} == {id(one) for one in prompts}
    for result in found:
        assert isinstance(result, LesionResult)
        np.testing.assert_array_equal(volume_of(result), WHOLE)
    dice = 2 * (PART > 0).sum() / ((PART > 0).sum() + (WHOLE > 0).sum())
    assert boosted.agreement(prompts[1]) == pytest.approx(dice)


def test_reprompt_starts_from_the_component_at_the_point() -> None:
    far = cuboid((0, 12), (16, 20), (0, 24))  # larger, and its middle is deeper
    fake = FakeSegmenter(lambda prompt: PART + far)
    _only(_boosted(fake, Boosting.REPROMPT), make_prompt(RIM))
    assert fake.batches[1][0].followup_point.point_zyx == PART_MIDDLE


def test_reprompt_point_of_a_ring_is_on_the_ring() -> None:
    ring = cuboid((5, 6), (2, 18), (2, 22)) - cuboid((5, 6), (5, 15), (8, 16))
    fake = FakeSegmenter(lambda prompt: ring)
    _only(_boosted(fake, Boosting.REPROMPT), make_prompt((5.0, 10.0, 12.0)))
    z, y, x = (int(value) for value in fake.batches[1][0].followup_point.point_zyx)
    assert ring[z, y, x] > 0


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_empty_first_result_is_not_reprompted(method: Boosting) -> None:
    fake = FakeSegmenter(lambda prompt: EMPTY)
    assert not _only(_boosted(fake, method), make_prompt(RIM)).mask.any()
    assert len(fake.batches) == 1


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_empty_second_result_falls_back_to_the_first(method: Boosting) -> None:
    fake = FakeSegmenter(lambda prompt: PART if prompt.followup_point.point_zyx == RIM else EMPTY)
    boosted, prompt = _boosted(fake, method), make_prompt(RIM)
    np.testing.assert_array_equal(volume_of(_only(boosted, prompt)), PART)
    assert boosted.agreement(prompt) == 0.0


def test_first_result_beyond_the_limit_is_not_reprompted() -> None:
    fake = FakeSegmenter(lambda prompt: WHOLE)
    prompt = make_prompt((11.0, 19.0, 23.0))
    np.testing.assert_array_equal(
        volume_of(_only(_boosted(fake, Boosting.REPROMPT, limit_mm=2.0), prompt)), WHOLE
    )
    assert len(fake.batches) == 1


def test_no_reprompt_if_the_point_is_already_the_deepest() -> None:
    fake = FakeSegmenter(lambda prompt: PART)
    boosted, prompt = _boosted(fake, Boosting.REPROMPT), make_prompt(PART_MIDDLE)
    _only(boosted, prompt)
    assert len(fake.batches) == 1 and boosted.agreement(prompt) is None


def test_reprompt_replaces_box_and_mask_by_those_of_the_first_result() -> None:
    fake = FakeSegmenter(_by_point)
    _only(_boosted(fake, Boosting.REPROMPT), with_shapes(make_prompt(RIM), cuboid((0, 2), (0, 2), (0, 2))))
    second = fake.batches[1][0]
    assert second.followup_box == Box((2, 4, 4), (7, 11, 11))
    assert second.followup_mask is not None and second.followup_mask.box == second.followup_box
    assert second.followup_mask.voxels.all()


def test_additive_is_the_maximum_probability_of_both() -> None:
    other = cuboid((4, 12), (7, 20), (7, 24), value=0.7)
    fake = FakeSegmenter(lambda prompt: PART if prompt.followup_point.point_zyx == RIM else other)
    found = _only(_boosted(fake, Boosting.ADDITIVE), make_prompt(RIM))
    np.testing.assert_array_equal(volume_of(found), np.maximum(PART, other))
    assert found.box == Box((2, 4, 4), (12, 20, 24))


def test_merged_probabilities_average_values_below_one_half_too() -> None:
    first = np.where(PART > 0, PART, np.float32(0.125))
    second = np.where(PART > 0, np.float32(0.4), np.float32(0.125))
    second[WHOLE > 0] = np.where(PART > 0, 0.4, 0.9)[WHOLE > 0]
    fake = FakeSegmenter(
        lambda prompt: first if prompt.followup_point.point_zyx == RIM else second, keep_support=True
    )
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.MERGED), keep_support=True)
    found = _only(boosted, make_prompt(RIM))
    np.testing.assert_allclose(volume_of(found, with_support=True), (first + second) / 2, atol=1e-6)
    np.testing.assert_array_equal(volume_of(found) > 0.5, (first + second) / 2 > 0.5)
    # The mean of 0.9 and 0.125 is lesion; that of 0.9 and 0 would not be.
    assert (volume_of(found) > 0.5)[8, 14, 18]


def test_without_support_probabilities_outside_the_box_count_as_zero() -> None:
    second = cuboid((2, 9), (4, 15), (4, 19), value=0.9)
    fake = FakeSegmenter(lambda prompt: PART if prompt.followup_point.point_zyx == RIM else second)
    found = _only(_boosted(fake, Boosting.MERGED), make_prompt(RIM))
    np.testing.assert_allclose(volume_of(found), np.where(PART > 0, 0.85, 0).astype(np.float32))
    assert found.support is None


def test_reprompt_moves_both_points_if_the_scan_is_its_own_baseline() -> None:
    alone = make_scan()
    point = PromptPoint(RIM, PointSource.GIVEN)
    fake = FakeSegmenter(_by_point)
    _only(_boosted(fake, Boosting.REPROMPT), LesionPrompt(1, alone, point, alone, point, has_mask=False))
    second = fake.batches[1][0]
    assert second.baseline_point.point_zyx == second.followup_point.point_zyx == PART_MIDDLE


@pytest.mark.parametrize("method", [*TWO_ROUNDS, Boosting.PERTURBED, Boosting.CLICKS])
def test_every_further_view_moves_both_points(method: Boosting) -> None:
    mask = np.zeros(SHAPE, np.uint16)
    mask[:7, :9, :11] = 1  # its middle is at (3, 4, 5), the baseline point
    fake = FakeSegmenter(_by_point)
    baseline = replace(make_scan(name="baseline"), mask=mask)
    _only(_boosted(fake, method, perturbation_mm=2.0), make_prompt(RIM, baseline=baseline))
    further = [prompt for batch in fake.batches for prompt in batch if prompt.followup_point.point_zyx != RIM]
    assert further
    for prompt in further:
        moved = np.add((3, 4, 5), np.subtract(prompt.followup_point.point_zyx, RIM))
        is_middle = prompt.followup_point.point_zyx == PART_MIDDLE
        assert prompt.baseline_point.point_zyx == pytest.approx((3, 4, 5) if is_middle else moved)
        assert prompt.baseline_point.source is PointSource.GIVEN


# --- perturbed points


def _distances_mm(points: Sequence[Vector], centre: Vector) -> np.ndarray:
    distances: np.ndarray = np.linalg.norm((np.asarray(points) - centre) * SPACING_ZYX, axis=1)
    return distances


def test_perturbed_points_are_uniform_in_the_ball() -> None:
    big = make_scan(np.zeros((40, 60, 80), np.int16))
    centre = (20.25, 30.0, 40.0)
    points = perturbed_points(make_prompt(centre, followup=big), 4000, 5.0, seed=0)
    distances = _distances_mm(points, centre)
    assert distances.max() <= 5.0
    # Uniform by volume: the share within half of the radius is an eighth.
    assert np.mean(distances < 2.5) == pytest.approx(1 / 8, abs=0.02)
    assert np.abs((np.asarray(points) - centre).mean(axis=0) * SPACING_ZYX).max() < 0.15


def test_perturbed_points_depend_on_seed_and_lesion_only() -> None:
    one, again = make_prompt(RIM, 7), make_prompt(RIM, 7)
    assert perturbed_points(one, 3, 5.0, 1) == perturbed_points(again, 3, 5.0, 1)
    assert perturbed_points(one, 3, 5.0, 1) != perturbed_points(one, 3, 5.0, 2)
    assert perturbed_points(one, 3, 5.0, 1) != perturbed_points(make_prompt(RIM, 8), 3, 5.0, 1)


@pytest.mark.parametrize("point", [(0.0, 0.0, 0.0), (11.0, 19.0, 23.0)])
def test_perturbed_points_stay_inside_the_image(point: Vector) -> None:
    points = np.asarray(perturbed_points(make_prompt(point), 50, 5.0, 0))
    assert len(points) == 50 and (points >= 0).all() and (points <= np.asarray(SHAPE) - 1).all()
    assert _distances_mm([*points], point).max() <= 5.0
    flat = make_scan(np.zeros((1, 20, 24), np.int16))
    assert {p[0] for p in perturbed_points(make_prompt((0.0, 5.0, 5.0), followup=flat), 4, 5.0, 0)} == {0.0}


def test_perturbed_averages_one_batch_of_views() -> None:
    values = {RIM: 0.9}

    def volume(prompt: LesionPrompt) -> np.ndarray:
        value = values.setdefault(prompt.followup_point.point_zyx, 0.2 + 0.25 * len(values))
        return cuboid((2, 7), (4, 11), (4, 11), value=value)

    fake = FakeSegmenter(volume, keep_support=True)
    boosted, prompt = _boosted(fake, Boosting.PERTURBED), make_prompt(RIM)
    found = _only(boosted, prompt)
    assert [len(batch) for batch in fake.batches] == [3]
    mean = float(np.mean([0.9, 0.45, 0.7]))
    np.testing.assert_allclose(volume_of(found), cuboid((2, 7), (4, 11), (4, 11), value=mean), rtol=1e-6)
    # Two of the three results agree; one is empty.
    assert boosted.agreement(prompt) == pytest.approx(1 / 3)
    assert found.support is None


def test_perturbed_prompts_shift_box_and_mask() -> None:
    place = cuboid((4, 8), (6, 12), (0, 5))
    prompt = with_shapes(make_prompt((5.0, 8.0, 3.0)), place)
    moved = shifted_prompt(prompt, (6.4, 7.5, 1.0))  # by +1, 0, -2 voxels
    assert moved.followup_box == Box((5, 6, 0), (9, 12, 3))
    assert moved.followup_mask is not None
    assert moved.followup_mask.box == moved.followup_box and moved.followup_mask.voxels.shape == (4, 6, 3)
    assert prompt.followup_box == Box((4, 6, 0), (8, 12, 5))
    gone = shifted_prompt(prompt, (5.0, 8.0, -30.0))
    assert gone.followup_box == prompt.followup_box and gone.followup_mask is prompt.followup_mask


# --- click majority


def _votes(volumes: dict[Vector, np.ndarray]) -> FakeSegmenter:
    return FakeSegmenter(lambda prompt: volumes[prompt.followup_point.point_zyx])


A, B, C = (
    cuboid((2, 6), (2, 6), (2, 6), value=0.9),
    cuboid((2, 6), (2, 6), (4, 9), value=0.6),
    cuboid((4, 6), (2, 6), (4, 9), value=0.8),
)
SECOND, THIRD = (4.0, 4.0, 5.0), (5.0, 3.0, 7.0)


def test_click_majority_needs_more_than_half() -> None:
    fake = _votes({RIM: A, SECOND: B, THIRD: C})
    prompt = make_prompt(RIM)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: [SECOND, THIRD]})
    found = _only(boosted, prompt)
    votes = (A > 0).astype(int) + (B > 0) + (C > 0)
    np.testing.assert_array_equal(volume_of(found) > 0.5, votes >= 2)
    assert volume_of(found)[4, 3, 4] == pytest.approx((0.9 + 0.6 + 0.8) / 3)
    assert volume_of(found)[2, 3, 4] == pytest.approx((0.9 + 0.6) / 2)
    assert volume_of(found)[4, 3, 8] == pytest.approx((0.6 + 0.8) / 2)
    expected = np.mean([_dice(A, B), _dice(A, C), _dice(B, C)])
    assert boosted.agreement(prompt) == pytest.approx(expected)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float(((one > 0) & (other > 0)).sum()) / float((one > 0).sum() + (other > 0).sum())


def test_click_majority_of_two_needs_both() -> None:
    fake = _votes({RIM: A, SECOND: B})
    found = _only(BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: [SECOND]}), make_prompt(RIM))
    np.testing.assert_array_equal(volume_of(found) > 0.5, (A > 0) & (B > 0))


def test_click_majority_counts_probabilities_just_above_one_half() -> None:
    least = float(np.nextafter(np.float32(0.5), np.float32(1)))
    fake = _votes({p: cuboid((2, 6), (2, 6), (2, 6), value=least) for p in (RIM, SECOND, THIRD)})
    found = _only(
        BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: [SECOND, THIRD]}), make_prompt(RIM)
    )
    np.testing.assert_array_equal(volume_of(found) > 0.5, A > 0)


def test_click_majority_drops_points_outside_and_duplicates() -> None:
    fake = _votes({RIM: A, SECOND: B})
    points = [SECOND, RIM, SECOND, (-2.0, 0.0, 0.0), (float("nan"), 0.0, 0.0)]
    _only(BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS), {1: points}), make_prompt(RIM))
    assert sorted(one.followup_point.point_zyx for one in fake.batches[0]) == sorted([RIM, SECOND])


def test_click_majority_uses_perturbed_points_if_none_are_given() -> None:
    fake = FakeSegmenter(lambda prompt: A)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.CLICKS, count=4), {2: [SECOND]})
    assert len(list(boosted.segment([make_prompt(RIM, 1), make_prompt(RIM, 2)]))) == 2
    assert [sum(one.lesion_id == i for one in fake.batches[0]) for i in (1, 2)] == [5, 2]


# --- rotated


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotations_are_in_the_axial_plane(degrees: int) -> None:
    volume = np.random.default_rng(0).random((3, 4, 5))
    rotated = ROTATIONS[degrees].array(volume)
    np.testing.assert_array_equal(rotated, np.rot90(volume, degrees // 90, axes=(2, 1)))


def _oblique(signs: tuple[int, int, int], degrees: float) -> tuple[float, ...]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(signs)
    return tuple(float(value) for value in matrix.ravel())


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_rotated_scans_keep_axial_axes_and_their_relative_position(
    signs: tuple[int, int, int], degrees: int
) -> None:
    one, other = make_scan(direction=_oblique(signs, 4.0)), make_scan(direction=_oblique((1, 1, 1), -3.0))
    rotation = ROTATIONS[degrees]
    ours, theirs = rotated_scan(one, rotation), rotated_scan(other, rotation)
    assert ours.ct.shape == ours.geometry.shape_zyx == rotation.triple(SHAPE)
    assert ours.geometry.axial_map().is_identity
    assert np.abs(np.diag(np.reshape(ours.geometry.direction, (3, 3)))).min() > 0.9
    corners = [(0.0, 0.0, 0.0), (3.0, 5.0, 7.0)]
    before = np.subtract(one.geometry.zyx_to_world(corners[1]), other.geometry.zyx_to_world(corners[1]))
    places = [rotation.point(corners[1], SHAPE) for _ in range(2)]
    after = np.subtract(ours.geometry.zyx_to_world(places[0]), theirs.geometry.zyx_to_world(places[1]))
    # Length and z component are preserved.
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before))
    assert after[2] == pytest.approx(before[2])


PLAN = read_plan(GOLDEN_MODEL / "plans.json")


def _noise(shape: tuple[int, int, int], direction: Sequence[float], seed: int, name: str) -> Scan:
    rng = np.random.default_rng(seed)
    made = make_scan(rng.normal(0, 300, shape).astype(np.int16), (2.0, 1.0, 1.0), direction, name)
    return replace(made, mask=(rng.random(shape) < 0.3).astype(np.uint8))


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (3.0, -3.0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, 1), (-1, 1, -1)])
def test_network_input_of_rotated_scans_is_rotated_alike(
    signs: tuple[int, int, int], tilt: tuple[float, float]
) -> None:
    """The baseline's axes have other signs than the follow-up's; both may be slightly oblique."""
    plan = replace(PLAN, patch_size_zyx=(9, 15, 15), spacing_zyx=(2.0, 1.0, 1.0))
    followup = _noise((11, 40, 36), _oblique((1, 1, 1), tilt[0]), 1, "followup")
    baseline = _noise((12, 38, 42), _oblique(signs, tilt[1]), 2, "baseline")
    prompt = replace(
        make_prompt((5.0, 21.0, 17.0), 1, followup, baseline),
        baseline_point=PromptPoint((6.0, 16.0, 22.0), PointSource.GIVEN),
    )
    straight = encode_lesion(prompt, plan).channels
    for degrees, rotation in ROTATIONS.items():
        rotated = encode_lesion(RotatedScans().prompt(prompt, degrees), plan).channels
        back = np.stack([rotation.inverse().array(channel) for channel in rotated])
        np.testing.assert_allclose(back, straight, atol=1e-5)


def _bright(prompt: LesionPrompt) -> np.ndarray:
    """A segmenter that does not depend on rotation: voxels as bright as the one at the point."""
    index = tuple(int(value) for value in prompt.followup_point.point_zyx)
    value = prompt.followup.ct[index]
    return np.where(prompt.followup.ct == value, np.float32(0.8), np.float32(0.1))


def test_rotated_results_return_to_the_followup_grid() -> None:
    ct = np.zeros(SHAPE, np.int16)
    ct[cuboid((2, 5), (3, 9), (15, 23)) > 0] = 70
    fake = FakeSegmenter(_bright, keep_support=True)
    boosted = BoostedSegmenter(fake, BoostOptions(Boosting.ROTATED), keep_support=True)
    prompt = make_prompt((3.0, 4.0, 21.0), followup=make_scan(ct))
    found = _only(boosted, prompt)
    np.testing.assert_allclose(volume_of(found, with_support=True), np.where(ct > 0, 0.8, 0.1), rtol=1e-6)
    assert found.box == Box((2, 3, 15), (5, 9, 23)) and boosted.agreement(prompt) == 1.0
    (batch,) = fake.batches
    assert [one.followup.ct.shape for one in batch] == [(12, 20, 24), (12, 24, 20)] * 2
    assert all(one.followup.ct[tuple(int(p) for p in one.followup_point.point_zyx)] == 70 for one in batch)
    assert all(one.baseline.geometry.shape_zyx == one.followup.geometry.shape_zyx for one in batch)


def test_rotated_averages_the_views() -> None:
    shapes: list[tuple[int, ...]] = []

    def volume(prompt: LesionPrompt) -> np.ndarray:
        shapes.append(prompt.followup.ct.shape)
        return cuboid(
            (2, 5), (0, 3), (0, 4), shape=shapes[-1], value=0.9
        )  # another corner of the patient for each rotation

    found = _only(
        _boosted(FakeSegmenter(volume), Boosting.ROTATED, turns=(180,)), make_prompt((3.0, 1.0, 1.0))
    )
    assert len(shapes) == 2 and not found.mask.any()  # 0.45 in each corner


def test_rotation_applies_to_boxes_and_masks() -> None:
    place = cuboid((4, 8), (6, 12), (0, 5))
    place[4, 6, 0] = 0
    prompt = with_shapes(make_prompt((5.0, 8.0, 3.0)), place)
    for degrees, rotation in ROTATIONS.items():
        rotated = RotatedScans().prompt(prompt, degrees)
        assert rotated.followup_box == mask_prompt(rotation.array(place)).box
        assert rotated.followup_mask is not None
        np.testing.assert_array_equal(rotated.followup_mask.voxels, mask_prompt(rotation.array(place)).voxels)


def test_scans_are_rotated_once_for_all_lesions() -> None:
    after, before = make_scan(), make_scan(name="baseline")
    fake = FakeSegmenter(lambda prompt: np.zeros(prompt.followup.ct.shape, np.float32))
    boosted = _boosted(fake, Boosting.ROTATED)
    list(boosted.segment([make_prompt(RIM, i, after, before) for i in (1, 2, 3)]))
    assert len(fake.batches[0]) == 12
    assert len({id(one.followup) for one in fake.batches[0]}) == 4


def test_rotation_of_scans_stored_with_permuted_axes() -> None:
    axes = AxisMap((2, 0, 1), (False, True, False))
    stored = np.random.default_rng(1).integers(0, 5, axes.inverse().triple(SHAPE)).astype(np.int16)
    z, y, x = stored.shape
    file_geometry = Geometry((x, y, z), (0.5, 3.0, 1.0), (1.0, 2.0, 3.0), (0, 0, 1, 1, 0, 0, 0, 1, 0))
    odd = replace(make_scan(), file_geometry=file_geometry, axes=axes, ct=axes.array(stored))
    for rotation in ROTATIONS.values():
        rotated = rotated_scan(odd, rotation)
        np.testing.assert_array_equal(rotated.ct, rotated.axes.array(stored))
        assert rotated.geometry.shape_zyx == rotated.ct.shape


# --- failures


def _failing(is_failing: object) -> FakeSegmenter:
    def volume(prompt: LesionPrompt) -> np.ndarray:
        if is_failing(prompt):  # type: ignore[operator]
            raise ValueError("no luck")
        return np.full(prompt.followup.ct.shape, 0.75, np.float32)

    return FakeSegmenter(volume)


def _is_first(prompt: LesionPrompt) -> bool:
    return prompt.followup_point.point_zyx == RIM and prompt.followup.ct.shape == SHAPE


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_failing_further_view_is_left_out(method: Boosting, caplog: pytest.LogCaptureFixture) -> None:
    fake = _failing(lambda prompt: not _is_first(prompt))
    boosted = (
        _boosted(fake, method) if method is not Boosting.ROTATED else _boosted(fake, method, turns=(90,))
    )
    prompt = make_prompt(RIM)
    found = _only(boosted, prompt)
    np.testing.assert_allclose(volume_of(found), 0.75)
    assert boosted.agreement(prompt) is None
    assert "further view failed" in caplog.text and "no luck" in caplog.text


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_failing_first_view_fails_the_lesion(method: Boosting) -> None:
    prompts = [make_prompt(RIM, 1), make_prompt((3.0, 3.0, 3.0), 2)]
    fake = _failing(lambda prompt: prompt.lesion_id == 1 and _is_first(prompt))
    found = {result.prompt.lesion_id: result for result in _boosted(fake, method).segment(prompts)}
    failure = found[1]
    assert isinstance(failure, LesionFailure) and failure.prompt is prompts[0]
    assert str(failure.error) == "no luck"
    assert isinstance(found[2], LesionResult) and found[2].prompt is prompts[1]


class _Broken:
    """Returns results for the first prompts of each batch, then raises or ends."""

    def __init__(self, batches: Sequence[int], error: Exception | None) -> None:
        self._batches = list(batches)
        self._error = error

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        for prompt in prompts[: self._batches.pop(0)]:
            yield make_result(prompt, WHOLE)
        if self._error is not None:
            raise self._error


def _run(method: Boosting, inner: _Broken, count: int) -> tuple[list[LesionResult | LesionFailure], bool]:
    boosted, found, has_raised = BoostedSegmenter(inner, BoostOptions(method)), [], False
    prompts = [make_prompt(RIM, lesion_id) for lesion_id in range(1, count + 1)]
    try:
        for one in boosted.segment(prompts):
            found.append(one)
    except MemoryExhaustedError:
        has_raised = True
    assert {id(one.prompt) for one in found} <= {id(one) for one in prompts}
    assert len({id(one.prompt) for one in found}) == len(found)
    return found, has_raised


OUT_OF_MEMORY = MemoryExhaustedError("out of memory")


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_error_in_the_second_round_keeps_the_first_results(method: Boosting) -> None:
    class Second(_Broken):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            self._error = OUT_OF_MEMORY if len(self._batches) == 1 else None
            return super().segment(prompts)

    found, has_raised = _run(method, Second([3, 1], None), 3)
    assert len(found) == 3 and not has_raised
    assert all(isinstance(one, LesionResult) and one.mask.any() for one in found)


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_error_in_the_first_round_is_raised_after_the_results(method: Boosting) -> None:
    found, has_raised = _run(method, _Broken([2], OUT_OF_MEMORY), 3)
    assert len(found) == 2 and has_raised


def test_error_in_the_only_round_is_raised_if_a_lesion_has_no_result() -> None:
    found, has_raised = _run(Boosting.PERTURBED, _Broken([4], OUT_OF_MEMORY), 3)  # 3 + 1 of 9 views
    assert [one.prompt.lesion_id for one in found] == [1, 2] and has_raised
    found, has_raised = _run(Boosting.PERTURBED, _Broken([7], OUT_OF_MEMORY), 3)
    assert len(found) == 3 and not has_raised


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_missing_results_are_failures(method: Boosting) -> None:
    found, _ = _run(method, _Broken([1, 0], None), 2)
    kinds = {one.prompt.lesion_id: type(one) for one in found}
    assert kinds == {1: LesionResult, 2: LesionFailure}
    (failure,) = [one for one in found if isinstance(one, LesionFailure)]
    assert str(failure.error) == "the segmenter returned no result"


def test_unexpected_results_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    class Chatty(FakeSegmenter):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            for prompt in prompts:
                yield make_result(replace(prompt), EMPTY)
                yield make_result(prompt, WHOLE)
                yield make_result(prompt, EMPTY)

    found = _only(BoostedSegmenter(Chatty(_by_point), BoostOptions(Boosting.PERTURBED)), make_prompt(RIM))
    np.testing.assert_allclose(volume_of(found), WHOLE)
    assert caplog.text.count("was ignored") == 6


def test_first_view_is_used_if_views_cannot_be_combined(caplog: pytest.LogCaptureFixture) -> None:
    class Misplaced(FakeSegmenter):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            for prompt in prompts:
                whole = make_result(prompt, WHOLE)
                is_first = prompt.followup_point.point_zyx == RIM
                yield whole if is_first else replace(whole, box=Box.of_shape((3, 3, 3)))

    with caplog.at_level(logging.ERROR):
        found = _only(
            BoostedSegmenter(Misplaced(_by_point), BoostOptions(Boosting.PERTURBED)), make_prompt(RIM)
        )
    np.testing.assert_allclose(volume_of(found), WHOLE)
    assert "could not be combined" in caplog.text


@pytest.mark.parametrize("method", TWO_ROUNDS)
def test_malformed_first_result_does_not_end_the_round(method: Boosting) -> None:
    class Malformed(FakeSegmenter):
        def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
            for prompt in prompts:
                part = make_result(prompt, _by_point(prompt))
                yield replace(part, probability=part.probability[0]) if prompt.lesion_id == 1 else part

    boosted = BoostedSegmenter(Malformed(_by_point), BoostOptions(method))
    found = {one.prompt.lesion_id: one for one in boosted.segment([make_prompt(RIM, 1), make_prompt(RIM, 2)])}
    assert found.keys() == {1, 2}
    assert isinstance(found[2], LesionResult) and found[2].mask.any()


@pytest.mark.parametrize("method", [*TWO_ROUNDS, *ONE_ROUND])
def test_repeated_prompt_and_one_lesion_in_two_scans(method: Boosting) -> None:
    one = make_prompt(RIM, 5)
    other = make_prompt(RIM, 5, make_scan(name="secondary"))
    fake = FakeSegmenter(lambda prompt: cuboid((2, 9), (4, 15), (4, 19), shape=prompt.followup.ct.shape))
    found = list(_boosted(fake, method).segment([one, one, other]))
    assert sorted(id(result.prompt) for result in found) == sorted([id(one), id(one), id(other)])


# --- agreement and options


def test_agreement_of_empty_results() -> None:
    prompt = make_prompt(RIM)
    empty, whole = make_result(prompt, EMPTY), make_result(prompt, WHOLE)
    assert pairwise_agreement([empty, empty]) == 1.0
    assert pairwise_agreement([empty, whole]) == 0.0
    assert pairwise_agreement([whole, whole, empty]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="two results"):
        pairwise_agreement([whole])


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
def test_boost_options_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        BoostOptions(**wrong)  # type: ignore[arg-type]


def test_averaging_methods_use_the_support() -> None:
    averaging = {method for method in Boosting if BoostOptions(method).uses_support}
    assert averaging == {Boosting.MERGED, Boosting.PERTURBED, Boosting.ROTATED}
    assert {str(method) for method in Boosting} == {
        "none",
        "reprompt",
        "additive",
        "merged-probabilities",
        "perturbed",
        "click-majority",
        "rotated",
    }
