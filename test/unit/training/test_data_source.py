"""Grouping scan pairs by patient, and swapping baseline and follow-up."""

from __future__ import annotations

import pytest

from model.errors import InputError
from model.training.data_source import patients_of, reversed_pair

from ...helpers.training_phantoms import pair


def test_reversing_a_pair_swaps_scans_and_lesions() -> None:
    one = pair("P0")
    swapped = reversed_pair(one)
    assert (swapped.baseline, swapped.followup) == (one.followup, one.baseline)
    ids = [(lesion.lesion_id, lesion.followup_ids) for lesion in swapped.lesions]
    assert ids == [(1, (1,)), (3, (3, 4)), (3, (3, 4)), (4, (3, 4)), (4, (3, 4))]
    assert swapped.lesions[0].baseline_point_zyx == (15, 13, 16)


def test_patients_of_a_fold_without_a_pair_are_refused() -> None:
    with pytest.raises(InputError, match="patient Z: has no prepared pair"):
        patients_of([pair("P0")], ["P0", "Z"])
