"""Propagation of prompts while tracking: refinement, confidence, choice of scan and of context."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

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
from model.tracking.series import ConfidenceRule, Topology, TrackingOptions

from ...helpers.moving_lesions import (
    NAMES,
    SHIFTS,
    TWO,
    WANDERER,
    Ball,
    Patient,
    ShiftBackend,
    ShiftTransform,
    backend_with,
    bright,
    fate_of,
    pair,
    point_of,
    prompts_of,
)

STAR, CHAIN, RECENTRE, RECENTRE_MASK = Topology
SPREAD = ConfidenceRule.SPREAD
TOPOLOGIES = pytest.mark.parametrize("topology", Topology)


# --- refinement ------------------------------------------------------------------------------------------


@dataclass
class RefinedBackend(ShiftBackend):
    """Is 6 mm off unless it is refined."""

    refinements: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        exact = super().register(fixed, moving).transform
        assert isinstance(exact, ShiftTransform)

        def refine(points_mm: npt.ArrayLike) -> ShiftTransform:
            self.refinements.append(np.asarray(points_mm))
            return exact

        return Registration(ShiftTransform(exact.xyz_mm + 6.0), 0.9, True, (), refine)


@TOPOLOGIES
@pytest.mark.parametrize("source", ["t0", "t3"])
def test_pair_is_refined_once_for_all_lesions(topology: Topology, source: str) -> None:
    backend, patient = RefinedBackend(), Patient(masks=(source,))
    result = patient.track(TrackingOptions(topology, confidence=SPREAD), backend, source)
    assert len(backend.refinements) == len(backend.registered) == 3
    for name in NAMES:
        for lesion_id, ball in patient.balls.items():
            assert point_of(result, name, lesion_id) == pytest.approx(ball.at(NAMES.index(name)))
            assert patient.dice(result, name, lesion_id) == 1
    later = backend.registered[0][0]
    for ball in patient.balls.values():
        centre_mm = np.asarray(ball.at(NAMES.index(later)))[::-1] * 2.0
        assert min(np.linalg.norm(backend.refinements[0] - centre_mm, axis=1)) <= 6 * math.sqrt(3) + 4


def test_pair_is_refined_once_for_all_new_lesions() -> None:
    patient = Patient(masks=("t0",), clicks={"t1": {8: (5.0, 5.0, 5.0), 9: (6.0, 20.0, 9.0)}})
    backend = RefinedBackend()
    result = patient.track(TrackingOptions(CHAIN, confidence=SPREAD), backend)
    refined = [points for points in backend.refinements if len(points) == 2]
    assert len(refined) == 1 and np.array_equal(
        refined[0], [[10, 10, 10], [18, 40, 12]]
    )  # t1 is the later one
    prompt = result.at("t1").lesion(9).prompt
    assert prompt is not None
    assert prompt.baseline_point.point_zyx == pytest.approx(np.subtract((6, 20, 9), SHIFTS["t1"]))


def test_failing_refinement_keeps_the_registration() -> None:
    class FailingRefinement(ShiftBackend):
        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            def refine(points_mm: npt.ArrayLike) -> ShiftTransform:
                raise ValueError("too near")

            found = super().register(fixed, moving)
            return Registration(found.transform, found.similarity, refine=refine)

    assert Patient().dice(Patient().track(backend=FailingRefinement()), "t3", 1) == 1


# --- confidence ------------------------------------------------------------------------------------------


@dataclass
class InconsistentBackend(ShiftBackend):
    """The opposite direction is 12 mm off, or fails."""

    back_fails: bool = False

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        found = super().register(fixed, moving)
        if fixed.name > moving.name:
            return found
        if self.back_fails:
            raise RuntimeError("no registration back")
        assert isinstance(found.transform, ShiftTransform)
        return Registration(ShiftTransform(found.transform.xyz_mm + (12, 0, 0)), 0.9)


def test_inverse_inconsistency_flags_the_point() -> None:
    result = Patient().track(backend=InconsistentBackend())
    lesion = result.at("t2").lesion(1)
    assert lesion.is_flagged and lesion.confidence_mm is not None and lesion.confidence_mm > 12
    assert Patient().dice(result, "t2", 1) == 1 and lesion.volume_ml
    patient_option = TrackingOptions(confidence_options=ConfidenceOptions(flag_mm=20.0))
    assert not Patient().track(patient_option, InconsistentBackend()).at("t2").lesion(1).is_flagged


def test_spread_confidence_registers_once() -> None:
    backend = InconsistentBackend()
    lesion = Patient().track(TrackingOptions(confidence=SPREAD), backend).at("t2").lesion(1)
    assert not backend.registered_back and not lesion.is_flagged


def test_failing_opposite_registration_only_affects_the_confidence() -> None:
    result = Patient().track(backend=InconsistentBackend(back_fails=True))
    lesion = result.at("t2").lesion(1)
    without = Patient().track(TrackingOptions(confidence=SPREAD), ShiftBackend()).at("t2").lesion(1)
    assert not lesion.is_flagged and lesion.confidence_mm == without.confidence_mm
    assert Patient().dice(result, "t2", 1) == 1


SAME_AT_ALL_POINTS = ConfidenceOptions(ambiguity_weight=0.0)


def test_errors_add_up_along_a_chain_even_if_recentred() -> None:
    def errors(topology: Topology) -> list[float]:
        result = Patient().track(TrackingOptions(topology, confidence_options=SAME_AT_ALL_POINTS))
        return [result.at(name).lesion(1).confidence_mm or 0.0 for name in NAMES[1:]]

    once = errors(STAR)[0]
    assert errors(STAR) == pytest.approx([once] * 3)
    assert errors(CHAIN) == pytest.approx([once, once * math.sqrt(2), once * math.sqrt(3)])
    # The middle of the lesion is where the chain leads to as well.
    assert errors(RECENTRE) == errors(RECENTRE_MASK) == pytest.approx(errors(CHAIN))


@pytest.mark.parametrize("topology", [RECENTRE, RECENTRE_MASK])
def test_errors_add_up_beyond_a_flagged_point_even_if_recentred(topology: Topology) -> None:
    plain = TrackingOptions(topology, confidence_options=SAME_AT_ALL_POINTS)
    once = Patient().track(plain).at("t1").lesion(1).confidence_mm or 0.0
    flagging = replace(SAME_AT_ALL_POINTS, flag_mm=0.9 * once)
    strict = TrackingOptions(topology, confidence_options=flagging)
    result = Patient().track(strict)
    found = [result.at(name).lesion(1) for name in NAMES[1:]]
    assert [lesion.confidence_mm for lesion in found] == pytest.approx(
        [once * math.sqrt(n) for n in (1, 2, 3)]
    )
    assert all(lesion.is_flagged for lesion in found)


# --- shapes ----------------------------------------------------------------------------------------------


def test_expected_mask_of_a_recentred_lesion_is_around_its_point() -> None:
    for name, prompt in prompts_of(TrackingOptions(RECENTRE), Patient({1: WANDERER})).items():
        assert prompt.followup_mask is not None
        inside = np.argwhere(prompt.followup_mask.voxels) + prompt.followup_mask.box.start_zyx
        assert inside.mean(axis=0) == pytest.approx(prompt.followup_point.point_zyx), name


# --- choice of scan --------------------------------------------------------------------------------------


class FallbackBackend(ShiftBackend):
    """Has only a fall-back for the secondary scan, which puts the lesion into the middle of it."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        found = super().register(fixed, moving)
        if not fixed.name.startswith("secondary"):
            return found
        assert isinstance(found.transform, ShiftTransform)
        return Registration(ShiftTransform(found.transform.xyz_mm - (2, 4, 6)), 0.2, False, ("only a guess",))


