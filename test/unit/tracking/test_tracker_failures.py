"""Failures while following: of pairs of scans, of lesions, of segmenters. The rest stays whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from model.case.case import LesionPrompt, LesionResult, Slot
from model.case.geometry import Array
from model.errors import MemoryExhaustedError
from model.inference.segmenter import LesionFailure
from model.inference.user_segmenter import SegmentRequest
from model.tracking.fates import LesionFate
from model.tracking.series import FollowOptions, Topology
from model.tracking.tracker import follow_each

from ...helpers.moving_lesions import SHAPE, Patient, Way, bright, fate_of, pair, reason_of

STAR, CHAIN, RECENTRE_MASK = Topology.STAR, Topology.CHAIN, Topology.RECENTRE_MASK
PRIMARY = Slot.PRIMARY


@pytest.mark.parametrize("kind", ["fails", "blind"])
@pytest.mark.parametrize("topology", Topology)
def test_a_failing_pair_leaves_the_rest_whole(topology: Topology, kind: str) -> None:
    patient = Patient()
    way = Way(**{kind: (pair("t1", "t0"),)})
    result = patient.follow(FollowOptions(topology), way)
    for lesion_id in patient.balls:
        assert fate_of(result, "t1", lesion_id, None) is LesionFate.FAILED
        assert "primary-t1 could not be registered with primary-t0" in reason_of(result, "t1", lesion_id)
        for name in ("t2", "t3"):
            assert patient.dice(result, name, lesion_id) == 1
    assert not result.at("t1").labelmaps[PRIMARY].any()
    assert ("t2", "t0") in way.asked  # on from the last that held
    assert way.asked.count(("t1", "t0")) == 1


@pytest.mark.parametrize("topology", Topology)
def test_a_click_bridges_a_failing_pair(topology: Topology) -> None:
    patient = Patient(clicks={"t1": {1: Patient().balls[1].at(1)}})
    result = patient.follow(FollowOptions(topology), Way(fails=(pair("t1", "t0"),)))
    assert patient.dice(result, "t1", 1) == 1 and fate_of(result, "t1", 2, None) is LesionFate.FAILED
    assert "not propagated" in result.at("t1").lesion(1).warnings[0]
    assert result.at("t2").lesion(1).carried_from == ("primary-t0" if topology is STAR else "primary-t1")


def test_a_doubtful_pair_is_answered_and_flagged_but_not_gone_on_from() -> None:
    result = Patient().follow(FollowOptions(CHAIN), Way(doubts=(pair("t1", "t0"),)))
    lesion = result.at("t1").lesion(1)
    assert lesion.is_flagged and Patient().dice(result, "t1", 1) == 1
    assert result.at("t2").lesion(1).carried_from == "primary-t0" and not result.at("t2").lesion(1).is_flagged


def test_a_box_from_a_fall_back_says_so_beside_a_given_click() -> None:
    patient = Patient(clicks={"t1": {1: Patient().balls[1].at(1)}})
    result = patient.follow(way=Way(doubts=(pair("t1", "t0"),)))
    doubt = "its box and mask are propagated by a registration that is only a fall-back"
    assert doubt in result.at("t1").lesion(1).warnings
    assert doubt not in result.at("t2").lesion(1).warnings


def test_a_transform_that_loses_points() -> None:
    class Lost(Way):
        def register(self, fixed, moving):  # type: ignore[no-untyped-def]
            found = super().register(fixed, moving)
            if fixed.name == "primary-t1":
                found.transform.xyz_mm = np.full(3, np.nan)
            return found

    result = Patient().follow(way=Lost())
    assert fate_of(result, "t1", 1, None) is LesionFate.FAILED and Patient().dice(result, "t2", 1) == 1


@pytest.mark.parametrize("answer", ["raises", "shape", "nan"])
@pytest.mark.parametrize("topology", Topology)
def test_one_lesions_failure_is_its_own(topology: Topology, answer: str) -> None:
    def fails(request: SegmentRequest) -> Array:
        if (request.lesion_id, request.prompt.followup.time_point) != (1, "t1"):
            return bright(request)
        if answer == "raises":
            raise RuntimeError("jinxed")
        return np.zeros((2, 2, 2)) if answer == "shape" else np.full(SHAPE, np.nan)

    patient = Patient()
    result = patient.follow(FollowOptions(topology), function=fails)
    assert fate_of(result, "t1", 1) is LesionFate.FAILED and patient.dice(result, "t1", 2) == 1
    for name in ("t2", "t3"):
        assert patient.dice(result, name, 1) == patient.dice(result, name, 2) == 1


def test_a_source_that_cannot_be_segmented_is_still_followed_by_its_point() -> None:
    def fails(request: SegmentRequest) -> Array:
        if request.prompt.followup.time_point == "t0":
            raise RuntimeError("jinxed")
        return bright(request)

    patient = Patient(masks=(), clicks={"t0": {1: (10, 11, 11)}})
    result = patient.follow(FollowOptions(RECENTRE_MASK), function=fails)
    assert fate_of(result, "t0") is LesionFate.FAILED and patient.dice(result, "t1", 1) == 1
    contexts = result.at("t2").lesion(1).prompt
    assert contexts is not None and contexts.has_mask and contexts.baseline.time_point == "t1"


class _Rude:
    """A segmenter that does not keep the rules."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        if self.error is not None:
            raise self.error
        yield from ()


def test_a_segmenter_that_raises_or_keeps_silent_fails_its_lesions() -> None:
    for rude in (_Rude(ValueError("no")), _Rude(None)):
        result = Patient().follow(segmenter=rude)  # type: ignore[arg-type]
        assert fate_of(result, "t2", 2) is LesionFate.FAILED and fate_of(result, "t0", 2) is None


def test_what_no_lesion_survives_ends_the_run_after_what_was_done() -> None:
    done = []
    with pytest.raises(MemoryExhaustedError):
        for point in follow_each(Patient().series(), _Rude(MemoryExhaustedError("full")), Way()):  # type: ignore[arg-type]
            done.append(point.name)
    assert done == ["t0"]


def test_a_lesion_whose_only_click_is_of_no_use() -> None:
    patient = Patient(clicks={"t1": {9: (-40.0, 0.0, 0.0)}})
    result = patient.follow()
    assert fate_of(result, "t1", 9, None) is LesionFate.FAILED
    assert all(lesion.lesion_id != 9 for lesion in result.at("t2").lesions)
