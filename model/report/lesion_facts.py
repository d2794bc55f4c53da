"""What a reader knows of lesions and no labelmap shows: organ, node, target; from an optional CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..case.text_files import TableRow, read_table
from ..case.voxel_checks import MAX_LESION_ID
from ..errors import InputError

_COLUMNS = ("patient", "lesion", "organ", "node", "target", "type")
_EXPECTED = "a table with the column lesion, and patient, organ, node, target or type"
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class LesionFacts:
    """Facts of one lesion.

    Attributes:
        organ: None if it is not known.
        is_node: a lymph node, which is judged by its short axis.
        is_target: None to choose by size.
        kind: any words, e.g. primary or metastasis; None if they are not given.
    """

    organ: str | None = None
    is_node: bool = False
    is_target: bool | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class FactsTable:
    """Facts by patient and lesion id; the patient is None in a table without that column."""

    facts: Mapping[tuple[str | None, int], LesionFacts] = field(default_factory=dict)

    def of_patient(self, patient: str) -> dict[int, LesionFacts]:
        """Lesion id -> facts of one patient."""
        return {
            lesion_id: facts for (name, lesion_id), facts in self.facts.items() if name in (None, patient)
        }


def read_lesion_facts(path: Path) -> FactsTable:
    """Read a CSV with the columns lesion, and any of patient, organ, node, target and type.

    Raises:
        InputError: it cannot be used; the message names the row.
    """
    names, rows = read_table(path, _EXPECTED)
    unknown = [name for name in names if name not in _COLUMNS]
    if "lesion" not in names or unknown:
        fault = f"the column {unknown[0]!r} is unknown" if unknown else "the column lesion is missing"
        raise InputError(f"{path}: {fault}; expected {_EXPECTED}")
    facts: dict[tuple[str | None, int], LesionFacts] = {}
    for row in rows:
        key = (row.cells.get("patient") or None, _lesion_id(path, row))
        if key in facts:
            raise InputError(
                f"{path}: row {row.line}: lesion {key[1]} is there twice; expected one row of it"
            )
        facts[key] = LesionFacts(
            organ=row.cells.get("organ") or None,
            is_node=bool(_word(path, row, "node")),
            is_target=_word(path, row, "target"),
            kind=row.cells.get("type") or None,
        )
    return FactsTable(facts)


def _lesion_id(path: Path, row: TableRow) -> int:
    text = row.cells["lesion"]
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= MAX_LESION_ID):
        raise InputError(
            f"{path}: row {row.line}: {text[:40]!r} is no lesion id; expected 1 to {MAX_LESION_ID}"
        )
    return int(text)


def _word(path: Path, row: TableRow, column: str) -> bool | None:
    text = row.cells.get(column, "").lower()
    if text and text not in _WORDS:
        raise InputError(f"{path}: row {row.line}: {column} is {text[:40]!r}; expected yes, no or nothing")
    return _WORDS.get(text)
