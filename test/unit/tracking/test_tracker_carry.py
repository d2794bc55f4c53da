"""How prompts get from scan to scan while following: closer looks, confidence, which scan, which context."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from model.case.case import LesionPrompt, LesionResult, PointSource, Slot
from model.case.geometry import Array
from model.inference.segmenter import LesionFailure
from model.inference.user_segmenter import FunctionSegmenter, SegmentRequest
from model.propagation.confidence import ConfidenceOptions
from model.propagation.register import Registration, RegistrationImage
from model.tracking.fates import LesionFate
from model.tracking.series import ConfidenceRule, FollowOptions, Topology

from ...helpers.moving_lesions import (
    NAMES,
    SHIFTS,
    WANDERER,
    Ball,
    Patient,
    Shift,
    Way,
    bright,
    contexts_of,
    fate_of,
    pair,
    point_of,
)

STAR, CHAIN, RECENTRE, RECENTRE_MASK = Topology
SPREAD = ConfidenceRule.SPREAD
TOPOLOGIES = pytest.mark.parametrize("topology", Topology)


# --- closer looks ----------------------------------------------------------------------------------------


@dataclass
class Closer(Way):
    """Is 6 mm off, unless asked to look closer."""

    looks: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        exact = super().register(fixed, moving).transform
        assert isinstance(exact, Shift)

        def refine(points_mm: npt.ArrayLike) -> Shift:
            self.looks.append(np.asarray(points_mm))
            return exact

        return Registration(Shift(exact.xyz_mm + 6.0), 0.9, True, (), refine)


@TOPOLOGIES
@pytest.mark.parametrize("source", ["t0", "t3"])
def test_a_closer_look_is_taken_once_for_all_lesions_of_a_pair(topology: Topology, source: str) -> None:
    way, patient = Closer(), Patient(masks=(source,))
    result = patient.follow(FollowOptions(topology, confidence=SPREAD), way, source)
    assert len(way.looks) == len(way.asked) == 3
    for name in NAMES:
        for lesion_id, ball in patient.balls.items():
            assert point_of(result, name, lesion_id) == pytest.approx(ball.at(NAMES.index(name)))
            assert patient.dice(result, name, lesion_id) == 1
    later = way.asked[0][0]
    for ball in patient.balls.values():
        centre_mm = np.asarray(ball.at(NAMES.index(later)))[::-1] * 2.0
        assert min(np.linalg.norm(way.looks[0] - centre_mm, axis=1)) <= 6 * math.sqrt(3) + 4


def test_new_lesions_are_looked_at_together_too() -> None:
    patient = Patient(masks=("t0",), clicks={"t1": {8: (5.0, 5.0, 5.0), 9: (6.0, 20.0, 9.0)}})
    way = Closer()
    result = patient.follow(FollowOptions(CHAIN, confidence=SPREAD), way)
    looks = [look for look in way.looks if len(look) == 2]
    assert len(looks) == 1 and np.array_equal(looks[0], [[10, 10, 10], [18, 40, 12]])  # t1 is the later one
    prompt = result.at("t1").lesion(9).prompt
    assert prompt is not None
    assert prompt.baseline_point.point_zyx == pytest.approx(np.subtract((6, 20, 9), SHIFTS["t1"]))


def test_a_closer_look_that_fails_leaves_the_first_one() -> None:
    class Blind(Way):
        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            def refine(points_mm: npt.ArrayLike) -> Shift:
                raise ValueError("too near")

            found = super().register(fixed, moving)
            return Registration(found.transform, found.similarity, refine=refine)

    assert Patient().dice(Patient().follow(way=Blind()), "t3", 1) == 1


# --- confidence ------------------------------------------------------------------------------------------


@dataclass
class Lopsided(Way):
    """The way back misses by 12 mm, or fails."""

    back_fails: bool = False

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        found = super().register(fixed, moving)
        if fixed.name > moving.name:
            return found
        if self.back_fails:
            raise RuntimeError("no way back")
        assert isinstance(found.transform, Shift)
        return Registration(Shift(found.transform.xyz_mm + (12, 0, 0)), 0.9)


def test_a_way_back_that_misses_flags_the_point_and_loses_nothing() -> None:
    result = Patient().follow(way=Lopsided())
    lesion = result.at("t2").lesion(1)
    assert lesion.is_flagged and lesion.confidence_mm is not None and lesion.confidence_mm > 12
    assert Patient().dice(result, "t2", 1) == 1 and lesion.volume_ml
    patient_option = FollowOptions(confidence_options=ConfidenceOptions(flag_mm=20.0))
    assert not Patient().follow(patient_option, Lopsided()).at("t2").lesion(1).is_flagged


def test_without_it_nothing_is_registered_twice() -> None:
    way = Lopsided()
    lesion = Patient().follow(FollowOptions(confidence=SPREAD), way).at("t2").lesion(1)
    assert not way.reversed and not lesion.is_flagged


def test_a_way_back_that_fails_costs_nothing_else() -> None:
    result = Patient().follow(way=Lopsided(back_fails=True))
    lesion = result.at("t2").lesion(1)
    without = Patient().follow(FollowOptions(confidence=SPREAD), Way()).at("t2").lesion(1)
    assert not lesion.is_flagged and lesion.confidence_mm == without.confidence_mm
    assert Patient().dice(result, "t2", 1) == 1


def test_doubts_add_up_along_a_chain_until_the_lesion_is_seen_itself() -> None:
    def doubts(topology: Topology) -> list[float]:
        result = Patient().follow(FollowOptions(topology))
        return [result.at(name).lesion(1).confidence_mm or 0.0 for name in NAMES[1:]]

    once = doubts(STAR)[0]
    assert doubts(STAR) == pytest.approx([once] * 3)
    assert doubts(CHAIN) == pytest.approx([once, once * math.sqrt(2), once * math.sqrt(3)])
    assert doubts(RECENTRE) == pytest.approx([once] * 3)
    assert doubts(RECENTRE_MASK) == pytest.approx([once] * 3)


@pytest.mark.parametrize("topology", [RECENTRE, RECENTRE_MASK])
def test_what_was_found_at_a_flagged_point_is_doubted_further_on(topology: Topology) -> None:
    once = Patient().follow(FollowOptions(topology)).at("t1").lesion(1).confidence_mm or 0.0
    strict = FollowOptions(topology, confidence_options=ConfidenceOptions(flag_mm=0.9 * once))
    result = Patient().follow(strict)
    found = [result.at(name).lesion(1) for name in NAMES[1:]]
    assert [lesion.confidence_mm for lesion in found] == pytest.approx(
        [once * math.sqrt(n) for n in (1, 2, 3)]
    )
    assert all(lesion.is_flagged for lesion in found)


# --- shapes ----------------------------------------------------------------------------------------------


def test_a_recentred_lesions_expected_shape_stays_round_its_point() -> None:
    for name, prompt in contexts_of(FollowOptions(RECENTRE), Patient({1: WANDERER})).items():
        assert prompt.followup_mask is not None
        inside = np.argwhere(prompt.followup_mask.voxels) + prompt.followup_mask.box.start_zyx
        assert inside.mean(axis=0) == pytest.approx(prompt.followup_point.point_zyx), name


# --- which scan ------------------------------------------------------------------------------------------


class Guessing(Way):
    """Of the secondary scan it only has a fall-back, by which the lesion lies in the middle of it."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        found = super().register(fixed, moving)
        if not fixed.name.startswith("secondary"):
            return found
        assert isinstance(found.transform, Shift)
        return Registration(Shift(found.transform.xyz_mm - (2, 4, 6)), 0.2, False, ("only a guess",))


