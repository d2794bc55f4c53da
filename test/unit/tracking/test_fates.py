"""Fates of lesions, criterion by criterion, on results of countable sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.case.case import LesionResult
from model.errors import InputError
from model.tracking.fates import FateAssessment, FateOptions, LesionFate, assess_fates

from ...helpers.tracking_phantoms import (
    SHAPE,
    cuboid,
    make_prompt,
    make_result,
    make_scan,
    mask_prompt,
    with_shapes,
)

# A voxel is 3 x 1 x 0.5 mm: 0.0015 ml.
LESION = cuboid((3, 7), (5, 11), (6, 14))  # 4 x 6 x 8 voxels: 0.288 ml
OFF = FateOptions(min_probability=None, min_volume_ml=None, merged_overlap=None)


def _result(volume: np.ndarray, lesion_id: int = 1, is_new: bool = False) -> LesionResult:
    return make_result(replace(make_prompt((5.0, 8.0, 10.0), lesion_id), is_new=is_new), volume)


def _one(volume: np.ndarray, options: FateOptions | None = None, is_new: bool = False) -> FateAssessment:
    return assess_fates([_result(volume, 65_535, is_new)], options)[65_535]


def test_persistent_and_new() -> None:
    assert _one(LESION) == FateAssessment(LesionFate.PERSISTENT, "still there; 0.288 ml")
    assert _one(LESION, is_new=True) == FateAssessment(LesionFate.NEW, "no baseline shows it; 0.288 ml")
    assert assess_fates([]) == {}


def test_empty_result_has_vanished_with_all_criteria_off() -> None:
    empty = np.zeros(SHAPE, np.float32)
    for options in (FateOptions(), OFF):
        assert _one(empty, options) == FateAssessment(LesionFate.VANISHED, "no voxel was found", pieces=0)


def test_lesion_given_as_new_without_a_voxel_was_not_found() -> None:
    empty = np.zeros(SHAPE, np.float32)
    assert _one(empty, is_new=True) == FateAssessment(
        LesionFate.NOT_FOUND, "given as new here, but no voxel was found", pieces=0
    )
    assert _one(FAINT, is_new=True) == FateAssessment(
        LesionFate.NEW, "a new lesion, but doubtful: its highest probability 0.59 is below 0.6"
    )


SPECK = cuboid((3, 4), (5, 7), (6, 9))  # 6 voxels: 0.009 ml
FAINT = cuboid((3, 7), (5, 11), (6, 14), value=0.59)


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (FAINT, "its highest probability 0.59 is below 0.6"),
        (SPECK, "its volume of 0.009 ml is below 0.01 ml"),
    ],
)
def test_default_criteria_of_vanished_lesions(volume: np.ndarray, reason: str) -> None:
    assert _one(volume) == FateAssessment(LesionFate.VANISHED, reason, pieces=0)
    assert _one(volume, OFF).fate is LesionFate.PERSISTENT


def test_maximum_and_mean_probability_criteria() -> None:
    volume = FAINT.copy()
    volume[4, 7, 8] = 0.95
    assert _one(volume).fate is LesionFate.PERSISTENT
    fate = _one(volume, FateOptions(min_mean_probability=0.7))
    assert fate == FateAssessment(LesionFate.VANISHED, "its mean probability 0.59 is below 0.7", pieces=0)


def test_lesion_of_exactly_the_minimum_volume_persists() -> None:
    volume_ml = 0.0015 * 192
    assert _one(LESION, FateOptions(min_volume_ml=volume_ml)).fate is LesionFate.PERSISTENT
    assert _one(LESION, FateOptions(min_volume_ml=volume_ml + 1e-4)).fate is LesionFate.VANISHED


def test_diameter_is_measured_within_slices() -> None:
    # 6 rows of 1 mm and 8 columns of 0.5 mm; the 12 mm along z are no diameter of a slice.
    diameter = float(np.hypot(6.0, 3.5))
    assert _one(LESION, FateOptions(min_diameter_mm=diameter - 0.01)).fate is LesionFate.PERSISTENT
    fate = _one(LESION, FateOptions(min_diameter_mm=diameter + 0.1))
    assert fate.reason == "its longest diameter of 6.9 mm is below 7.04622 mm"


def test_hu_criterion_uses_the_mean_within_the_lesion() -> None:
    ct = np.full(SHAPE, -800.0, np.float32)
    ct[LESION > 0] = 40.0
    ct[4, 7, 8] = np.nan
    result = make_result(make_prompt((5.0, 8.0, 10.0), followup=make_scan(ct)), LESION)
    assert assess_fates([result], FateOptions(hu_window=(-100, 300)))[1].fate is LesionFate.PERSISTENT
    assert assess_fates([result], FateOptions(hu_window=(40, 41)))[1].fate is LesionFate.PERSISTENT
    fate = assess_fates([result], FateOptions(hu_window=(50, 300)))[1]
    assert fate == FateAssessment(
        LesionFate.VANISHED, "its mean of 40 HU lies outside of 50 to 300 HU", pieces=0
    )
    blank = make_result(
        make_prompt((5.0, 8.0, 10.0), followup=make_scan(np.full(SHAPE, np.nan, np.float32))), LESION
    )
    assert assess_fates([blank], FateOptions(hu_window=(50, 300)))[1].fate is LesionFate.PERSISTENT


# --- merged


def test_lesions_that_share_half_of_the_smaller_one_are_merged() -> None:
    small = cuboid((3, 7), (5, 11), (10, 18))  # half of it lies on the other
    found = assess_fates([_result(LESION, 300), _result(small, 65_535)])
    reason = "it overlaps lesion {} (50 % of the smaller one)"
    assert found[300] == FateAssessment(LesionFate.MERGED, reason.format(65_535), (65_535,))
    assert found[65_535] == FateAssessment(LesionFate.MERGED, reason.format(300), (300,))
    less = cuboid((3, 7), (5, 11), (11, 19))
    kept = assess_fates([_result(LESION, 300), _result(less, 65_535)])
    assert {fate.fate for fate in kept.values()} == {LesionFate.PERSISTENT}


def test_small_lesion_inside_a_large_one_is_merged() -> None:
    inside = cuboid((4, 6), (6, 9), (7, 11))
    assert assess_fates([_result(LESION, 1), _result(inside, 2)])[1].merged_with == (2,)
    off = assess_fates([_result(LESION, 1), _result(inside, 2)], FateOptions(merged_overlap=None))
    assert off[1].fate is off[2].fate is LesionFate.PERSISTENT


def test_touching_neighbours_are_not_merged() -> None:
    beside = cuboid((3, 7), (5, 11), (14, 22))
    found = assess_fates([_result(LESION, 1), _result(beside, 2)])
    assert found[1].fate is found[2].fate is LesionFate.PERSISTENT


def test_chain_of_overlaps_is_one_mass() -> None:
    chain = [
        _result(cuboid((3, 7), (5, 11), (start, start + 8)), lesion_id)
        for lesion_id, start in ((9, 2), (4, 6), (7, 10))
    ]
    found = assess_fates(chain)
    assert (
        found[9].merged_with == (4, 7) and found[4].merged_with == (7, 9) and found[7].merged_with == (4, 9)
    )
    assert found[9].reason == "it overlaps lesion 4 (50 % of the smaller one); one mass with 7"


def test_vanished_lesions_are_not_merged_but_new_ones_may_be() -> None:
    faint = cuboid((4, 6), (6, 9), (7, 11), value=0.55)
    found = assess_fates([_result(LESION, 1), _result(faint, 2)])
    assert found[1].fate is LesionFate.PERSISTENT and found[2].fate is LesionFate.VANISHED
    found = assess_fates([_result(LESION, 1), _result(LESION, 2, is_new=True)])
    assert found[2].fate is LesionFate.MERGED


# --- split

PIECES = LESION + cuboid((3, 7), (14, 18), (6, 14))  # 0.288 and 0.192 ml


def test_two_large_pieces_are_a_split() -> None:
    assert _one(PIECES) == FateAssessment(LesionFate.SPLIT, "2 pieces of 0.288, 0.192 ml", pieces=2)
    assert _one(PIECES, is_new=True).fate is LesionFate.NEW
    assert _one(PIECES, is_new=True).pieces == 2


def test_lesions_of_one_mass_before_that_are_apart_now_are_split() -> None:
    other = cuboid((3, 7), (14, 18), (6, 14))
    results, masses = [_result(LESION, 1), _result(other, 2)], {1: (2, 3), 2: (1, 3)}
    found = assess_fates(results, masses=masses)
    assert found[1] == FateAssessment(
        LesionFate.SPLIT, "apart from lesion 2, with which it was one mass before"
    )
    assert found[2].fate is LesionFate.SPLIT
    # Still one mass, the other lesion gone, and in pieces.
    assert assess_fates([_result(LESION, 1), _result(LESION, 2)], masses=masses)[1].fate is LesionFate.MERGED
    gone = _result(np.zeros(SHAPE, np.float32), 2)
    assert assess_fates([_result(LESION, 1), gone], masses=masses)[1].fate is LesionFate.PERSISTENT
    in_pieces = assess_fates(
        [_result(PIECES, 1), _result(cuboid((9, 11), (1, 3), (1, 20)), 2)], masses=masses
    )
    assert in_pieces[1].reason.endswith("one mass before; 2 pieces of 0.288, 0.192 ml")


def test_small_pieces_are_not_a_split() -> None:
    crumb = cuboid((3, 5), (14, 18), (6, 9))  # 24 voxels: 0.036 ml, 11 %
    assert _one(LESION + crumb).fate is LesionFate.PERSISTENT
    assert _one(LESION + crumb, FateOptions(min_piece_ml=0.036)).pieces == 2
    assert _one(LESION + crumb, FateOptions(min_piece_ml=0.0, min_piece_share=0.12)).pieces == 1


def test_pieces_that_touch_by_a_corner_are_one() -> None:
    assert _one(LESION + cuboid((7, 11), (11, 16), (14, 22))).fate is LesionFate.PERSISTENT


def test_only_pieces_near_the_expected_mask_are_a_split() -> None:
    result = _result(PIECES)
    expected = mask_prompt(LESION)  # its last row is y = 10, the other piece begins at y = 14: 4 mm
    assert assess_fates([result], expected={1: expected})[1].pieces == 2
    assert assess_fates([result], FateOptions(reach_mm=4.0), expected={1: expected})[1].pieces == 2
    assert (
        assess_fates([result], FateOptions(reach_mm=3.9), expected={1: expected})[1].fate
        is LesionFate.PERSISTENT
    )
    assert assess_fates([result], FateOptions(reach_mm=None), expected={1: expected})[1].pieces == 2


def test_prompt_mask_is_the_expected_mask_by_default() -> None:
    prompted = with_shapes(make_prompt((5.0, 8.0, 10.0)), LESION)
    assert (
        assess_fates([make_result(prompted, PIECES)], FateOptions(reach_mm=1.0))[1].fate
        is LesionFate.PERSISTENT
    )
    both = {1: mask_prompt(PIECES)}
    assert (
        assess_fates([make_result(prompted, PIECES)], FateOptions(reach_mm=0.0), expected=both)[1].pieces == 2
    )


def test_ring_is_one_piece() -> None:
    ring = cuboid((5, 6), (4, 16), (4, 20)) - cuboid((5, 6), (7, 13), (8, 16))
    assert _one(ring).fate is LesionFate.PERSISTENT


def test_merged_has_precedence_over_split_and_pieces_are_counted() -> None:
    found = assess_fates([_result(PIECES, 1), _result(LESION, 2)])
    assert found[1].fate is LesionFate.MERGED and found[1].pieces == 2


# --- given fates


def test_results_have_precedence_over_given_out_of_view_and_failed() -> None:
    found = assess_fates(
        [_result(LESION, 3)],
        out_of_view={1: "its point lies 12 mm below the scan", 2: "x", 3: "x"},
        failed={2: "no overlap"},
    )
    assert found[1] == FateAssessment(LesionFate.OUT_OF_VIEW, "its point lies 12 mm below the scan", pieces=0)
    assert found[2] == FateAssessment(LesionFate.FAILED, "no overlap", pieces=0)
    assert found[3].fate is LesionFate.PERSISTENT


def test_repeated_lesion_id_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        assess_fates([_result(LESION, 1), _result(PIECES, 1)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_probability": 1.5},
        {"merged_overlap": 0.0},
        {"min_piece_share": -0.1},
        {"hu_window": (300, -100)},
    ],
)
def test_fate_options_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        FateOptions(**wrong)  # type: ignore[arg-type]
