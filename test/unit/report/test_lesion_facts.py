"""The table of lesion facts, and its faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from model.report.lesion_facts import LesionFacts, read_lesion_facts


def _table(folder: Path, text: str) -> Path:
    path = folder / "facts.csv"
    path.write_text(text)
    return path


def test_facts_by_patient(tmp_path: Path) -> None:
    text = "patient,lesion,organ,node,target,type\nA,1,liver,no,yes,metastasis\nA,2,,yes,,\nB,1,lung,,no,\n"
    table = read_lesion_facts(_table(tmp_path, text))
    assert table.of_patient("A") == {
        1: LesionFacts("liver", False, True, "metastasis"),
        2: LesionFacts(is_node=True),
    }
    assert table.of_patient("B") == {1: LesionFacts("lung", is_target=False)}
    everyone = read_lesion_facts(_table(tmp_path, "lesion;organ\n7;bone\n"))
    assert everyone.of_patient("any") == {7: LesionFacts("bone")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("organ\nliver\n", "the column lesion is missing"),
        ("lesion,colour\n1,red\n", "the column 'colour' is unknown"),
        ("lesion\none\n", "row 2: 'one' is no lesion id"),
        ("lesion,node\n1,perhaps\n", "row 2: node is 'perhaps'"),
        ("lesion\n1\n1\n", "row 3: lesion 1 is there twice"),
    ],
)
def test_faults(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_lesion_facts(_table(tmp_path, text))
