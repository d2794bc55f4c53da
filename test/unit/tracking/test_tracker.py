"""Tracking lesions over time points: topologies, directions, given prompts, several points."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.case import PointSource, Slot
from model.case.geometry import Array, Box, Vector
from model.inference.boost_options import Boosting, BoostOptions
from model.inference.robust import SegmenterOptions
from model.inference.user_segmenter import SegmentRequest
from model.prompts.sampling import ChoiceOptions, Sampling, SamplingOptions
from model.tracking.fates import LesionFate
from model.tracking.series import PointOrigin, PromptKind, Topology, TrackingOptions

from ...helpers.moving_lesions import (
    NAMES,
    SHIFTS,
    WANDERER,
    Ball,
    Patient,
    ShiftBackend,
    boosted_segmenter,
    bright,
    fate_of,
    point_of,
    prompts_of,
)

STAR, CHAIN, RECENTRE, RECENTRE_MASK = (
    Topology.STAR,
    Topology.CHAIN,
    Topology.RECENTRE,
    Topology.RECENTRE_MASK,
)
PRIMARY = Slot.PRIMARY


# --- topologies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("previous_mask", [False, True])
@pytest.mark.parametrize("topology", Topology)
def test_every_topology_from_every_source(topology: Topology, previous_mask: bool, source: str) -> None:
    patient, backend = Patient(masks=(source,)), ShiftBackend()
    result = patient.track(TrackingOptions(topology, previous_mask), backend, source)
    assert [point.name for point in result.time_points] == list(NAMES)
    for name in NAMES:
        for lesion_id in patient.balls:
            assert patient.dice(result, name, lesion_id) == 1
            assert fate_of(result, name, lesion_id) == (None if name == source else LesionFate.PERSISTENT)
            volume = patient.balls[lesion_id].voxels(NAMES.index(name)).sum() * 0.008
            assert result.at(name).lesion(lesion_id).volume_ml == pytest.approx(volume)
            assert point_of(result, name, lesion_id) == pytest.approx(
                patient.balls[lesion_id].at(NAMES.index(name))
            )
    # The later scan is the fixed one in both directions; no pair is registered twice.
    assert len(set(backend.registered)) == len(backend.registered)
    assert {(earlier, later) for later, earlier in backend.registered_back} <= set(backend.registered)
    if topology is not STAR:
        assert set(backend.registered) == {("t1", "t0"), ("t2", "t1"), ("t3", "t2")}
    elif not previous_mask:
        assert set(backend.registered) == {
            (max(source, name), min(source, name)) for name in NAMES if name != source
        }


@pytest.mark.parametrize(("topology", "lag"), [(STAR, 9), (CHAIN, 9), (RECENTRE, 3), (RECENTRE_MASK, 3)])
def test_only_recentring_follows_a_lesion_that_moves_in_the_patient(topology: Topology, lag: float) -> None:
    patient = Patient({1: WANDERER})
    result = patient.track(TrackingOptions(topology))
    away = np.subtract(WANDERER.at(3), point_of(result, "t3"))
    assert away == pytest.approx((0, lag, 0))
    # The component rule reaches 5 mm here, so the lesion is only found with recentring.
    assert (fate_of(result, "t3") is LesionFate.PERSISTENT) == (lag == 3)


@pytest.mark.parametrize("topology", [STAR, CHAIN, RECENTRE])
def test_context_is_the_source_and_its_mask(topology: Topology) -> None:
    for prompt in prompts_of(TrackingOptions(topology)).values():
        assert prompt.baseline.time_point == "t0" and prompt.has_mask and not prompt.is_new
        assert prompt.baseline_point.point_zyx == Patient().balls[1].at(0)
        assert prompt.baseline.mask is not None and (prompt.baseline.mask == 1).any()


@pytest.mark.parametrize(
    "options", [TrackingOptions(RECENTRE_MASK), TrackingOptions(STAR, True), TrackingOptions(CHAIN, True)]
)
def test_context_is_the_previous_result(options: TrackingOptions) -> None:
    contexts = prompts_of(options)
    for before, name in zip(NAMES, NAMES[1:], strict=False):
        prompt, index = contexts[name], NAMES.index(name)
        assert prompt.baseline.time_point == before and prompt.has_mask
        assert prompt.baseline_point.point_zyx == pytest.approx(Patient().balls[1].at(index - 1))
        assert np.array_equal(prompt.baseline.mask == 1, Patient().balls[1].voxels(index - 1))


@pytest.mark.parametrize("kind", PromptKind)
@pytest.mark.parametrize("topology", Topology)
def test_boxes_and_masks_are_propagated(topology: Topology, kind: PromptKind) -> None:
    for name, prompt in prompts_of(TrackingOptions(topology, prompt=kind)).items():
        voxels = Patient().balls[1].voxels(NAMES.index(name))
        found = np.argwhere(voxels)
        tight = Box(tuple(found.min(axis=0).tolist()), tuple((found.max(axis=0) + 1).tolist()))
        assert prompt.followup_box == (None if kind is PromptKind.POINT else tight)
        assert (prompt.followup_mask is not None) == (kind is PromptKind.MASK)
        if prompt.followup_mask is not None:
            assert np.array_equal(prompt.followup_mask.voxels, voxels[prompt.followup_mask.box.slices])
            assert prompt.followup_mask.voxels.sum() == voxels.sum()


# --- given prompts ---------------------------------------------------------------------------------------


def test_given_click_is_used_and_propagated_further() -> None:
    patient = Patient(clicks={"t1": {1: (11.25, 10.5, 14.0)}})
    result = patient.track(TrackingOptions(CHAIN))
    assert point_of(result, "t1") == (11.25, 10.5, 14.0)
    lesion = result.at("t1").lesion(1)
    assert (
        lesion.origin is PointOrigin.GIVEN and lesion.confidence_mm is None and lesion.propagated_from is None
    )
    offset = np.subtract(SHIFTS["t2"], SHIFTS["t1"])
    assert point_of(result, "t2") == pytest.approx(np.add((11.25, 10.5, 14.0), offset))
    after = result.at("t2").lesion(1)
    assert after.origin is PointOrigin.PROPAGATED and after.propagated_from == "primary-t1"
    assert after.confidence_mm is not None
    assert patient.dice(result, "t1", 1) == 1


@pytest.mark.parametrize("kind", [PromptKind.BOX, PromptKind.MASK])
def test_given_click_has_precedence_over_propagated_shapes(kind: PromptKind) -> None:
    patient = Patient(clicks={"t1": {1: (20.0, 24.0, 24.0)}})
    prompt = prompts_of(TrackingOptions(prompt=kind), patient)["t1"]
    assert prompt.followup_point.point_zyx == (20.0, 24.0, 24.0)
    assert prompt.followup_box is None and prompt.followup_mask is None
    patient = Patient(clicks={"t1": {1: Patient().balls[1].at(1)}})
    assert prompts_of(TrackingOptions(prompt=kind), patient)["t1"].followup_box is not None


def test_nothing_is_registered_if_all_lesions_are_clicked_and_only_points_are_used() -> None:
    patient, backend = Patient(), ShiftBackend()
    patient.clicks = {
        name: {i: ball.at(k) for i, ball in patient.balls.items()} for k, name in enumerate(NAMES)
    }
    patient.track(TrackingOptions(prompt=PromptKind.POINT), backend)
    assert not backend.registered


def test_click_at_the_source_is_propagated() -> None:
    patient = Patient(clicks={"t0": {1: (9.5, 12.0, 10.5)}})
    result = patient.track()
    assert point_of(result, "t3") == pytest.approx(np.add((9.5, 12.0, 10.5), SHIFTS["t3"]))


def test_click_just_outside_is_clipped_and_one_far_outside_ignored() -> None:
    patient = Patient(clicks={"t1": {1: (-1.5, 10.0, 14.0), 2: (-30.0, 10.0, 14.0)}})
    result = patient.track()
    clipped = result.at("t1").lesion(1)
    assert clipped.origin is PointOrigin.CLIPPED and point_of(result, "t1") == (0.0, 10.0, 14.0)
    assert "2.0 mm outside of primary-t1" in clipped.warnings[0]
    assert not clipped.in_view and result.at("t0").lesion(1).in_view
    assert result.at("t1").lesion(2).origin is PointOrigin.PROPAGATED


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("source", ["t0", "t2"])
def test_series_with_clicks_only(topology: Topology, source: str) -> None:
    index = NAMES.index(source)
    patient = Patient(masks=())
    # Not exactly at the centre, like a manual click.
    patient.clicks = {
        source: {i: tuple(np.add(ball.at(index), (0, 1, 0))) for i, ball in patient.balls.items()}
    }
    prompts = []

    def record(request: SegmentRequest) -> Array:
        prompts.append(request.prompt)
        return bright(request)

    result = patient.track(TrackingOptions(topology), source=source, function=record)
    for name in NAMES:
        assert patient.dice(result, name, 1) == patient.dice(result, name, 2) == 1
    first = next(prompt for prompt in prompts if prompt.followup.time_point == source)
    assert first.baseline is first.followup and not first.has_mask and not first.is_new
    assert first.baseline_point == first.followup_point  # as `segment` does with a baseline without a mask
    later = next(prompt for prompt in prompts if prompt.followup.time_point != source)
    assert (
        later.has_mask and later.baseline.mask is not None and (later.baseline.mask == later.lesion_id).any()
    )
    assert fate_of(result, source) is None and result.at(source).lesion(1).origin is PointOrigin.GIVEN


def test_series_with_boxes_only() -> None:
    patient = Patient(masks=(), boxes={"t0": {1: Box((7, 8, 8), (14, 15, 15))}})
    for kind in PromptKind:
        result = patient.track(TrackingOptions(prompt=kind))
        assert all(patient.dice(result, name, 1) == 1 for name in NAMES)
        assert point_of(result, "t0") == (10, 11, 11) and result.at("t0").lesion(1).origin is PointOrigin.BOX


def test_given_box_has_precedence_over_propagated_shapes() -> None:
    box = Box((9, 7, 11), (16, 14, 18))
    patient = Patient(boxes={"t1": {1: box}})
    prompt = prompts_of(TrackingOptions(), patient)["t1"]
    assert prompt.followup_box == box and prompt.followup_mask is None
    assert prompt.followup_point.point_zyx == (12, 10, 14)


@pytest.mark.parametrize("topology", Topology)
def test_ring_is_tracked_by_one_of_its_voxels(topology: Topology) -> None:
    patient = Patient({1: Ball((11, 14, 14), radii=(6.0,) * 4)}, hole=4.0)
    result = patient.track(TrackingOptions(topology))
    for index, name in enumerate(NAMES):
        z, y, x = (round(value) for value in point_of(result, name))
        assert patient.balls[1].voxels(index, 4.0)[z, y, x]
        assert patient.dice(result, name, 1) == 1


def test_ids_up_to_65535() -> None:
    patient = Patient({65_535: Ball((10, 11, 11)), 7: Ball((14, 21, 20))})
    result = patient.track()
    for name in NAMES:
        assert result.at(name).labelmaps[PRIMARY].dtype == np.uint16
        assert set(np.unique(result.at(name).labelmaps[PRIMARY])) == {0, 7, 65_535}
    assert Patient().track().at("t1").labelmaps[PRIMARY].dtype == np.uint8


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("previous_mask", [False, True])
def test_written_prompts_as_input_give_the_same_result(topology: Topology, previous_mask: bool) -> None:
    patient = Patient({1: WANDERER, 2: Ball((14, 21, 20), radii=(2.0, 2.5, 0.0, 3.5))})
    options = TrackingOptions(topology, previous_mask)
    first = patient.track(options, source="t0")
    patient.clicks = {name: {i: point_of(first, name, i) for i in patient.balls} for name in NAMES}
    second = patient.track(options, source="t0")
    for name in NAMES:
        assert np.array_equal(first.at(name).labelmaps[PRIMARY], second.at(name).labelmaps[PRIMARY])
        for lesion_id in patient.balls:
            assert point_of(first, name, lesion_id) == point_of(second, name, lesion_id)
            assert fate_of(first, name, lesion_id) == fate_of(second, name, lesion_id)
            assert second.at(name).lesion(lesion_id).origin is PointOrigin.GIVEN


# --- several points, boosting ----------------------------------------------------------------------------


def test_sampled_points_are_propagated_and_used_by_click_majority() -> None:
    points_used: dict[str, list[Vector]] = {}

    def record(request: SegmentRequest) -> Array:
        points_used.setdefault(request.prompt.followup.time_point, []).append(request.point_zyx)
        return bright(request)

    patient = Patient({1: Ball((10, 11, 11))})
    segmenter = boosted_segmenter(SegmenterOptions(boost=BoostOptions(Boosting.CLICKS)), record)
    choice = ChoiceOptions(SamplingOptions(Sampling.UNIFORM, 5))
    for topology in Topology:
        points_used.clear()
        result = patient.track(TrackingOptions(topology, choice=choice), segmenter=segmenter)
        assert all(patient.dice(result, name, 1) == 1 for name in NAMES)
        for name in NAMES[1:]:
            points, index = points_used[name], NAMES.index(name)
            assert len(points) == len(set(points)) == 5
            for point in points:
                assert patient.balls[1].voxels(index)[tuple(np.rint(point).astype(int))]


@pytest.mark.parametrize("method", Boosting)
def test_tracking_with_every_boosting_method(method: Boosting) -> None:
    patient = Patient()
    segmenter = boosted_segmenter(SegmenterOptions(boost=BoostOptions(method)))
    result = patient.track(TrackingOptions(RECENTRE), segmenter=segmenter)
    assert all(patient.dice(result, name, i) == 1 for name in NAMES for i in patient.balls)


def test_prompts_contain_the_source_of_their_points() -> None:
    contexts = prompts_of(TrackingOptions())
    assert {prompt.followup_point.source for prompt in contexts.values()} == {PointSource.PROPAGATED}
    assert {prompt.baseline_point.source for prompt in contexts.values()} == {PointSource.MASK}
