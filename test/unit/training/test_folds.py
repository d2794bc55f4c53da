"""Folds of patients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InputError
from model.training.folds import FoldsDocument, check_folds, patient_folds, read_folds, write_folds

NAMES = [f"p{number:02d}" for number in range(23)]


@given(st.sets(st.text("abc0123", min_size=1, max_size=6), min_size=5, max_size=40), st.integers(0, 2**32))
def test_each_patient_is_held_out_once(names: set[str], seed: int) -> None:
    folds = patient_folds(sorted(names), 5, seed)
    assert sorted(name for fold in folds for name in fold.val) == sorted(names)
    for fold in folds:
        assert not set(fold.train) & set(fold.val) and set(fold.train) | set(fold.val) == names
    sizes = [len(fold.val) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_a_seed_fixes_the_folds_whatever_the_order() -> None:
    assert patient_folds(NAMES, 5, 7) == patient_folds(NAMES[::-1], 5, 7)
    assert patient_folds(NAMES, 5, 7) != patient_folds(NAMES, 5, 8)
    # Written down: folds drawn today are those of next year.
    assert patient_folds(NAMES[:5], 5, 0)[0].val == ("p02",)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(InputError, match="5 folds of 4 patients"):
        patient_folds(NAMES[:4], 5, 0)


def test_folds_are_written_in_the_form_of_nnunet(tmp_path: Path) -> None:
    folds = patient_folds(NAMES, 5, 3)
    document = FoldsDocument(seed=3, count=5, patients=23, excluded=("x",))
    write_folds(tmp_path, folds, document)
    written = json.loads((tmp_path / "splits_final.json").read_text())
    assert isinstance(written, list) and [set(fold) for fold in written] == [{"train", "val"}] * 5
    assert read_folds(tmp_path) == folds
    said = json.loads((tmp_path / "folds.json").read_text())
    assert (said["seed"], said["entries"], said["excluded"]) == (3, "patients", ["x"])


def test_other_folds_are_not_overwritten(tmp_path: Path) -> None:
    document = FoldsDocument(seed=3, count=5, patients=23)
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    with pytest.raises(InputError, match="holds other folds"):
        write_folds(tmp_path, patient_folds(NAMES, 5, 4), document)


def test_other_folds_are_known_before_the_work(tmp_path: Path) -> None:
    check_folds(tmp_path, NAMES, 5, 3)
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), FoldsDocument(seed=3, count=5, patients=23))
    check_folds(tmp_path, NAMES, 5, 3)
    check_folds(tmp_path, [*NAMES, "lost on the way"], 5, 3)
    for patients, count, seed, added in (
        (NAMES, 5, 4, ()),
        (NAMES, 4, 3, ()),
        (NAMES, 99, 3, ()),
        (NAMES[1:], 5, 3, ()),
        ([*NAMES, "new"], 5, 3, ("new",)),
    ):
        with pytest.raises(InputError, match="holds other folds"):
            check_folds(tmp_path, patients, count, seed, added)
    (tmp_path / "splits_final.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        check_folds(tmp_path, NAMES, 5, 3)
