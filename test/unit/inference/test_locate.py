"""Points of lesions from clicks, masks and registration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.case.case import Case, Click, PointSource, Scan, Slot, TimePoint, TimePointName
from model.case.geometry import AxisMap, Geometry, Vector, flip_order
from model.inference.locate import LocatedLesions, Locator
from model.propagation.pair_registrations import RegistrationCache
from model.propagation.register import Registration, RegistrationImage

SHAPE = (20, 40, 40)
UNREGISTERED = "primary-followup could not be registered with primary-baseline: no registration"
FOLLOWUP, BASELINE = TimePointName.FOLLOWUP, TimePointName.BASELINE
PRIMARY, SECONDARY = Slot.PRIMARY, Slot.SECONDARY
Clicks = dict[int, Vector]
Mask = npt.NDArray[np.uint16]


@dataclass
class Shift:
    """A back end whose transform is a translation, and which may fail."""

    mm: Vector = (0.0, 0.0, 0.0)
    fails: bool = False
    is_reliable: bool = True
    refined_mm: Vector | None = None
    fails_for: str = ""
    calls: int = field(default=0, init=False)
    refined: list[int] = field(default_factory=list, init=False)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self.calls += 1
        if self.fails or (self.fails_for and self.fails_for in (fixed.name, moving.name)):
            raise ValueError("no registration")
        warnings = ("the scans hardly overlap",)
        refine = None if self.refined_mm is None else self._refine
        return Registration(self, 1.0, self.is_reliable, warnings, refine)

    def _refine(self, points_mm: npt.ArrayLike) -> Shift:
        self.refined.append(len(np.asarray(points_mm)))
        assert self.refined_mm is not None
        return Shift(self.refined_mm)

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.subtract(points_mm, self.mm)

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.add(points_mm, self.mm)


def _scan(
    time_point: TimePointName,
    clicks: Clicks | None = None,
    mask: Mask | None = None,
    slot: Slot = PRIMARY,
    origin_xyz: Vector = (0.0, 0.0, 0.0),
) -> Scan:
    if mask is None and time_point is BASELINE:
        mask = np.zeros(SHAPE, np.uint16)
    given = tuple(Click(lesion_id, point) for lesion_id, point in (clicks or {}).items())
    geometry = Geometry(flip_order(SHAPE), (1.0, 1.0, 2.0), origin_xyz)
    ct = np.zeros(SHAPE, np.int16)
    return Scan(time_point, slot, Path("ct.mha"), geometry, AxisMap(), ct, mask, given)


def _mask(**cubes: Vector) -> Mask:
    """Cubes of 3 voxels around a centre; ``L7`` is lesion 7."""
    mask = np.zeros(SHAPE, np.uint16)
    for name, (z, y, x) in cubes.items():
        z, y, x = int(z), int(y), int(x)
        mask[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = int(name[1:])
    return mask


def _locate(*scans: Scan, method: Shift | None = None) -> LocatedLesions:
    points = {
        name: TimePoint(name, tuple(scan for scan in scans if scan.time_point is name))
        for name in TimePointName
    }
    case = Case(points[BASELINE], points[FOLLOWUP])
    return Locator(case, RegistrationCache(method or Shift(fails=True))).locate()


# --- points of a case ------------------------------------------------------------------------------------


def test_given_clicks_are_used_unchanged_without_registration() -> None:
    method = Shift()
    located = _locate(
        _scan(BASELINE, {7: (5.25, 6, 7)}, _mask(L7=(5, 6, 7))),
        _scan(FOLLOWUP, {7: (8, 9.5, 10)}),
        method=method,
    )
    (prompt,) = located.prompts
    points = prompt.baseline_point, prompt.followup_point
    assert [point.point_zyx for point in points] == [(5.25, 6, 7), (8, 9.5, 10)]
    assert {prompt.baseline_point.source, prompt.followup_point.source} == {PointSource.GIVEN}
    assert prompt.has_mask and not prompt.is_new
    assert method.calls == 0 and not located.warnings


@pytest.mark.parametrize(
    ("x", "source"), [(39.5, PointSource.GIVEN), (44.4, PointSource.CLIPPED), (44.6, PointSource.PROPAGATED)]
)
def test_a_click_outside_is_clipped_up_to_5_mm_else_propagated(x: float, source: PointSource) -> None:
    # The outer side of the last voxel lies at 39.5.
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7)}, _mask(L7=(5, 6, 7))),
        _scan(FOLLOWUP, {7: (5, 6, x)}),
        method=Shift((2.0, 0.0, 4.0)),
    )
    (prompt,) = located.prompts
    assert prompt.followup_point.source is source
    wanted = {
        PointSource.GIVEN: (5, 6, 39.5),
        PointSource.CLIPPED: (5, 6, 39),
        PointSource.PROPAGATED: (7, 6, 9),
    }
    assert prompt.followup_point.point_zyx == pytest.approx(wanted[source])
    assert any("outside" in text for text in located.warnings) == (source is not PointSource.GIVEN)


def test_a_baseline_click_outside_falls_back_to_the_mask() -> None:
    mask = _mask(L7=(5, 6, 7))
    located = _locate(_scan(BASELINE, {7: (5, 6, 99)}, mask), _scan(FOLLOWUP, {7: (5, 6, 7)}))
    assert located.prompts[0].baseline_point.source is PointSource.MASK
    assert located.prompts[0].baseline_point.point_zyx == (5, 6, 7)


@pytest.mark.parametrize(("x", "is_moved"), [(44.4, True), (49.4, True), (49.6, False)])
def test_a_baseline_click_just_outside_without_a_mask_needs_no_registration(x: float, is_moved: bool) -> None:
    method = Shift((2.0, 0.0, 4.0))  # the outer side of the last voxel lies at 39.5
    located = _locate(_scan(BASELINE, {7: (5, 6, x)}), _scan(FOLLOWUP, {7: (5, 6, 7)}), method=method)
    (prompt,) = located.prompts
    assert method.calls == (0 if is_moved else 1) and not prompt.has_mask
    assert prompt.followup_point.point_zyx == pytest.approx((5, 6, 7))
    point = prompt.baseline_point
    expected = (
        (False, PointSource.CLIPPED, (5, 6, 39)) if is_moved else (True, PointSource.PROPAGATED, (3, 6, 5))
    )
    assert any("it is moved to the border" in text for text in located.warnings) == is_moved
    assert (prompt.is_new, point.source, point.point_zyx) == expected


@pytest.mark.parametrize("x", [44.4, 44.6, 49.4, 99.0])
def test_a_mask_settles_a_baseline_click_outside_without_registration(x: float) -> None:
    method = Shift()
    mask = _mask(L7=(5, 6, 37))
    located = _locate(_scan(BASELINE, {7: (5, 6, x)}, mask), _scan(FOLLOWUP, {7: (5, 6, 7)}), method=method)
    assert method.calls == 0 and located.prompts[0].has_mask and not located.prompts[0].is_new
    source = PointSource.CLIPPED if x < 44.5 else PointSource.MASK
    assert located.prompts[0].baseline_point.source is source


def test_a_mask_label_without_a_click_is_a_lesion() -> None:
    located = _locate(
        _scan(BASELINE, mask=_mask(L7=(5, 6, 7))), _scan(FOLLOWUP), method=Shift((0.0, 3.0, 0.0))
    )
    (prompt,) = located.prompts
    assert prompt.baseline_point.source is PointSource.MASK
    assert prompt.followup_point.source is PointSource.PROPAGATED
    assert prompt.followup_point.point_zyx == pytest.approx((5, 9, 7))
    assert "primary-followup to primary-baseline: the scans hardly overlap" in located.warnings


def test_a_click_without_a_label_has_no_mask() -> None:
    bare = replace(_scan(BASELINE, {7: (5, 6, 7)}), mask=None)
    located = _locate(bare, _scan(FOLLOWUP, {7: (5, 6, 7)}))
    assert not located.prompts[0].has_mask and not located.prompts[0].is_new
    assert not located.warnings  # there is no mask at all
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7)}, mask=_mask(L8=(2, 2, 2))), _scan(FOLLOWUP, {7: (5, 6, 7)})
    )
    assert not located.prompts[0].has_mask
    assert any("no label" in text for text in located.warnings)


def test_a_lesion_of_the_followup_only_is_new() -> None:
    located = _locate(_scan(BASELINE), _scan(FOLLOWUP, {7: (5, 6, 7)}), method=Shift((1.0, 0.0, 2.0)))
    (prompt,) = located.prompts
    assert prompt.is_new and not prompt.has_mask
    assert prompt.baseline_point.source is PointSource.PROPAGATED
    assert prompt.baseline_point.point_zyx == pytest.approx((4, 6, 6))  # the inverse of the shift


def test_lesions_outside_of_all_scans_are_out_of_view() -> None:
    located = _locate(_scan(BASELINE, {7: (5, 6, 7)}), _scan(FOLLOWUP), method=Shift((0.0, 0.0, 500.0)))
    assert not located.prompts
    assert [lesion.lesion_id for lesion in located.out_of_view] == [7]


def test_the_failure_of_one_lesion_leaves_the_others() -> None:
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7), 8: (5, 6, 7)}),
        _scan(FOLLOWUP, {8: (5, 6, 7)}),
        method=Shift(fails=True),
    )
    assert [prompt.lesion_id for prompt in located.prompts] == [8]
    assert [(lesion.lesion_id, lesion.reason) for lesion in located.failures] == [(7, UNREGISTERED)]


def test_all_lesions_of_a_pair_share_one_registration_and_refinement() -> None:
    method = Shift((2.0, 0.0, 0.0), refined_mm=(3.0, 0.0, 0.0))
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7), 8: (6, 20, 20), 9: (5, 9, 9)}),
        _scan(FOLLOWUP, {9: (5, 9, 9)}),
        method=method,
    )
    points = {prompt.lesion_id: prompt.followup_point.point_zyx for prompt in located.prompts}
    assert points[7] == pytest.approx((5, 6, 10)) and points[8] == pytest.approx((6, 20, 23))
    assert method.calls == 1 and method.refined == [2]  # the clicked lesion is not among them


def test_propagated_points_have_confidence() -> None:
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7), 8: (5, 6, 7)}), _scan(FOLLOWUP, {8: (5, 6, 7)}), method=Shift()
    )
    mine, given = located.prompts
    # The least error, and that of a point around which there is too little to compare.
    assert located.estimates[mine].confidence_mm == pytest.approx(math.hypot(1.0, 8.0))
    assert not located.estimates[mine].is_flagged and given not in located.estimates
    assert not any("check its point" in text for text in located.warnings)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (Shift(is_reliable=False), "doubtful"),
        (Shift((36.0, 0.0, 0.0)), "outside of the field of view"),  # 3.5 mm
    ],
)
def test_doubtful_points_are_flagged_and_prompted(method: Shift, reason: str) -> None:
    located = _locate(_scan(BASELINE, {7: (5, 6, 7)}), _scan(FOLLOWUP), method=method)
    assert located.estimates[located.prompts[0]].is_flagged
    assert any("lesion 7: check its point" in text and reason in text for text in located.warnings)
    assert located.prompts[0].followup_point.point_zyx[2] <= 39


def test_propagated_points_come_with_the_way_back() -> None:
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7)}, _mask(L7=(5, 6, 7), L8=(3, 9, 9))),
        _scan(FOLLOWUP, {8: (4, 9, 9)}),
        method=Shift((2.0, 0.0, 4.0)),
    )
    by_id = {prompt.lesion_id: prompt for prompt in located.prompts}
    back = by_id[7].to_baseline
    assert back is not None and back((8.0, 6.0, 10.0)) == pytest.approx((6.0, 6.0, 8.0))
    assert by_id[8].to_baseline is None


def test_a_lost_point_is_the_failure_of_its_lesion() -> None:
    class Tears(Shift):
        def moving_to_fixed(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
            moved = np.array(points_mm, np.float64)
            moved[moved[:, 0] > 15] = np.nan
            return moved

    located = _locate(_scan(BASELINE, {7: (5, 6, 7), 8: (5, 6, 20)}), _scan(FOLLOWUP), method=Tears())
    assert [prompt.lesion_id for prompt in located.prompts] == [7]
    assert [(lesion.lesion_id, lesion.reason) for lesion in located.failures] == [
        (8, "the registration of primary-followup and primary-baseline loses its point")
    ]


def test_one_bad_point_does_not_affect_others_of_the_pair() -> None:
    class Picky(Shift):
        def moving_to_fixed(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
            if (np.asarray(points_mm)[:, 0] > 15).any():
                raise RuntimeError("no such place")
            return np.array(points_mm, np.float64)

    located = _locate(_scan(BASELINE, {7: (5, 6, 7), 8: (5, 6, 20)}), _scan(FOLLOWUP), method=Picky())
    assert [prompt.lesion_id for prompt in located.prompts] == [7]
    assert [(lesion.lesion_id, lesion.reason) for lesion in located.failures] == [(8, "no such place")]


def test_a_failed_pair_leaves_the_other_scan() -> None:
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7)}),
        _scan(FOLLOWUP),
        _scan(FOLLOWUP, slot=SECONDARY),
        method=Shift(fails_for="primary-followup"),
    )
    assert [prompt.followup.slot for prompt in located.prompts] == [SECONDARY]
    assert any(f"primary-followup could not be found ({UNREGISTERED})" in text for text in located.warnings)


class ByScan(Shift):
    """A back end that is reliable for the primary follow-up only."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        return replace(super().register(fixed, moving), is_reliable=fixed.name.startswith("primary"))


