"""The ledger's file, and the data sets it belongs to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.comparison.inputs import DataSet
from model.comparison.ledger import Ledger, PredictionEntry, read_ledger, with_digests, write_ledger
from model.errors import InputError

from ...helpers.comparison_stand_ins import context_of


def test_an_unreadable_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text("{")
    with pytest.raises(InputError, match=r"ledger.json: is not valid JSON .*; expected the ledger"):
        read_ledger(tmp_path / "ledger.json")


def test_a_ledger_keeps_its_keys_on_disk(tmp_path: Path) -> None:
    entry = PredictionEntry(row="point", patients="test", setting="given", folds=("0", "1"), minutes=1.5)
    write_ledger(tmp_path / "ledger.json", Ledger(data="d1", predictions=(entry,)))
    document = json.loads((tmp_path / "ledger.json").read_text())
    assert list(document) == ["data", "pretraining", "test", "calls", "trainings", "answers"]
    assert document["answers"] == [
        {
            "row": "point",
            "asked": "test",
            "question": "given",
            "folds": ["0", "1"],
            "state": "not run",
            "minutes": 1.5,
            "score": None,
            "failed": [],
        }
    ]
    assert read_ledger(tmp_path / "ledger.json").predictions == (entry,)


def test_the_ledger_of_other_data_is_refused(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    ledger = with_digests(Ledger(), context)
    assert (ledger.data, ledger.pretraining, ledger.test) == ("d1", "p1", "t1")
    assert with_digests(ledger, replace(context, test=None)).test == "t1"
    other = replace(context, pretraining=DataSet(Path("syn"), 1, 1, 1, "p2"))
    with pytest.raises(
        InputError, match=r"ledger.json: belongs to another data set than syn; expected the same"
    ):
        with_digests(ledger, other)