def test_lesion_fails_if_it_may_be_in_a_scan_that_cannot_be_registered() -> None:
    class Half(ShiftBackend):
        """The secondary scan cannot be registered."""

        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            if fixed.name.startswith("secondary") or moving.name.startswith("secondary"):
                raise ValueError("these two do not match")
            return super().register(fixed, moving)

    slabs = {"t1": {Slot.PRIMARY: (16, 24), Slot.SECONDARY: (0, 16)}}
    patient = Patient({1: Ball((6, 11, 11))}, slabs=slabs)
    lesion = patient.track(backend=Half()).at("t1").lesion(1, None)
    assert lesion.fate is not None and lesion.fate.fate is LesionFate.FAILED
    assert "in primary-t1 its place lies" in lesion.fate.reason and "secondary-t1" in lesion.fate.reason


@TOPOLOGIES
def test_fallback_is_only_used_if_no_other_scan_shows_the_lesion(topology: Topology) -> None:
    both = {"t1": {Slot.PRIMARY: (0, 24), Slot.SECONDARY: (0, 24)}}
    result = Patient(slabs=both).track(TrackingOptions(topology), FallbackBackend())
    assert {lesion.slot for lesion in result.at("t1").lesions} == {Slot.PRIMARY}
    alone = {"t1": {Slot.SECONDARY: (0, 24)}}
    result = Patient(slabs=alone).track(TrackingOptions(topology), FallbackBackend())
    lesion = result.at("t1").lesion(1, Slot.SECONDARY)
    assert lesion.is_flagged and lesion.volume_ml  # the only scan


# --- new lesions -----------------------------------------------------------------------------------------


