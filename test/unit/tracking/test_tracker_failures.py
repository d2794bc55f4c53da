"""Failures while tracking (of pairs of scans, lesions, segmenters) do not affect the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from model.case.case import LesionPrompt, LesionResult, Slot
from model.case.geometry import Array
from model.errors import MemoryExhaustedError
from model.inference.segmenter import LesionFailure
from model.inference.user_segmenter import SegmentRequest
from model.propagation.register import Registration, RegistrationImage
from model.tracking.fates import LesionFate
from model.tracking.series import Topology, TrackingOptions
from model.tracking.tracker import track_time_points

from ...helpers.moving_lesions import (
    SHAPE,
    Patient,
    ShiftBackend,
    ShiftTransform,
    backend_with,
    bright,
    fate_of,
    pair,
    reason_of,
)

STAR, CHAIN, RECENTRE_MASK = Topology.STAR, Topology.CHAIN, Topology.RECENTRE_MASK
PRIMARY = Slot.PRIMARY


@pytest.mark.parametrize("kind", ["fails", "blind"])
@pytest.mark.parametrize("topology", Topology)
def test_failing_pair_does_not_affect_other_time_points(topology: Topology, kind: str) -> None:
    patient = Patient()
    backend = backend_with(kind, pair("t1", "t0"))
    result = patient.track(TrackingOptions(topology), backend)
    for lesion_id in patient.balls:
        assert fate_of(result, "t1", lesion_id, None) is LesionFate.FAILED
        assert "primary-t1 could not be registered with primary-t0" in reason_of(result, "t1", lesion_id)
        for name in ("t2", "t3"):
            assert patient.dice(result, name, lesion_id) == 1
    assert not result.at("t1").labelmaps[PRIMARY].any()
    assert ("t2", "t0") in backend.registered  # continues from the last reliable one
    assert backend.registered.count(("t1", "t0")) == 1


@pytest.mark.parametrize("topology", Topology)
def test_given_click_bridges_a_failing_pair(topology: Topology) -> None:
    patient = Patient(clicks={"t1": {1: Patient().balls[1].at(1)}})
    result = patient.track(TrackingOptions(topology), ShiftBackend(fails=(pair("t1", "t0"),)))
    assert patient.dice(result, "t1", 1) == 1 and fate_of(result, "t1", 2, None) is LesionFate.FAILED
    assert "not propagated" in result.at("t1").lesion(1).warnings[0]
    assert result.at("t2").lesion(1).propagated_from == ("primary-t0" if topology is STAR else "primary-t1")


def test_unreliable_pair_is_segmented_and_flagged_but_not_continued_from() -> None:
    result = Patient().track(TrackingOptions(CHAIN), ShiftBackend(doubts=(pair("t1", "t0"),)))
    lesion = result.at("t1").lesion(1)
    assert lesion.is_flagged and Patient().dice(result, "t1", 1) == 1
    assert (
        result.at("t2").lesion(1).propagated_from == "primary-t0" and not result.at("t2").lesion(1).is_flagged
    )


def test_warning_for_a_box_propagated_by_a_fallback() -> None:
    patient = Patient(clicks={"t1": {1: Patient().balls[1].at(1)}})
    result = patient.track(backend=ShiftBackend(doubts=(pair("t1", "t0"),)))
    doubt = "its box and mask are propagated by a registration that is only a fall-back"
    assert doubt in result.at("t1").lesion(1).warnings
    assert doubt not in result.at("t2").lesion(1).warnings


def test_transform_with_nan_fails_its_lesions() -> None:
    class NanBackend(ShiftBackend):
        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            found = super().register(fixed, moving)
            if fixed.name == "primary-t1":
                assert isinstance(found.transform, ShiftTransform)
                found.transform.xyz_mm = np.full(3, np.nan)
            return found

    result = Patient().track(backend=NanBackend())
    assert fate_of(result, "t1", 1, None) is LesionFate.FAILED and Patient().dice(result, "t2", 1) == 1


@pytest.mark.parametrize("fault", ["raises", "shape", "nan"])
@pytest.mark.parametrize("topology", Topology)
def test_failing_lesion_does_not_affect_others(topology: Topology, fault: str) -> None:
    def fails(request: SegmentRequest) -> Array:
        if (request.lesion_id, request.prompt.followup.time_point) != (1, "t1"):
            return bright(request)
        if fault == "raises":
            raise RuntimeError("jinxed")
        return np.zeros((2, 2, 2)) if fault == "shape" else np.full(SHAPE, np.nan)

    patient = Patient()
    result = patient.track(TrackingOptions(topology), function=fails)
    assert fate_of(result, "t1", 1) is LesionFate.FAILED and patient.dice(result, "t1", 2) == 1
    for name in ("t2", "t3"):
        assert patient.dice(result, name, 1) == patient.dice(result, name, 2) == 1


def test_lesion_that_fails_at_the_source_is_tracked_by_its_point() -> None:
    def fails(request: SegmentRequest) -> Array:
        if request.prompt.followup.time_point == "t0":
            raise RuntimeError("jinxed")
        return bright(request)

    patient = Patient(masks=(), clicks={"t0": {1: (10, 11, 11)}})
    result = patient.track(TrackingOptions(RECENTRE_MASK), function=fails)
    assert fate_of(result, "t0") is LesionFate.FAILED and patient.dice(result, "t1", 1) == 1
    contexts = result.at("t2").lesion(1).prompt
    assert contexts is not None and contexts.has_mask and contexts.baseline.time_point == "t1"


class _BrokenSegmenter:
    """Raises, or returns no results, contrary to the contract."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        if self.error is not None:
            raise self.error
        yield from ()


def test_segmenter_that_raises_or_returns_nothing_fails_its_lesions() -> None:
    for broken in (_BrokenSegmenter(ValueError("no")), _BrokenSegmenter(None)):
        result = Patient().track(segmenter=broken)  # type: ignore[arg-type]
        assert fate_of(result, "t2", 2) is LesionFate.FAILED and fate_of(result, "t0", 2) is None


def test_fatal_error_ends_tracking_after_completed_time_points() -> None:
    done = []
    with pytest.raises(MemoryExhaustedError):
        for point in track_time_points(
            Patient().series(), _BrokenSegmenter(MemoryExhaustedError("full")), ShiftBackend()
        ):
            done.append(point.name)
    assert done == ["t0"]


def test_lesion_with_its_only_click_far_outside_fails() -> None:
    patient = Patient(clicks={"t1": {9: (-40.0, 0.0, 0.0)}})
    result = patient.track()
    assert fate_of(result, "t1", 9, None) is LesionFate.FAILED
    assert all(lesion.lesion_id != 9 for lesion in result.at("t2").lesions)
