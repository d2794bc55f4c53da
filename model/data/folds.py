"""Folds of patients, fixed by a seed, and written down in nnU-Net's form.

A patient is in the validation set of exactly one fold, with all scans; nnU-Net's and LongiSeg's random folds
split scans, which puts a patient on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter

from ..case.atomic_files import write_text
from ..case.lesion_json import write_json
from ..errors import InputError

SPLITS_FILE = "splits_final.json"
FOLDS_FILE = "folds.json"


class Fold(BaseModel):
    """The patients of one fold, sorted."""

    model_config = ConfigDict(frozen=True)

    train: tuple[str, ...]
    val: tuple[str, ...]


class FoldsDocument(BaseModel):
    """How the folds were drawn.

    ``excluded`` are patients who are in none, nor in anything else. ``lost`` are those who could be used, but
    of whose lesions the plan's spacing left none; folds of earlier versions do not say it (None).
    """

    model_config = ConfigDict(frozen=True)

    entries: str = "patients"
    seed: int
    count: int
    patients: int
    excluded: tuple[str, ...] = ()
    lost: tuple[str, ...] | None = None


_FOLDS = TypeAdapter(tuple[Fold, ...])
# More patients than these are not named in one line.
_NAMED = 5


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
    """Write `splits_final.json` and how it came about; where the same is there, lost patients stay named.

    Raises:
        InputError: the folder holds other folds, which networks may have been trained on.
        OutputError: a file cannot be written.
    """
    path = folder / SPLITS_FILE
    if path.exists():
        held = read_folds(folder)
        if held != tuple(folds):
            raise _other_folds(folder, held, _names(folds), document.count, document.seed, _names(folds))
        before = _read_document(folder)
        lost = {*(document.lost or ()), *(before.lost or () if before else ())} - _names(held)
        document = document.model_copy(update={"lost": tuple(sorted(lost))})
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
        added: of these, those whom the folder's folds were drawn without (`added_patients`).

    Raises:
        InputError: the folder's folds were drawn with another seed, in another number, or of other patients,
            which the message names; or they cannot be read.
    """
    if not (folder / SPLITS_FILE).exists():
        return
    held, names, here = read_folds(folder), set(patients), set(added)
    drawn_of = _names(held)
    if not _is_drawn(held, count, seed) or not drawn_of <= names or not here <= drawn_of:
        raise _other_folds(folder, held, names, count, seed, here)


def added_patients(folder: Path, patients: Iterable[str], prepared: Set[str]) -> set[str]:
    """Those of the patients whom the folder's folds were drawn without; nobody where it has no folds.

    Args:
        prepared: patients of whom the folder holds a scan. Where folds of an earlier version do not say who
            was lost, these are taken for it, but for those who were excluded.

    Raises:
        InputError: the folds cannot be read.
    """
    if not (folder / SPLITS_FILE).exists():
        return set()
    document = _read_document(folder)
    if document is not None and document.lost is not None:
        considered = set(document.lost)
    else:
        considered = set(prepared) - set(document.excluded if document else ())
    return set(patients) - _names(read_folds(folder)) - considered


def _is_drawn(folds: tuple[Fold, ...], count: int, seed: int) -> bool:
    """Whether the patients of some folds give these folds."""
    names = sorted(_names(folds))
    return 2 <= count <= len(names) and patient_folds(names, count, seed) == folds


def _names(folds: Iterable[Fold]) -> set[str]:
    return {name for fold in folds for name in fold.val}


def _other_folds(
    folder: Path, held: tuple[Fold, ...], patients: Set[str], count: int, seed: int, added: Set[str]
) -> InputError:
    """In what the folder's folds differ from those that are wanted."""
    faults = [] if _is_drawn(held, count, seed) else _of_another_draw(folder, held, count, seed)
    if missing := sorted(_names(held) - patients):
        faults.append(f"{_listed(missing)} of its folds {'are' if len(missing) > 1 else 'is'} missing")
    wanted = "the same seed, number of folds and patients"
    if new := sorted(added - _names(held)):
        faults.append(f"{_listed(new)} {'are' if len(new) > 1 else 'is'} in none of its folds")
        wanted += f" (--exclude {' '.join(new) if len(new) <= _NAMED else 'them'})"
    return InputError(
        f"{folder / SPLITS_FILE}: {', and '.join(faults) or 'holds other folds'}; expected {wanted}, or "
        "another folder, as networks may have been trained on its folds (delete it to draw them anew)"
    )


def _of_another_draw(folder: Path, held: tuple[Fold, ...], count: int, seed: int) -> list[str]:
    document = _read_document(folder)
    faults = []
    if document is not None and document.seed != seed:
        faults.append(f"was drawn with seed {document.seed}, not {seed}")
    if len(held) != count:
        faults.append(f"holds {len(held)} folds, not {count}")
    return faults or [f"holds other folds than those of seed {seed}"]


def _listed(patients: Sequence[str]) -> str:
    rest = len(patients) - _NAMED
    named = ", ".join(patients[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    return f"patient{'s' if len(patients) > 1 else ''} {named}"


def _read_document(folder: Path) -> FoldsDocument | None:
    """How the folder's folds were drawn; None where nothing tells it."""
    try:
        return FoldsDocument.model_validate_json((folder / FOLDS_FILE).read_bytes())
    except (OSError, ValueError):
        return None


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
