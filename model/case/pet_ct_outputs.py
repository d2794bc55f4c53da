"""Files that a run on a PET/CT writes: their names, and the removal of those of an earlier run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, OutputError
from .atomic_files import remove_partial_files
from .input_files import path_exists
from .lesion_json import check_writable
from .stored_image import IMAGE_SUFFIXES, READ_SUFFIXES
from .task_choice import MASK_FOLDER

log = logging.getLogger(__name__)

RUN_FILE, TABLE_FILE = "run.json", "lesions.csv"
LESIONS_FILE, PROBABILITY_FILE, ORGANS_FILE = "lesions.mha", "probability.mha", "organs.mha"
EXTRA_FILES = (RUN_FILE, TABLE_FILE, LESIONS_FILE, PROBABILITY_FILE, ORGANS_FILE)
"""All names that a run may write into the folder of its extras."""


def platform_mask(output_dir: Path, ct_path: Path) -> Path:
    """The file of the mask in the platform's output folder: named as the CT, as `.mha`."""
    name = ct_path.name
    suffix = max((one for one in READ_SUFFIXES if name.lower().endswith(one)), key=len, default="")
    return output_dir / MASK_FOLDER / f"{name.removesuffix(name[len(name) - len(suffix) :])}.mha"


def remove_stale_masks(output_dir: Path) -> None:
    """Delete all masks of earlier runs from the platform's output folder, which holds one.

    That of another CT would be taken for the result of this run, and most of all of a failing one.

    Raises:
        OutputError: one cannot be deleted.
    """
    folder = output_dir / MASK_FOLDER
    for path in sorted(folder.glob("*.mha")):
        log.warning("%s: is the mask of an earlier run; it is deleted", path)
        _delete(path)
    remove_partial_files(folder)


def prepare_mask(path: Path, inputs: Sequence[Path]) -> None:
    """Check the name of the mask, and delete an earlier one, so that a failing run leaves no old result.

    Raises:
        InputError: its suffix is that of no image, or it is one of the inputs.
        OutputError: it cannot be written.
    """
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise InputError(f"{path}: has the suffix of no image; expected one of {', '.join(IMAGE_SUFFIXES)}")
    if any(_is_same(path, other) for other in inputs):
        raise InputError(f"{path}: is an input, too; expected another file for the mask")
    check_writable(path)
    _delete(path)


def prepare_extras(folder: Path, others: Sequence[Path]) -> None:
    """Check the folder of the extras, and delete those of an earlier run.

    Args:
        folder: the folder; need not exist yet.
        others: the mask and the inputs, which none of the extras may replace.

    Raises:
        InputError: one of the others has the name of an extra.
        OutputError: the folder cannot be written.
    """
    for path in (folder / name for name in EXTRA_FILES):
        if any(_is_same(path, other) or path.resolve() == other.resolve() for other in others):
            raise InputError(
                f"{path}: is a file of --extras, and the mask or an input, too; expected another folder"
            )
        check_writable(path)
        _delete(path)
    remove_partial_files(folder)


def _is_same(path: Path, other: Path) -> bool:
    return path_exists(path) and path_exists(other) and path.samefile(other)


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        reason = f"cannot be replaced ({error.strerror})"
        raise OutputError(f"{path}: {reason}; expected a writable folder") from error