@pytest.mark.parametrize("x", [2.0, -300.0], ids=["trusted", "seen by the fall-back alone"])
def test_a_fall_back_is_not_preferred_to_a_reliable_registration(x: float) -> None:
    """The lesion lies deeper in the secondary scan."""
    located = _locate(
        _scan(BASELINE, {7: (10, 20, 9)}),
        _scan(FOLLOWUP, origin_xyz=(9 - x, 0.0, 0.0)),
        _scan(FOLLOWUP, slot=SECONDARY),
        method=ByScan(),
    )
    assert [prompt.followup.slot for prompt in located.prompts] == [PRIMARY if x > 0 else SECONDARY]


def test_a_lesion_with_a_failed_pair_is_not_out_of_view() -> None:
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7)}),
        _scan(FOLLOWUP),
        _scan(FOLLOWUP, slot=SECONDARY, origin_xyz=(0.0, 0.0, 500.0)),
        method=Shift(fails_for="primary-followup"),
    )
    assert not located.prompts and not located.out_of_view
    assert [(lesion.lesion_id, lesion.reason) for lesion in located.failures] == [(7, UNREGISTERED)]


@pytest.mark.parametrize("lost", [False, True])
def test_a_new_lesion_is_segmented_without_a_registration(lost: bool) -> None:
    """Its follow-up point is given; the baseline point is then found by the headers."""
    nowhere = (float("nan"),) * 3
    located = _locate(
        _scan(BASELINE, slot=SECONDARY, origin_xyz=(0.0, 0.0, 400.0)),
        _scan(BASELINE, origin_xyz=(1.0, 0.0, 0.0)),
        _scan(FOLLOWUP, {7: (5, 6, 7)}),
        method=Shift(nowhere) if lost else Shift(fails=True),
    )
    (prompt,) = located.prompts
    assert prompt.is_new and prompt.baseline.slot is PRIMARY
    assert prompt.baseline_point.point_zyx == pytest.approx((5, 6, 6))
    assert located.estimates[prompt].is_flagged and not located.failures


