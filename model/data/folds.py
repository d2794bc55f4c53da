"""Folds of patients, drawn by a seed and written in nnU-Net's format.

A patient is in the validation set of exactly one fold, with all scans; nnU-Net's and LongiSeg's random folds
split scans, which puts patients on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..case.atomic_files import write_text
from ..case.lesion_json import write_json
from ..case.text_files import read_json
from ..errors import InputError

SPLITS_FILE = "splits_final.json"
FOLDS_FILE = "folds.json"


class Fold(BaseModel):
    """The patients of one fold, sorted."""

    model_config = ConfigDict(frozen=True)

    train: tuple[str, ...]
    val: tuple[str, ...]


class FoldsDocument(BaseModel):
    """Content of `folds.json`: how the folds were drawn.

    Attributes:
        entries: what the folds list.
        seed: seed of the draw.
        count: number of folds.
        patients: number of patients.
        excluded: patients excluded from everything.
        lost: usable patients with no lesion left at the plan's spacing; None in files of earlier versions.
    """

    model_config = ConfigDict(frozen=True)

    entries: str = "patients"
    seed: int
    count: int
    patients: int
    excluded: tuple[str, ...] = ()
    lost: tuple[str, ...] | None = None


_FOLDS = TypeAdapter(tuple[Fold, ...])
# Largest number of patients named in one line.
_NAMED = 5


def patient_folds(patients: Sequence[str], count: int, seed: int) -> tuple[Fold, ...]:
    """Shuffle the patients by a seed and deal them out to folds, whose sizes differ by one at most.

    Depends on the names, the count and the seed alone.

    Raises:
        InputError: fewer patients than folds, or fewer than two folds.
    """
    names = sorted(set(patients))
    if count < 2 or len(names) < count:
        raise InputError(
            f"--folds: {count} folds of {len(names)} patients; expected two folds or more, and a patient each"
        )
    shuffled = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    vals = [sorted(shuffled[number::count]) for number in range(count)]
    return tuple(Fold(train=tuple(name for name in names if name not in val), val=tuple(val)) for val in vals)


def write_folds(folder: Path, folds: Sequence[Fold], document: FoldsDocument) -> None:
    """Write `splits_final.json` and `folds.json`; patients that equal earlier folds list as lost stay listed.

    Raises:
        InputError: the folder holds other folds, which networks may have been trained on.
        OutputError: a file cannot be written.
    """
    path = folder / SPLITS_FILE
    if path.exists():
        existing = read_folds(folder)
        if existing != tuple(folds):
            raise _conflict(folder, existing, _names(folds), document.count, document.seed, _names(folds))
        before = _read_folds_document(folder)
        lost = {*(document.lost or ()), *(before.lost or () if before else ())} - _names(existing)
        document = document.model_copy(update={"lost": tuple(sorted(lost))})
    else:
        # nnU-Net expects a list.
        entries = [fold.model_dump(mode="json") for fold in folds]
        write_text(path, json.dumps(entries, indent=1) + "\n")
    write_json(folder / FOLDS_FILE, document.model_dump(mode="json"))


def check_folds(
    folder: Path, patients: Iterable[str], count: int, seed: int, added: Iterable[str] = ()
) -> None:
    """Raise early what `write_folds` would raise after the work; a folder without folds has no conflict.

    Args:
        folder: the prepared data set.
        patients: all candidates for the folds; resampling may still lose some of them.
        count: number of folds.
        seed: seed of the draw.
        added: those of the patients who are new to the folder's folds (`added_patients`).

    Raises:
        InputError: the folder's folds have another seed, number or set of patients, or cannot be read.
    """
    if not (folder / SPLITS_FILE).exists():
        return
    existing, names, new = read_folds(folder), set(patients), set(added)
    split = _names(existing)
    if not _is_drawn(existing, count, seed) or not split <= names or not new <= split:
        raise _conflict(folder, existing, names, count, seed, new)


def added_patients(folder: Path, patients: Iterable[str], prepared: Set[str]) -> set[str]:
    """Return the patients who are new to the folder's folds; none if it has no folds.

    Args:
        folder: the prepared data set.
        patients: all candidates for the folds.
        prepared: patients with a scan in the folder. Folds of an earlier version do not list lost patients;
            these, except excluded ones, count as lost then.

    Raises:
        InputError: the folds cannot be read.
    """
    if not (folder / SPLITS_FILE).exists():
        return set()
    document = _read_folds_document(folder)
    if document is not None and document.lost is not None:
        considered = set(document.lost)
    else:
        considered = set(prepared) - set(document.excluded if document else ())
    return set(patients) - _names(read_folds(folder)) - considered


def _is_drawn(folds: tuple[Fold, ...], count: int, seed: int) -> bool:
    """True if a seed and a count give exactly these folds of their patients."""
    names = sorted(_names(folds))
    return 2 <= count <= len(names) and patient_folds(names, count, seed) == folds


def _names(folds: Iterable[Fold]) -> set[str]:
    return {name for fold in folds for name in fold.val}


def _conflict(
    folder: Path, existing: tuple[Fold, ...], patients: Set[str], count: int, seed: int, added: Set[str]
) -> InputError:
    """Error that lists the differences between the folder's folds and the requested ones."""
    faults = [] if _is_drawn(existing, count, seed) else _draw_differences(folder, existing, count, seed)
    if missing := sorted(_names(existing) - patients):
        faults.append(f"{_listed(missing)} of its folds {'are' if len(missing) > 1 else 'is'} missing")
    expected = "the same seed, number of folds and patients"
    if new := sorted(added - _names(existing)):
        faults.append(f"{_listed(new)} {'are' if len(new) > 1 else 'is'} in none of its folds")
        expected += f" (--exclude {' '.join(new) if len(new) <= _NAMED else 'them'})"
    return InputError(
        f"{folder / SPLITS_FILE}: {', and '.join(faults) or 'holds other folds'}; expected {expected}, or "
        "another folder, as networks may have been trained on its folds (delete it to draw new ones)"
    )


def _draw_differences(folder: Path, existing: tuple[Fold, ...], count: int, seed: int) -> list[str]:
    document = _read_folds_document(folder)
    faults = []
    if document is not None and document.seed != seed:
        faults.append(f"was drawn with seed {document.seed}, not {seed}")
    if len(existing) != count:
        faults.append(f"holds {len(existing)} folds, not {count}")
    return faults or [f"holds other folds than those of seed {seed}"]


def _listed(patients: Sequence[str]) -> str:
    rest = len(patients) - _NAMED
    named = ", ".join(patients[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    return f"patient{'s' if len(patients) > 1 else ''} {named}"


def _read_folds_document(folder: Path) -> FoldsDocument | None:
    """Read `folds.json`; None if it is missing or invalid."""
    try:
        return FoldsDocument.model_validate(read_json(folder / FOLDS_FILE, "the folds of a data set"))
    except (InputError, ValueError):
        return None


def read_folds(folder: Path) -> tuple[Fold, ...]:
    """Read the folds of a prepared data set.

    Raises:
        InputError: they are missing or malformed.
    """
    path = folder / SPLITS_FILE
    try:
        return _FOLDS.validate_python(read_json(path, "a list of train and val"))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "it"
        raise InputError(
            f"{path}: {place} cannot be used ({fault['msg']}); expected a list of train and val"
        ) from error
