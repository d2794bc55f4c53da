"""Doubts about pairs of scans."""

from __future__ import annotations

from model.propagation.pair_plausibility import pair_notes
from model.propagation.pair_registrations import RegistrationRecord

POOR = ("the two scans match poorly after registration (similarity 0.41); propagated points may be far off",)


def _record(
    similarity: float, warnings: tuple[str, ...], names: tuple[str, str] = ("b", "a")
) -> RegistrationRecord:
    return RegistrationRecord(names[0], names[1], 1.0, similarity, not warnings, warnings)


def test_a_pair_that_matches_poorly_is_told_once() -> None:
    notes = pair_notes([_record(0.41, POOR), _record(0.45, POOR, ("a", "b")), _record(0.9, ())])
    assert [note.sentence for note in notes] == [
        "b and a: the two scans match poorly after registration (similarity 0.41); expected scans of one "
        "patient and the same part of the body"
    ]


def test_a_pair_that_matches_less_than_two_dates_of_a_patient_do_is_told() -> None:
    (note,) = pair_notes([_record(0.74, ())])
    assert note.seen == "the two scans match poorly after registration (similarity 0.74)"
    assert pair_notes([_record(0.89, ())]) == ()


def test_little_overlap_is_told_and_a_half_turn_is_not() -> None:
    (note,) = pair_notes([_record(0.93, ("the two scans have only 8% of the smaller one's body in common",))])
    assert "only 8%" in note.seen
    turned = ("the patient's position differs by half a turn from what the scans' headers say",)
    assert pair_notes([_record(0.995, turned)]) == ()


def test_a_pair_that_could_not_be_compared_says_so_itself() -> None:
    assert pair_notes([_record(float("nan"), ("the fixed scan is too small",))]) == ()