def test_a_lost_baseline_point_is_never_preferred() -> None:
    class Halved(Shift):
        """Maps to NaN in the primary scan."""

        def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
            mm = 0.0 if moving.name.startswith("secondary") else float("nan")
            return Registration(Shift((mm, mm, mm)), 1.0)

    scans = (_scan(BASELINE), _scan(BASELINE, slot=SECONDARY), _scan(FOLLOWUP, {7: (5, 6, 7)}))
    located = _locate(*scans, method=Halved())
    assert [prompt.baseline.slot for prompt in located.prompts] == [SECONDARY]


def _two_followups(overlap_mm: float) -> tuple[Scan, Scan]:
    """Both scans are 40 mm high; the secondary lies above the primary."""
    return _scan(FOLLOWUP), _scan(FOLLOWUP, slot=SECONDARY, origin_xyz=(0.0, 0.0, 40.0 - overlap_mm))


@pytest.mark.parametrize(
    ("z", "overlap_mm", "chosen"),
    [
        (10.0, 0.0, [PRIMARY]),
        (19.0, 20.0, [SECONDARY, PRIMARY]),  # 3 mm deep in the one, 19 mm (x is nearer: 9.5) in the other
        (14.5, 20.0, [PRIMARY, SECONDARY]),  # as deep in both
    ],
)
def test_a_lesion_is_segmented_in_the_scan_that_shows_it_deeper(
    z: float, overlap_mm: float, chosen: list[Slot]
) -> None:
    followups = _two_followups(overlap_mm)
    located = _locate(_scan(BASELINE, {7: (z, 20, 9)}), *followups, method=Shift())
    assert [prompt.followup.slot for prompt in located.prompts] == chosen
    for prompt in located.prompts:
        world = prompt.followup.geometry.zyx_to_world(prompt.followup_point.point_zyx)
        assert world == pytest.approx((9, 20, 2 * z))


