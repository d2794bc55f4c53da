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


def test_a_pair_that_could_not_be_compared_says_so_itself() -> None:
    assert pair_notes([_record(float("nan"), ("the fixed scan is too small",))]) == ()