def test_a_scan_that_cannot_be_registered_may_still_show_what_the_other_does_not() -> None:
    class Half(Way):
        """Nobody knows where the secondary scan lies."""

        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            if fixed.name.startswith("secondary") or moving.name.startswith("secondary"):
                raise ValueError("these two do not match")
            return super().register(fixed, moving)

    slabs = {"t1": {Slot.PRIMARY: (16, 24), Slot.SECONDARY: (0, 16)}}
    patient = Patient({1: Ball((6, 11, 11))}, slabs=slabs)
    lesion = patient.follow(way=Half()).at("t1").lesion(1, None)
    assert lesion.fate is not None and lesion.fate.fate is LesionFate.FAILED
    assert "in primary-t1 its place lies" in lesion.fate.reason and "secondary-t1" in lesion.fate.reason


@TOPOLOGIES
def test_a_fall_back_does_not_draw_a_lesion_into_another_scan(topology: Topology) -> None:
    both = {"t1": {Slot.PRIMARY: (0, 24), Slot.SECONDARY: (0, 24)}}
    result = Patient(slabs=both).follow(FollowOptions(topology), Guessing())
    assert {lesion.slot for lesion in result.at("t1").lesions} == {Slot.PRIMARY}
    alone = {"t1": {Slot.SECONDARY: (0, 24)}}
    result = Patient(slabs=alone).follow(FollowOptions(topology), Guessing())
    lesion = result.at("t1").lesion(1, Slot.SECONDARY)
    assert lesion.is_flagged and lesion.volume_ml  # better than nothing