def test_a_lesion_clicked_in_both_followup_scans_is_segmented_in_both() -> None:
    located = _locate(
        _scan(BASELINE, {7: (5, 6, 7)}),
        _scan(FOLLOWUP, {7: (5, 6, 7)}),
        _scan(FOLLOWUP, {7: (8, 6, 7)}, slot=SECONDARY),
    )
    assert [prompt.followup.slot for prompt in located.prompts] == [PRIMARY, SECONDARY]


def test_each_followup_scan_takes_the_baseline_of_its_own_slot() -> None:
    baselines = (
        _scan(BASELINE, {7: (5, 6, 7)}),
        _scan(BASELINE, {7: (6, 6, 7), 8: (1, 1, 1)}, slot=SECONDARY),
    )
    followups = (
        _scan(FOLLOWUP, {7: (5, 6, 7), 8: (2, 2, 2)}),
        _scan(FOLLOWUP, {7: (8, 6, 7)}, slot=SECONDARY),
    )
    located = _locate(*baselines, *followups)
    pairs = {(p.lesion_id, p.followup.slot): p.baseline.slot for p in located.prompts}
    assert pairs == {(7, PRIMARY): PRIMARY, (7, SECONDARY): SECONDARY, (8, PRIMARY): SECONDARY}


def test_lesions_come_in_the_order_of_their_first_appearance() -> None:
    mask = _mask(L1=(3, 3, 3), L5=(10, 10, 10))
    located = _locate(
        _scan(BASELINE, {9: (5, 6, 7), 2: (5, 6, 7)}, mask),
        _scan(FOLLOWUP, {4: (5, 6, 7), 9: (5, 6, 7)}),
        method=Shift(),
    )
    assert [prompt.lesion_id for prompt in located.prompts] == [9, 2, 4, 1, 5]