def _new_lesion(
    topology: Topology, backend: ShiftBackend | None = None
) -> tuple[LesionPrompt, tuple[str, ...]]:
    patient = Patient(dict(Patient().balls) | {3: Ball((6, 24, 8), radii=(0, 0, 2.0, 2.5))})
    patient.clicks = {"t2": {3: patient.balls[3].at(2)}}
    result = patient.track(TrackingOptions(topology), backend)
    assert fate_of(result, "t2", 3) is LesionFate.NEW
    lesion = result.at("t2").lesion(3)
    assert lesion.prompt is not None and lesion.prompt.is_new and not lesion.prompt.has_mask
    return lesion.prompt, lesion.warnings


@pytest.mark.parametrize(("topology", "before"), [(STAR, "t0"), (CHAIN, "t1"), (RECENTRE_MASK, "t1")])
def test_baseline_of_a_new_lesion_is_the_time_point_before(topology: Topology, before: str) -> None:
    prompt, warnings = _new_lesion(topology)
    assert prompt.baseline.time_point == before and not warnings
    place = np.add((6, 24, 8), SHIFTS[before])
    assert prompt.baseline_point.point_zyx == pytest.approx(tuple(place))
    assert prompt.baseline_point.source is PointSource.PROPAGATED


def test_baseline_of_a_new_lesion_is_the_reliably_registered_scan() -> None:
    class Doubting(ShiftBackend):
        """Pairs with a secondary scan have only fall-backs."""

        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            found = super().register(fixed, moving)
            if "secondary" not in fixed.name + moving.name:
                return found
            return Registration(found.transform, 0.2, False, ("only a guess",))

    slabs = {"t0": {Slot.PRIMARY: (0, 20), Slot.SECONDARY: (0, 24)}}
    clicks = {"t1": {9: (10.0, 24.0, 8.0)}}
    result = Patient(clicks=clicks, slabs=slabs).track(backend=Doubting())
    prompt = result.at("t1").lesion(9).prompt
    assert prompt is not None and prompt.baseline.slot is Slot.PRIMARY
    slabs = {"t0": {Slot.SECONDARY: (0, 24)}}
    lesion = Patient(clicks=clicks, slabs=slabs).track(backend=Doubting()).at("t1").lesion(9)
    assert "its place at t0 comes from a registration that is only a fall-back" in lesion.warnings


@pytest.mark.parametrize("kind", ["fails", "blind"])
def test_new_lesion_is_its_own_baseline_if_registration_fails(kind: str) -> None:
    prompt, warnings = _new_lesion(CHAIN, backend_with(kind, pair("t2", "t1")))
    assert prompt.baseline is prompt.followup
    assert warnings == ("its place at t1 is not known; it is segmented without it",)


# --- segmenters ------------------------------------------------------------------------------------------


class RaisingSegmenter:
    """Raises for one lesion, contrary to the contract."""

    def __init__(self, lesion_id: int) -> None:
        self.lesion_id = lesion_id
        self.batch_sizes: list[int] = []

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        self.batch_sizes.append(len(prompts))
        for prompt in prompts:
            if prompt.lesion_id == self.lesion_id:
                raise RuntimeError("not this one")
            yield from FunctionSegmenter(bright).segment([prompt])


@TOPOLOGIES
def test_segmenter_that_raises_for_one_lesion_segments_the_others(topology: Topology) -> None:
    balls = {1: Ball((10, 11, 11)), 2: Ball((14, 21, 20)), 3: Ball((8, 22, 8))}
    raising = RaisingSegmenter(2)
    result = Patient(balls).track(TrackingOptions(topology), segmenter=raising)  # type: ignore[arg-type]
    for name in NAMES[1:]:
        assert fate_of(result, name, 2) is LesionFate.FAILED
        assert (result.at(name).labelmaps[Slot.PRIMARY] > 0).any()
        for lesion_id in (1, 3):
            assert result.at(name).lesion(lesion_id).volume_ml
    assert raising.batch_sizes == [3, 1, 1] * 3  # lesion 1 was segmented already


def test_empty_source_segmentation_is_reported_and_tracked() -> None:
    def blank(request: SegmentRequest) -> Array:
        return bright(request) * (request.prompt.followup.time_point != "t0")

    patient = Patient(masks=(), clicks={"t0": {1: (10, 11, 11)}})
    result = patient.track(TrackingOptions(RECENTRE_MASK), function=blank)
    assert result.at("t0").lesion(1).warnings == ("no voxel was found at its prompt",)
    assert patient.dice(result, "t1", 1) == patient.dice(result, "t3", 1) == 1


@pytest.mark.parametrize("topology", [Topology.STAR, Topology.CHAIN])
def test_the_way_back_leads_to_the_baseline_or_is_unknown(topology: Topology) -> None:
    """In a chain a point comes from the neighbour, whose voxels are not those of the baseline."""
    prompts = prompts_of(TrackingOptions(topology))
    first, second = (prompts[name].to_baseline for name in ("t1", "t2"))
    assert first is not None and (second is None) == (topology is Topology.CHAIN)
    assert first(prompts["t1"].followup_point.point_zyx) == pytest.approx(TWO[1].at(0))
