"""Re-centred points held to the chain: drift is stated, bounded, and said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from model.case.case import Slot
from model.case.geometry import Array, Vector
from model.inference.user_segmenter import SegmentRequest
from model.propagation.confidence import ConfidenceOptions
from model.propagation.register import Registration, RegistrationImage
from model.tracking.series import SeriesResult, Topology, TrackedLesion, TrackingOptions

from ...helpers.moving_lesions import (
    NAMES,
    SHAPE,
    SPACING_MM,
    Ball,
    Patient,
    ShiftBackend,
    ShiftTransform,
    point_of,
)

BALL = Ball((10, 11, 11), radii=(2.0,) * 4)
RECENTRING = [Topology.RECENTRE, Topology.RECENTRE_MASK]
CONFIDENCE = ConfidenceOptions(ambiguity_weight=0.0)


def _beside(step: int) -> Callable[[SegmentRequest], Array]:
    """A segmenter that draws a ball beside each point, further by some voxels along y."""

    def draw(request: SegmentRequest) -> Array:
        z, y, x = request.point_zyx
        axes = np.indices(SHAPE)
        centre = (z, y + step, x)
        distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
        return np.where(distance <= 2.5, np.float32(0.9), np.float32(0))

    return draw


def _tracked(topology: Topology, step: int, patient: Patient | None = None) -> SeriesResult:
    options = TrackingOptions(topology, confidence_options=CONFIDENCE)
    return (patient or Patient({1: BALL})).track(options, function=_beside(step))


def _error_mm(result: SeriesResult, name: str) -> float:
    off = np.subtract(point_of(result, name), BALL.at(NAMES.index(name)))
    return float(np.linalg.norm(off)) * SPACING_MM


def _lesion(result: SeriesResult, name: str) -> TrackedLesion:
    return result.at(name).lesion(1)


@pytest.mark.parametrize("topology", RECENTRING)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_true_errors_lie_under_the_stated_ones(topology: Topology, step: int) -> None:
    result = _tracked(topology, step)
    chain = _tracked(Topology.CHAIN, step)
    for name in NAMES[1:]:
        lesion, plain = _lesion(result, name), _lesion(chain, name)
        assert lesion.confidence_mm is not None and plain.confidence_mm is not None
        assert lesion.confidence_mm >= plain.confidence_mm  # re-centring knows no more than the chain
        assert _error_mm(result, name) <= lesion.confidence_mm
        assert _error_mm(result, name) <= plain.confidence_mm + 2.5 * SPACING_MM  # error and radius


@pytest.mark.parametrize("topology", RECENTRING)
def test_drift_beyond_error_and_radius_returns_to_the_chain(topology: Topology) -> None:
    # 6 mm at each time point; the chain is 3.3 to 5.7 mm off by its estimate, the lesion's radius 4 mm.
    result = _tracked(topology, 3)
    assert _error_mm(result, "t2") == pytest.approx(6.0) and not _lesion(result, "t2").warnings
    last = _lesion(result, "t3")
    assert _error_mm(result, "t3") == pytest.approx(0.0) and last.is_flagged
    assert "re-centring has drifted by 12 mm" in last.warnings[0]
    assert last.prompt is not None
    expected = BALL.at(0) if topology is Topology.RECENTRE else BALL.at(2)
    assert last.prompt.baseline_point.point_zyx == pytest.approx(expected)


def test_the_baseline_point_of_a_recentred_one_is_the_middle_of_the_baseline_lesion() -> None:
    beside: Vector = (11.0, 11.0, 13.0)
    big = Patient({1: Ball((10, 11, 11), radii=(6.0,) * 4)}, clicks={"t0": {1: beside}})
    result = _tracked(Topology.RECENTRE, 1, big)
    offsets = []
    for name in NAMES[1:]:
        prompt = _lesion(result, name).prompt
        assert prompt is not None and prompt.baseline.time_point == "t0"
        at = big.balls[1]
        followup = np.subtract(prompt.followup_point.point_zyx, at.at(NAMES.index(name)))
        offsets.append(followup[1])
        # The middles are 10 mm apart at most, so that the middle of the baseline lesion is the counterpart.
        expected = beside if name == "t1" else at.at(0)
        assert prompt.baseline_point.point_zyx == pytest.approx(expected)
    assert offsets == pytest.approx([0, 1, 2])


def test_a_given_click_begins_a_new_chain() -> None:
    click: Vector = (11.0, 13.0, 12.0)  # 2 mm along z and 4 mm along y from the middle at t2
    patient = Patient({1: BALL}, clicks={"t2": {1: click}})
    result = _tracked(Topology.RECENTRE, 1, patient)
    given, after = _lesion(result, "t2").prompt, _lesion(result, "t3")
    assert given is not None and given.followup_point.point_zyx == click
    assert given.baseline_point.point_zyx == pytest.approx(BALL.at(0))
    first = _lesion(_tracked(Topology.CHAIN, 1), "t1").confidence_mm
    assert first is not None and after.confidence_mm == pytest.approx(first + 1 * SPACING_MM)


def test_the_chain_has_its_point_on_the_scan_that_is_the_baseline() -> None:
    both = {Slot.PRIMARY: (0, 24), Slot.SECONDARY: (4, 24)}
    patient = Patient({1: BALL}, slabs={"t0": both, "t3": {Slot.SECONDARY: (0, 24)}})
    last = _tracked(Topology.RECENTRE, 3, patient).at("t3").lesion(1, Slot.SECONDARY)
    assert last.prompt is not None and "re-centring has drifted" in last.warnings[0]
    assert last.prompt.baseline.slot is Slot.SECONDARY  # whose grid begins at the fourth slice
    assert last.prompt.baseline_point.point_zyx == pytest.approx(np.subtract(BALL.at(0), (4, 0, 0)))


class Losing(ShiftBackend):
    """Loses the chain's point between the second and the third time point."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        found = super().register(fixed, moving)
        if {image.name[-2:] for image in (fixed, moving)} != {"t1", "t2"}:
            return found
        return replace(found, transform=LosingTransform(cast(ShiftTransform, found.transform).xyz_mm))


class LosingTransform(ShiftTransform):
    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        lost_mm = np.asarray(BALL.at(1))[::-1] * SPACING_MM
        is_lost = np.linalg.norm(np.asarray(points_mm) - lost_mm, axis=-1) < 0.1
        return np.where(is_lost[..., None], np.nan, super().moving_to_fixed(points_mm))


def test_a_new_chain_begins_where_the_point_of_the_last_one_is_lost() -> None:
    options = TrackingOptions(Topology.RECENTRE, confidence_options=CONFIDENCE)
    result = Patient({1: BALL}).track(options, backend=Losing(), function=_beside(1))
    second, third = _lesion(result, "t2"), _lesion(result, "t3")
    assert second.is_flagged and "loses the chain's point" in second.warnings[0]
    assert not third.warnings and _error_mm(result, "t3") == pytest.approx(4.0)  # two steps of one voxel
    assert second.confidence_mm is not None and third.confidence_mm is not None
    assert third.confidence_mm > second.confidence_mm
