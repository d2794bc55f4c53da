"""Fates of tracked lesions: new, vanished, out of view, merged, split; time points with two scans."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.case import Slot
from model.case.geometry import Array, Vector
from model.inference.user_segmenter import SegmentRequest
from model.tracking.fates import FateAssessment, LesionFate
from model.tracking.series import PointOrigin, Topology, TrackingOptions

from ...helpers.moving_lesions import NAMES, Ball, Patient, bright, fate_of, point_of, prompts_of, reason_of

STAR, CHAIN, RECENTRE_MASK = Topology.STAR, Topology.CHAIN, Topology.RECENTRE_MASK
PRIMARY, SECONDARY = Slot.PRIMARY, Slot.SECONDARY
NOTHING = FateAssessment(LesionFate.FAILED, "")


# --- new, vanished, out of view, merged ------------------------------------------------------------------


@pytest.mark.parametrize("topology", Topology)
def test_lesion_clicked_later_is_new_and_tracked_from_there(topology: Topology) -> None:
    patient = Patient(dict(Patient().balls) | {3: Ball((6, 24, 8), radii=(0, 0, 2.0, 2.5))}, masks=("t0",))
    patient.clicks = {"t2": {3: patient.balls[3].at(2)}}
    result = patient.track(TrackingOptions(topology))
    assert fate_of(result, "t2", 3) is LesionFate.NEW and fate_of(result, "t3", 3) is LesionFate.PERSISTENT
    assert patient.dice(result, "t2", 3) == patient.dice(result, "t3", 3) == 1
    for name in ("t0", "t1"):
        assert all(lesion.lesion_id != 3 for lesion in result.at(name).lesions)


def test_new_lesions_are_tracked_away_from_a_source_in_the_middle() -> None:
    balls = {1: Ball((10, 11, 11)), 3: Ball((6, 24, 8), radii=(2.0, 2.0, 0.0, 2.0))}
    patient = Patient(balls, masks=("t2",), clicks={"t1": {3: (8, 23, 11)}, "t3": {3: (7, 25, 6)}})
    result = patient.track(source="t2")
    assert fate_of(result, "t1", 3) is fate_of(result, "t3", 3) is LesionFate.NEW
    assert fate_of(result, "t0", 3) is LesionFate.PERSISTENT and patient.dice(result, "t0", 3) == 1


def test_mask_of_another_time_point_is_only_used_for_new_lesions() -> None:
    patient = Patient(
        {1: Ball((10, 11, 11)), 2: Ball((14, 21, 20), radii=(0, 2.5, 2.5, 2.5))}, masks=("t0", "t1")
    )
    result = patient.track()
    assert "mask is not used for lesions that are tracked already: 1" in result.at("t1").warnings[0]
    assert result.at("t1").lesion(1).origin is PointOrigin.PROPAGATED
    assert result.at("t1").lesion(2).origin is PointOrigin.MASK and fate_of(result, "t1", 2) is LesionFate.NEW
    assert patient.dice(result, "t3", 2) == 1


@pytest.mark.parametrize(
    "options", [TrackingOptions(topology) for topology in Topology] + [TrackingOptions(STAR, True)]
)
def test_vanished_lesion_may_reappear(options: TrackingOptions) -> None:
    patient = Patient({1: Ball((10, 11, 11), radii=(3.0, 2.0, 0.0, 2.5)), 2: Ball((14, 21, 20))})
    result = patient.track(options)
    assert fate_of(result, "t2") is LesionFate.VANISHED
    assert result.at("t2").lesion(1).volume_ml == 0
    assert not (result.at("t2").labelmaps[PRIMARY] == 1).any()
    assert fate_of(result, "t3") is LesionFate.PERSISTENT and patient.dice(result, "t3", 1) == 1
    assert point_of(result, "t3") == pytest.approx(patient.balls[1].at(3))
    context = prompts_of(options, patient)["t3"]
    assert context.has_mask and context.baseline.time_point == ("t1" if options.uses_previous else "t0")


def test_lesion_of_low_probability_has_vanished() -> None:
    def faint(request: SegmentRequest) -> Array:
        return bright(request) * (0.6 if request.prompt.followup.time_point == "t2" else 1.0)  # 0.54

    result = Patient().track(function=faint)
    assert fate_of(result, "t2") is LesionFate.VANISHED and not result.at("t2").labelmaps[PRIMARY].any()
    assert fate_of(result, "t3") is LesionFate.PERSISTENT


def test_lesion_out_of_view_is_tracked_at_other_time_points() -> None:
    slabs = {"t1": {PRIMARY: (16, 24)}}  # lesion 1 lies at z 12, 6 mm below what is shown
    for topology in Topology:
        patient = Patient({1: Ball((6, 11, 11)), 2: Ball((16, 21, 20))}, slabs=slabs)
        result = patient.track(TrackingOptions(topology))
        assert fate_of(result, "t1", 1, None) is LesionFate.OUT_OF_VIEW
        assert "mm outside of the field of view" in reason_of(result, "t1")
        assert fate_of(result, "t1", 2) is LesionFate.PERSISTENT
        assert result.at("t2").lesion(1).propagated_from == "primary-t0"
        assert patient.dice(result, "t2", 1) == 1


def test_lesion_just_out_of_view_is_segmented_at_the_border() -> None:
    result = Patient({1: Ball((6, 11, 11))}, slabs={"t1": {PRIMARY: (10, 24)}}).track()
    lesion = result.at("t1").lesion(1)
    assert not lesion.in_view and lesion.is_flagged and point_of(result, "t1")[0] == 0
    assert "mm outside of primary-t1; it is moved to the border" in lesion.warnings[0]
    assert result.at("t2").lesion(1).in_view


def test_lesions_that_grow_together_are_merged() -> None:
    patient = Patient({1: Ball((11, 13, 13), radii=(3, 3, 4, 5)), 2: Ball((11, 13, 21), radii=(3, 3, 4, 5))})
    result = patient.track()
    assert [fate_of(result, name) for name in NAMES[1:]][0] is LesionFate.PERSISTENT
    assert fate_of(result, "t3", 1) is fate_of(result, "t3", 2) is LesionFate.MERGED
    fate = result.at("t3").lesion(1).fate
    assert fate is not None and fate.merged_with == (2,)


def test_lesion_splits() -> None:
    def gap(request: SegmentRequest) -> Array:
        values = bright(request)
        if request.prompt.followup.time_point == "t3":
            values[:, 11:13] = 0
        return values

    patient = Patient({1: Ball((10, 11, 11), radii=(5.0,) * 4)})
    result = patient.track(function=gap)
    assert fate_of(result, "t2") is LesionFate.PERSISTENT and fate_of(result, "t3") is LesionFate.SPLIT


# Two lesions that have grown together at t3.
GROWING = {1: Ball((11, 13, 13), radii=(3, 3, 4, 5)), 2: Ball((11, 13, 21), radii=(3, 3, 4, 5))}


@pytest.mark.parametrize("topology", Topology)
def test_merged_mass_of_two_lesions_splits_backward(topology: Topology) -> None:
    clicks = {"t3": {lesion_id: ball.at(3) for lesion_id, ball in GROWING.items()}}
    result = Patient(GROWING, masks=(), clicks=clicks).track(TrackingOptions(topology), source="t3")
    assert fate_of(result, "t3", 1) is None
    if topology in (STAR, CHAIN):  # the middle of the mass is not a point of either lesion
        assert fate_of(result, "t1", 1) is fate_of(result, "t1", 2) is LesionFate.SPLIT
        assert "with which it was one mass before" in (result.at("t1").lesion(1).fate or NOTHING).reason
        assert fate_of(result, "t0", 1) is LesionFate.PERSISTENT


def test_merged_mass_of_one_label_splits_backward() -> None:
    clicks: dict[str, dict[int, Vector]] = {"t3": {1: (12, 14, 15)}}
    result = Patient(GROWING, masks=(), clicks=clicks).track(source="t3")
    assert fate_of(result, "t1", 1) is LesionFate.SPLIT


def test_lesions_that_were_merged_for_a_while_are_split() -> None:
    balls = {key: Ball(ball.centre, radii=(3, 5, 3, 3)) for key, ball in GROWING.items()}
    result = Patient(balls).track()
    fates = [fate_of(result, name) for name in NAMES[1:]]
    assert fates == [LesionFate.MERGED, LesionFate.SPLIT, LesionFate.PERSISTENT]


def test_lesion_clicked_as_new_that_is_not_there_was_not_found() -> None:
    patient = Patient(clicks={"t1": {9: (4, 27, 5)}})
    result = patient.track()
    fate = result.at("t1").lesion(9).fate
    assert fate is not None and fate.fate is LesionFate.NOT_FOUND and fate.pieces == 0
    assert result.at("t1").lesion(9).volume_ml == 0


# --- two scans of a time point ---------------------------------------------------------------------------

TWO_SCANS = {PRIMARY: (12, 24), SECONDARY: (0, 12)}


@pytest.mark.parametrize("topology", Topology)
def test_each_lesion_is_segmented_in_the_scan_that_shows_it(topology: Topology) -> None:
    balls = {1: Ball((5, 11, 11), radii=(2.0,) * 4), 2: Ball((18, 21, 20), radii=(2.0,) * 4)}
    patient = Patient(balls, slabs=dict.fromkeys(NAMES, TWO_SCANS))
    result = patient.track(TrackingOptions(topology))
    for index, name in enumerate(NAMES):
        for lesion_id, slot in ((1, SECONDARY), (2, PRIMARY)):
            start, stop = TWO_SCANS[slot]
            truth = balls[lesion_id].voxels(index)[start:stop]
            assert np.array_equal(result.at(name).labelmaps[slot] == lesion_id, truth)
            assert [les.slot for les in result.at(name).lesions if les.lesion_id == lesion_id] == [slot]


def test_tracking_from_one_scan_into_two_and_back() -> None:
    slabs = {"t1": TWO_SCANS, "t2": TWO_SCANS}
    balls = {1: Ball((5, 11, 11), radii=(2.0,) * 4), 2: Ball((18, 21, 20), radii=(2.0,) * 4)}
    patient = Patient(balls, slabs=slabs)
    result = patient.track(TrackingOptions(RECENTRE_MASK))
    assert patient.dice(result, "t3", 1) == patient.dice(result, "t3", 2) == 1
    assert result.at("t3").lesion(1).propagated_from == "secondary-t2"
    assert result.at("t3").lesion(2).propagated_from == "primary-t2"


def test_lesion_is_segmented_in_both_scans_that_show_it_equally_well() -> None:
    patient = Patient({1: Ball((10, 11, 11))}, slabs={"t1": {PRIMARY: (0, 24), SECONDARY: (2, 24)}})
    result = patient.track(TrackingOptions(CHAIN))
    assert [lesion.slot for lesion in result.at("t1").lesions] == [PRIMARY, SECONDARY]
    assert result.at("t2").lesion(1).propagated_from == "primary-t1"


@pytest.mark.parametrize("topology", [STAR, CHAIN])
@pytest.mark.parametrize("clicked", ["t0", "t1"])
def test_a_lesion_that_was_never_seen_has_not_vanished(topology: Topology, clicked: str) -> None:
    never, late = Ball((14, 21, 20), radii=(0.0,) * 4), Ball((6, 24, 8), radii=(0, 0, 2.0, 0))
    patient = Patient({1: Ball((10, 11, 11)), 5: never, 6: late})
    index = NAMES.index(clicked)
    patient.clicks = {clicked: {5: never.at(index), 6: late.at(index)}}
    result = patient.track(TrackingOptions(topology))
    for name in NAMES[max(index, 1) :]:
        assert fate_of(result, name, 5) is LesionFate.NOT_FOUND
    last = result.at("t3").lesion(5).fate
    assert last is not None and "no time point so far shows it" in last.reason
    assert fate_of(result, "t2", 6) is LesionFate.PERSISTENT  # a click at an earlier time point: not new
    assert fate_of(result, "t3", 6) is LesionFate.VANISHED
