"""Doubts about pairs of scans, by what their registration measured anyway."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..case.plausibility import PlausibilityKind, PlausibilityNote
from .pair_registrations import RegistrationRecord


def pair_notes(records: Iterable[RegistrationRecord]) -> tuple[PlausibilityNote, ...]:
    """Find the pairs that hardly overlap, or look like other patients or other parts of the body.

    Args:
        records: of registrations; one that compared nothing says so itself.

    Returns:
        At most one note per pair, whichever scan was the fixed one.
    """
    notes: dict[frozenset[str], PlausibilityNote] = {}
    for record in records:
        if record.is_reliable or not math.isfinite(record.similarity):
            continue
        findings = "; ".join(dict.fromkeys(text.split(";")[0] for text in record.warnings))
        seen = findings or f"the scans match poorly (similarity {record.similarity:.2f})"
        name = f"{record.followup} and {record.baseline}"
        expected = "scans of one patient and the same part of the body"
        notes.setdefault(
            frozenset((record.followup, record.baseline)),
            PlausibilityNote(name, PlausibilityKind.PAIR, seen, expected),
        )
    return tuple(notes.values())
