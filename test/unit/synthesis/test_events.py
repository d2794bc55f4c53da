"""Lesions vanish, appear, merge and split, and their ids and records follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from model.case.voxel_checks import MAX_LESION_ID
from model.synthesis.compose_followup import Baseline, Followup
from model.synthesis.followup_record import SyntheticFate, SyntheticLesion, lesion_records
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import LabelledLesion, ScanLesions, find_scan_lesions, near_pairs
from model.synthesis.settings import SynthesisSettings

from ...helpers.synthesis_phantom import (
    BIG,
    BORDER,
    GRID,
    SMALL,
    STILL,
    VOXEL,
    ball,
    events,
    growth,
    made,
    scan,
    voxels,
)

pytestmark = pytest.mark.slow

SPACING = GRID.spacing_zyx
TOUCHING = np.ones((3, 3, 3))


def _records(
    baseline: Baseline, settings: SynthesisSettings, **options: Any
) -> tuple[Followup, dict[int, SyntheticLesion]]:
    draw, followup = made(baseline, settings, **options)
    lesions = find_scan_lesions(baseline.labels, SPACING, settings.events.merge_max_gap_mm)
    return followup, {r.lesion_id: r for r in lesion_records(lesions, draw, followup, GRID)}


def test_vanished_lesions_leave_plausible_tissue() -> None:
    baseline = scan()
    followup, records = _records(baseline, events(p_vanish=1))
    assert not followup.labels.any()
    assert {record.fate for record in records.values()} == {SyntheticFate.VANISHED}
    assert all(record.followup_ids == () and record.followup_ml == 0 for record in records.values())
    inside = followup.ct[baseline.labels == BIG].astype(float)
    assert abs(inside.mean() - 40) < 5  # the lesion had 120
    assert 5 < inside.std() < 16  # tissue's own noise is 10


def test_large_lesions_do_not_vanish() -> None:
    followup, records = _records(scan(), events(p_vanish=1, vanish_max_ml=0.3))
    assert records[BIG].fate is not SyntheticFate.VANISHED and voxels(followup.labels, BIG)
    assert records[SMALL].fate is SyntheticFate.VANISHED


def test_near_lesions_merge_and_both_records_have_both_ids() -> None:
    labels = np.zeros(GRID.shape_zyx, np.uint16)
    ball(labels, (14, 28, 22), 5.0, 3)
    ball(labels, (14, 28, 37), 5.0, 8)
    hu = np.where(labels > 0, 120, 40).astype(np.int16)
    baseline = Baseline(hu, labels, GRID)
    assert ndimage.label(labels > 0, TOUCHING)[1] == 2
    followup, records = _records(baseline, events(p_merge=1))
    assert ndimage.label(followup.labels > 0, TOUCHING)[1] == 1
    assert records[3].fate is records[8].fate is SyntheticFate.MERGED
    assert records[3].followup_ids == records[8].followup_ids == (3, 8)
    bridge = (followup.labels > 0) & (labels == 0)
    assert np.median(followup.ct[bridge]) > 75


def test_pairs_to_merge_are_found_by_their_gap() -> None:
    labels = np.zeros((5, 5, 30), np.uint16)
    labels[2, 2, 2], labels[2, 2, 8], labels[2, 2, 29], labels[2, 2, 9] = 1, 2, 3, 4
    lesions = find_scan_lesions(labels, (1.0, 1.0, 1.0), 10.0)
    # 2 and 4 touch: they are connected already.
    assert [(p.first, p.second, p.gap_mm) for p in lesions.pairs] == [(1, 2, 6.0), (1, 4, 7.0)]
    assert near_pairs(labels, lesions.lesions, (1.0, 1.0, 1.0), 5.0) == ()


def test_a_split_lesion_keeps_its_id_in_parts() -> None:
    baseline = scan(with_small=False)
    followup, records = _records(baseline, events(p_split=1))
    record = records[BIG]
    assert record.fate is SyntheticFate.SPLIT and record.followup_ids == (BIG,)
    assert len(record.parts) >= 2 and record.parts[1].voxels > 0.1 * record.parts[0].voxels
    assert sum(part.voxels for part in record.parts) == voxels(followup.labels, BIG)
    assert not record.joined_again
    # Too small a lesion is not split.
    assert records[BORDER].fate in {SyntheticFate.GROWN, SyntheticFate.SHRUNK}


def test_parts_that_grow_together_again_are_recorded_as_joined() -> None:
    baseline = scan(with_small=False)
    lesions = find_scan_lesions(baseline.labels, SPACING, 10.0)
    draw, followup = made(baseline, growth(events(p_split=1), amplitudes_mm2=(25.0,)))
    assert draw.splitting and followup.events.split[0].parts_voxels
    joined = replace(followup, labels=baseline.labels)  # as one piece, of the old size
    record = next(r for r in lesion_records(lesions, draw, joined, GRID) if r.lesion_id == BIG)
    assert len(record.parts) == 1 and record.joined_again and record.fate is SyntheticFate.GROWN
    assert all(
        not r.joined_again
        for r in lesion_records(lesions, draw, joined, GRID)
        if r is not record and r.lesion_id != BIG
    )


def test_fate_and_target_include_the_effect_of_neighbours() -> None:
    """A lesion that grew and was squeezed by the next one: fate and target follow the labelmap."""
    baseline = scan(with_small=False)
    lesions = find_scan_lesions(baseline.labels, SPACING, 10.0)
    draw, followup = made(baseline, growth(amplitudes_mm2=(25.0,)))
    before = {r.lesion_id: r for r in lesion_records(lesions, draw, followup, GRID)}
    assert before[BIG].fate is SyntheticFate.GROWN and before[BIG].target_reached

    def squeezed(share: float) -> SyntheticLesion:
        count = round(voxels(baseline.labels, BIG) * share)
        changed = [replace(x, voxels=count) if x.lesion_id == BIG else x for x in followup.lesions]
        found = lesion_records(lesions, draw, replace(followup, lesions=tuple(changed)), GRID)
        return next(r for r in found if r.lesion_id == BIG)

    assert squeezed(0.7).fate is SyntheticFate.SHRUNK and not squeezed(0.7).target_reached
    assert (
        squeezed(1.0).fate is SyntheticFate.UNCHANGED
        and squeezed(1.0).growth_ratio == before[BIG].growth_ratio
    )


def test_scaling_of_the_patient_is_not_recorded_as_growth() -> None:
    baseline = scan(with_small=False)
    scaled = replace(STILL.motion, p_scaling=1, scaling=(1.05, 1.05))
    settings = growth(replace(STILL, motion=scaled), amplitudes_mm2=(25.0,), growth_ratio=(1.1, 1.1))
    _, records = _records(baseline, settings)
    record = records[BIG]
    assert record.achieved_ratio is not None and record.achieved_ratio < 1
    assert record.fate is SyntheticFate.GROWN and record.target_reached


@pytest.mark.parametrize("copied", (0.0, 1.0))
def test_new_lesions_lie_in_tissue_and_over_no_other(copied: float) -> None:
    baseline = scan()
    settings = events(new_mean=50, new_max=3, p_new_copied=copied)
    followup, records = _records(baseline, settings)
    new = [record for record in records.values() if record.fate is SyntheticFate.NEW]
    # Above 65535, which the scan uses, no ids are left: the lowest free ones are taken.
    assert new and all(record.lesion_id < BIG for record in new)
    for record in new:
        where = followup.labels == record.lesion_id
        assert record.baseline_voxels == 0 and record.baseline_point_xyz is None
        assert followup.ct[where].min() > -300  # not in air
        assert (record.donor is not None) == bool(copied)
    for lesion_id in (BIG, SMALL, VOXEL, BORDER):
        assert voxels(followup.labels, lesion_id)


def test_fresh_ids_are_unique_to_each_followup() -> None:
    lesion = find_scan_lesions(scan().labels, SPACING, 10.0).lesions[0]
    settings = events(new_mean=50, new_max=2)
    for lesions in (
        ScanLesions((replace(lesion, lesion_id=12),), ()),
        ScanLesions((replace(lesion, lesion_id=12),), (), 40),
        ScanLesions((replace(lesion, lesion_id=MAX_LESION_ID - 1),), ()),
        ScanLesions(
            (replace(lesion, lesion_id=3),), (), MAX_LESION_ID, frozenset({*range(1, 6), MAX_LESION_ID})
        ),
    ):
        drawn = [draw_followup(lesions, settings, 0, "scan", n).new for n in (1, 2, 3)]
        ids = [new.lesion_id for draws in drawn for new in draws]
        assert len(ids) == len(set(ids)) and min(ids) > 0 and max(ids) <= MAX_LESION_ID
        assert not {lesion.lesion_id for lesion in lesions.lesions} & set(ids)
        assert not lesions.patient_ids & set(ids)
        assert lesions.highest_id in (0, MAX_LESION_ID) or min(ids) > lesions.highest_id


def test_draws_do_not_depend_on_other_lesions_or_followups() -> None:
    lesion = LabelledLesion(
        5, find_scan_lesions(scan().labels, SPACING, 1.0).lesions[0].box, (1, 1, 1), 500, 1.0
    )
    alone = draw_followup(ScanLesions((lesion,), ()), STILL, 3, "scan", 2)
    both = draw_followup(ScanLesions((lesion, replace(lesion, lesion_id=6)), ()), STILL, 3, "scan", 2)
    assert both.growth[0] == alone.growth[0] and both.motion == alone.motion
    other = draw_followup(ScanLesions((lesion,), ()), STILL, 3, "scan", 1)
    assert other.growth[0] != alone.growth[0]


def test_without_lesions_there_may_still_be_new_ones() -> None:
    followup, records = _records(scan(with_lesions=False), events(new_mean=50, new_max=1))
    assert [record.fate for record in records.values()] == [SyntheticFate.NEW]
    plain, none = _records(scan(with_lesions=False), STILL)
    assert not none and not plain.labels.any()
    np.testing.assert_array_equal(plain.ct, scan(with_lesions=False).ct)


def test_achieved_ratios_are_those_of_the_labelmaps() -> None:
    baseline = scan(with_small=False)
    followup, records = _records(baseline, growth(amplitudes_mm2=(-18.0,)))
    for lesion_id in (BIG, BORDER):
        expected = voxels(followup.labels, lesion_id) / voxels(baseline.labels, lesion_id)
        assert records[lesion_id].achieved_ratio == pytest.approx(expected)
        assert records[lesion_id].fate is SyntheticFate.SHRUNK
    assert records[BORDER].touches_border
