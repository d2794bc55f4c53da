"""Folds of patients, fixed by a seed, and written down in nnU-Net's form.

A patient is in the validation set of exactly one fold, with all scans; nnU-Net's and LongiSeg's random folds
split scans, which puts a patient on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter

from ..case.documents import write_json
from ..case.whole import write_text
from ..errors import InputError

SPLITS_FILE = "splits_final.json"
FOLDS_FILE = "folds.json"


class Fold(BaseModel):
    """The patients of one fold, sorted."""

    model_config = ConfigDict(frozen=True)

    train: tuple[str, ...]
    val: tuple[str, ...]


class FoldsDocument(BaseModel):
    """How the folds were drawn. ``excluded`` are patients who are in none, nor in anything else."""

    model_config = ConfigDict(frozen=True)

    entries: str = "patients"
    seed: int
    count: int
    patients: int
    excluded: tuple[str, ...] = ()


_FOLDS = TypeAdapter(tuple[Fold, ...])


def patient_folds(patients: Sequence[str], count: int, seed: int) -> tuple[Fold, ...]:
    """Shuffle the patients by a seed and deal them out; sizes differ by one at most.

    Depends on nothing but the names, the count and the seed.

    Raises:
        InputError: fewer patients than folds, or fewer than two folds.
    """
    names = sorted(set(patients))
    if count < 2 or len(names) < count:
        raise InputError(
            f"--folds: {count} folds of {len(names)} patients; expected two folds or more, and a patient each"
        )
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    held = [sorted(shuffled[number::count]) for number in range(count)]
    return tuple(Fold(train=tuple(name for name in names if name not in val), val=tuple(val)) for val in held)


def write_folds(folder: Path, folds: Sequence[Fold], document: FoldsDocument) -> None:
    """Write `splits_final.json` and how it came about.

    Raises:
        InputError: the folder holds other folds, which networks may have been trained on.
        OutputError: a file cannot be written.
    """
    path = folder / SPLITS_FILE
    if path.exists():
        if read_folds(folder) != tuple(folds):
            raise _other_folds(folder)
    else:
        # A list, which nnU-Net wants.
        entries = [fold.model_dump(mode="json") for fold in folds]
        write_text(path, json.dumps(entries, indent=1) + "\n")
    write_json(folder / FOLDS_FILE, document.model_dump(mode="json"))


def check_folds(
    folder: Path, patients: Iterable[str], count: int, seed: int, added: Iterable[str] = ()
) -> None:
    """Refuse early what `write_folds` would refuse after the work; a folder without folds takes all.

    Args:
        patients: all who may be in the folds; some can get lost on the way.
        added: of these, those of whom the folder holds nothing, so that its folds were drawn without them.

    Raises:
        InputError: the folder's folds were drawn with another seed, in another number, or of other patients,
            or cannot be read.
    """
    if not (folder / SPLITS_FILE).exists():
        return
    held = read_folds(folder)
    names = {name for fold in held for name in fold.val}
    is_same_draw = 2 <= count <= len(names) and patient_folds(sorted(names), count, seed) == held
    if not is_same_draw or not names <= set(patients) or not names >= set(added):
        raise _other_folds(folder)


def _other_folds(folder: Path) -> InputError:
    return InputError(
        f"{folder / SPLITS_FILE}: holds other folds than these options and patients give; expected the same, "
        "or another folder, as networks may have been trained on them (delete it to draw them anew)"
    )


def read_folds(folder: Path) -> tuple[Fold, ...]:
    """The folds of a prepared data set.

    Raises:
        InputError: they are missing or malformed.
    """
    path = folder / SPLITS_FILE
    try:
        return _FOLDS.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a list of train and val") from error
