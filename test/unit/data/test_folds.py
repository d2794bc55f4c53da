"""Folds of patients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.folds import (
    FoldsDocument,
    added_patients,
    check_folds,
    patient_folds,
    read_folds,
    write_folds,
)
from model.errors import InputError

NAMES = [f"p{number:02d}" for number in range(23)]


@pytest.mark.slow
@given(st.sets(st.text("abc0123", min_size=1, max_size=6), min_size=5, max_size=40), st.integers(0, 2**32))
def test_each_patient_is_held_out_once(names: set[str], seed: int) -> None:
    folds = patient_folds(sorted(names), 5, seed)
    assert sorted(name for fold in folds for name in fold.val) == sorted(names)
    for fold in folds:
        assert not set(fold.train) & set(fold.val) and set(fold.train) | set(fold.val) == names
    sizes = [len(fold.val) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_folds_depend_on_the_seed_not_on_the_order() -> None:
    assert patient_folds(NAMES, 5, 7) == patient_folds(NAMES[::-1], 5, 7)
    assert patient_folds(NAMES, 5, 7) != patient_folds(NAMES, 5, 8)
    # Pinned: the draw must never change.
    assert patient_folds(NAMES[:5], 5, 0)[0].val == ("p02",)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(InputError, match="5 folds of 4 patients"):
        patient_folds(NAMES[:4], 5, 0)


def test_folds_are_written_in_the_format_of_nnunet(tmp_path: Path) -> None:
    folds = patient_folds(NAMES, 5, 3)
    document = FoldsDocument(seed=3, count=5, patients=23, excluded=("x",))
    write_folds(tmp_path, folds, document)
    written = json.loads((tmp_path / "splits_final.json").read_text())
    assert isinstance(written, list) and [set(fold) for fold in written] == [{"train", "val"}] * 5
    assert read_folds(tmp_path) == folds
    described = json.loads((tmp_path / "folds.json").read_text())
    assert (described["seed"], described["entries"], described["excluded"]) == (3, "patients", ["x"])


def test_conflicting_folds_are_not_overwritten(tmp_path: Path) -> None:
    document = FoldsDocument(seed=3, count=5, patients=23)
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="was drawn with seed 3, not 4"):
        write_folds(tmp_path, patient_folds(NAMES, 5, 4), document.model_copy(update={"seed": 4}))
    with pytest.raises(InputError, match="patients found, late are in none of its folds"):
        write_folds(tmp_path, patient_folds([*NAMES, "late", "found"], 5, 3), document)
    with pytest.raises(InputError, match="patient p00 of its folds is missing"):
        write_folds(tmp_path, patient_folds(NAMES[1:], 5, 3), document)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_conflicting_folds_are_found_before_the_work(tmp_path: Path) -> None:
    check_folds(tmp_path, NAMES, 5, 3)
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), FoldsDocument(seed=3, count=5, patients=23))
    check_folds(tmp_path, NAMES, 5, 3)
    check_folds(tmp_path, [*NAMES, "lost later"], 5, 3)
    more = [*NAMES, *"abcdefg"]
    for patients, count, seed, added, reasons in (
        (NAMES, 5, 4, (), "was drawn with seed 3, not 4"),
        (NAMES, 4, 3, (), "holds 5 folds, not 4"),
        (NAMES, 99, 9, (), "was drawn with seed 3, not 9, and holds 5 folds, not 99"),
        (NAMES[1:], 5, 3, (), "patient p00 of its folds is missing"),
        (NAMES[2:], 5, 4, (), "was drawn with seed 3, not 4, and patients p00, p01 of its folds are missing"),
        ([*NAMES, "new"], 5, 3, ("new",), "patient new is in none of its folds"),
        (more, 5, 3, more, "patients a, b, c, d, e and 2 more are in none of its folds"),
    ):
        with pytest.raises(InputError) as error:
            check_folds(tmp_path, patients, count, seed, added)
        option = f" (--exclude {'them' if len(added) > 5 else ' '.join(added)})" if added else ""
        assert str(error.value) == (
            f"{tmp_path}/splits_final.json: {reasons}; expected the same seed, number of folds and patients"
            f"{option}, or another folder, as networks may have been trained on its folds (delete it to draw "
            "new ones)"
        )
    (tmp_path / "folds.json").unlink()
    with pytest.raises(InputError, match="holds other folds than those of seed 4; expected"):
        check_folds(tmp_path, NAMES, 5, 4)
    (tmp_path / "splits_final.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        check_folds(tmp_path, NAMES, 5, 3)


def test_patients_lost_in_resampling_are_not_new_to_the_folds(tmp_path: Path) -> None:
    candidates = [*NAMES, "lost", "late", "out"]
    assert added_patients(tmp_path, candidates, set()) == set()
    document = FoldsDocument(seed=3, count=5, patients=23, excluded=("out",), lost=("lost",))
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    # Prepared scans do not matter if the folds list lost patients.
    for prepared in (set(), {"out", "lost"}, set(candidates)):
        assert added_patients(tmp_path, candidates, prepared) == {"late", "out"}
    # A run without them keeps them listed as lost.
    again = document.model_copy(update={"excluded": ("lost", "out"), "lost": ()})
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), again)
    assert added_patients(tmp_path, candidates, set()) == {"late", "out"}


def test_folds_of_earlier_versions_are_read(tmp_path: Path) -> None:
    document = FoldsDocument(seed=3, count=5, patients=23, excluded=("out",))
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    described = json.loads((tmp_path / "folds.json").read_text())
    del described["lost"]
    (tmp_path / "folds.json").write_text(json.dumps(described))
    candidates = [*NAMES, "lost", "late", "out"]
    assert added_patients(tmp_path, candidates, {"lost", "out"}) == {"late", "out"}
    (tmp_path / "folds.json").unlink()
    assert added_patients(tmp_path, candidates, {"lost", "out"}) == {"late"}
    write_folds(tmp_path, patient_folds(NAMES, 5, 3), document)
    assert added_patients(tmp_path, candidates, {"out"}) == {"lost", "late", "out"}
