"""Doubts about pairs of scans, from measurements of their registration."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..case.plausibility import PlausibilityKind, PlausibilityNote
from .pair_registrations import RegistrationRecord

# Two dates of one patient gave 0.89 and more after registration, other patients or body parts 0.31 to 0.88.
_UNLIKE = 0.8
# From here on a registration that is only a fall-back is one for another reason, e.g. a half turn.
_ALIKE = 0.97


def pair_notes(records: Iterable[RegistrationRecord]) -> tuple[PlausibilityNote, ...]:
    """Find the pairs that hardly overlap, or look like other patients or other parts of the body.

    Args:
        records: of registrations; one without a comparison has its own warning.

    Returns:
        At most one note per pair, whichever scan was the fixed one.
    """
    notes: dict[frozenset[str], PlausibilityNote] = {}
    for record in records:
        similarity = record.similarity
        is_doubtful = similarity < _UNLIKE or (not record.is_reliable and similarity < _ALIKE)
        if not math.isfinite(similarity) or not is_doubtful:
            continue
        findings = "; ".join(dict.fromkeys(text.split(";")[0] for text in record.warnings))
        seen = findings or f"the two scans match poorly after registration (similarity {similarity:.2f})"
        name = f"{record.followup} and {record.baseline}"
        expected = "scans of one patient and the same part of the body"
        notes.setdefault(
            frozenset((record.followup, record.baseline)),
            PlausibilityNote(name, PlausibilityKind.PAIR, seen, expected),
        )
    return tuple(notes.values())
