"""Rules against false alarms: which components go, which stay, and what is said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from model.case.geometry import Box, Geometry, Index
from model.case.tumor_clicks import ClickKind, TumorClick
from model.interactive.false_alarm_rules import FalseAlarmRules
from model.interactive.false_alarms import apply_rules, with_rules
from model.interactive.segment_pet_ct import TumorSegmentation

GRID = Geometry((30, 20, 10), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0))
HOT, COLD = (slice(2, 5), slice(2, 6), slice(2, 6)), (slice(5, 8), slice(10, 14), slice(20, 25))


def _scan() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """A component that reaches SUV 1.5 in one voxel, and one of SUV 1.4 with a voxel that is not finite."""
    mask, pet = np.zeros(GRID.shape_zyx, bool), np.ones(GRID.shape_zyx, np.float32)
    mask[HOT] = mask[COLD] = True
    pet[4, 5, 5], pet[COLD] = 1.5, 1.4
    pet[6, 11, 22] = np.nan
    return mask, pet


def _clicks(kind: ClickKind, *voxels: Index) -> tuple[TumorClick, ...]:
    return tuple(TumorClick(kind, (float(z), float(y), float(x))) for z, y, x in voxels)


def _apply(
    rules: FalseAlarmRules, *clicks: TumorClick
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], list[str]]:
    mask, pet = _scan()
    before = mask.copy()
    result, notes = apply_rules(mask, pet, GRID, clicks, rules)
    np.testing.assert_array_equal(mask, before)
    return mask, result, notes


def test_without_rules_nothing_changes_and_nothing_is_said() -> None:
    clicks = (*_clicks(ClickKind.TUMOR, (0, 0, 0)), *_clicks(ClickKind.BACKGROUND, (3, 3, 3)))
    mask, result, notes = _apply(FalseAlarmRules(), *clicks)
    np.testing.assert_array_equal(result, mask)
    assert notes == [] and FalseAlarmRules().are_off and not FalseAlarmRules(1.5).are_off


def test_components_must_reach_a_suv() -> None:
    mask, result, notes = _apply(FalseAlarmRules(min_suv=1.5))
    assert result[HOT].all() and result.sum() == mask[HOT].sum()
    assert notes == ["1 component (0.72 ml) below SUV 1.5 everywhere: removed"]
    assert not _apply(FalseAlarmRules(min_suv=2))[1].any()
    _, kept, notes = _apply(FalseAlarmRules(min_suv=1.5), *_clicks(ClickKind.TUMOR, (6, 11, 22)))
    assert kept[COLD].all() and notes == []  # the user has said what it is


def test_a_background_click_removes_its_component_unless_a_tumor_click_is_there_too() -> None:
    rules = FalseAlarmRules(remove_clicked=True)
    background = _clicks(ClickKind.BACKGROUND, (3, 3, 3), (3, 4, 4), (9, 19, 29))
    mask, result, notes = _apply(rules, *background)
    assert result[COLD].all() and result.sum() == mask[COLD].sum()
    assert notes == ["component (0.58 ml) with a background click at voxel (x, y, z) [3, 3, 3]: removed"]
    mask, result, notes = _apply(rules, *background, *_clicks(ClickKind.TUMOR, (2, 2, 2)))
    np.testing.assert_array_equal(result, mask)
    assert len(notes) == 2 and all("kept, as it holds a tumor click, too" in note for note in notes)


def test_a_tumor_click_outside_of_the_mask_gets_a_ball() -> None:
    rules = FalseAlarmRules(cover_clicks=True)
    mask, result, notes = _apply(rules, *_clicks(ClickKind.TUMOR, (0, 16, 5), (3, 3, 3)))
    added = np.argwhere(result & ~mask)
    z, y, x = (added - (0, 16, 5)).T * np.reshape(GRID.spacing_zyx, (3, 1))
    assert (z**2 + y**2 + x**2).max() <= 25 and len(added) == 21 + 13  # slices z = 0 and z = 1
    assert notes == ["tumor click at voxel (x, y, z) [5, 16, 0] outside of the mask: a ball of 5 mm is added"]


def test_a_ball_leaves_what_is_nearer_to_a_background_click() -> None:
    clicks = (*_clicks(ClickKind.TUMOR, (0, 16, 5)), *_clicks(ClickKind.BACKGROUND, (0, 16, 7)))
    mask, result, _ = _apply(FalseAlarmRules(cover_clicks=True), *clicks)
    added = result & ~mask
    assert added[0, 16, 5] and added[0, 16, 6] and not added[:, :, 7:].any()


@pytest.mark.parametrize("rules", [FalseAlarmRules(1.5, True, True), FalseAlarmRules(min_suv=1.5)])
def test_an_empty_mask_stays_empty(rules: FalseAlarmRules) -> None:
    _, pet = _scan()
    nothing = np.zeros(GRID.shape_zyx, bool)
    result, notes = apply_rules(nothing, pet, GRID, _clicks(ClickKind.BACKGROUND, (1, 1, 1)), rules)
    assert not result.any() and notes == []


def test_clicks_that_the_network_did_not_take_count_and_the_notes_become_warnings() -> None:
    mask, pet = _scan()
    margin = np.where(mask, 1, -1).astype(np.float32)
    before = TumorSegmentation(mask, Box.of_shape(mask.shape), margin, (), ("earlier",))
    clicks = _clicks(ClickKind.BACKGROUND, (3, 3, 3), (3, 3, 200))
    after = with_rules(before, pet, GRID, clicks, FalseAlarmRules(remove_clicked=True))
    assert not after.mask[HOT].any() and after.mask[COLD].all()
    assert after.warnings[0] == "earlier" and len(after.warnings) == 2
    np.testing.assert_array_equal(after.margin, margin)