# --- new lesions -----------------------------------------------------------------------------------------


def _new_lesion(topology: Topology, way: Way | None = None) -> tuple[LesionPrompt, tuple[str, ...]]:
    patient = Patient(dict(Patient().balls) | {3: Ball((6, 24, 8), radii=(0, 0, 2.0, 2.5))})
    patient.clicks = {"t2": {3: patient.balls[3].at(2)}}
    result = patient.follow(FollowOptions(topology), way)
    assert fate_of(result, "t2", 3) is LesionFate.NEW
    lesion = result.at("t2").lesion(3)
    assert lesion.prompt is not None and lesion.prompt.is_new and not lesion.prompt.has_mask
    return lesion.prompt, lesion.warnings


@pytest.mark.parametrize(("topology", "before"), [(STAR, "t0"), (CHAIN, "t1"), (RECENTRE_MASK, "t1")])
def test_a_new_lesion_is_compared_with_its_place_before(topology: Topology, before: str) -> None:
    prompt, warnings = _new_lesion(topology)
    assert prompt.baseline.time_point == before and not warnings
    place = np.add((6, 24, 8), SHIFTS[before])
    assert prompt.baseline_point.point_zyx == pytest.approx(tuple(place))
    assert prompt.baseline_point.source is PointSource.PROPAGATED


def test_a_new_lesions_place_before_is_the_reliable_one() -> None:
    class Doubting(Way):
        """Of pairs with a secondary scan there are fall-backs only."""

        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            found = super().register(fixed, moving)
            if "secondary" not in fixed.name + moving.name:
                return found
            return Registration(found.transform, 0.2, False, ("only a guess",))

    slabs = {"t0": {Slot.PRIMARY: (0, 20), Slot.SECONDARY: (0, 24)}}
    clicks = {"t1": {9: (10.0, 24.0, 8.0)}}
    result = Patient(clicks=clicks, slabs=slabs).follow(way=Doubting())
    prompt = result.at("t1").lesion(9).prompt
    assert prompt is not None and prompt.baseline.slot is Slot.PRIMARY
    slabs = {"t0": {Slot.SECONDARY: (0, 24)}}
    lesion = Patient(clicks=clicks, slabs=slabs).follow(way=Doubting()).at("t1").lesion(9)
    assert "its place at t0 comes from a registration that is only a fall-back" in lesion.warnings


@pytest.mark.parametrize("kind", ["fails", "blind"])
def test_or_with_itself_where_that_is_not_known(kind: str) -> None:
    prompt, warnings = _new_lesion(CHAIN, Way(**{kind: (pair("t2", "t1"),)}))
    assert prompt.baseline is prompt.followup
    assert warnings == ("its place at t1 is not known; it is segmented without it",)


# --- segmenters ------------------------------------------------------------------------------------------


class Touchy:
    """Raises as soon as it comes to one lesion, against the rules."""

    def __init__(self, lesion_id: int) -> None:
        self.lesion_id = lesion_id
        self.rounds: list[int] = []

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        self.rounds.append(len(prompts))
        for prompt in prompts:
            if prompt.lesion_id == self.lesion_id:
                raise RuntimeError("not this one")
            yield from FunctionSegmenter(bright).segment([prompt])


@TOPOLOGIES
def test_a_segmenter_that_raises_for_one_lesion_answers_the_others(topology: Topology) -> None:
    balls = {1: Ball((10, 11, 11)), 2: Ball((14, 21, 20)), 3: Ball((8, 22, 8))}
    touchy = Touchy(2)
    result = Patient(balls).follow(FollowOptions(topology), segmenter=touchy)  # type: ignore[arg-type]
    for name in NAMES[1:]:
        assert fate_of(result, name, 2) is LesionFate.FAILED
        assert (result.at(name).labelmaps[Slot.PRIMARY] > 0).any()
        for lesion_id in (1, 3):
            assert result.at(name).lesion(lesion_id).volume_ml
    assert touchy.rounds == [3, 1, 1] * 3  # lesion 1 had answered already


def test_a_source_where_nothing_is_found_says_so_and_is_followed() -> None:
    def blind(request: SegmentRequest) -> Array:
        return bright(request) * (request.prompt.followup.time_point != "t0")

    patient = Patient(masks=(), clicks={"t0": {1: (10, 11, 11)}})
    result = patient.follow(FollowOptions(RECENTRE_MASK), function=blind)
    assert result.at("t0").lesion(1).warnings == ("no voxel was found at its prompt",)
    assert patient.dice(result, "t1", 1) == patient.dice(result, "t3", 1) == 1
