"""Images of PET/CT in nnU-Net's layout: ``CASE_0000`` is the CT of a case, ``CASE_0001`` its PET."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .input_files import path_exists
from .stored_image import READ_SUFFIXES

CT_ENDING, PET_ENDING = "_0000", "_0001"


def case_of_channel(file: Path, ending: str) -> str | None:
    """The case of a channel's image; None if the file is another one."""
    suffix = next((one for one in READ_SUFFIXES if file.name.lower().endswith(f"{ending}{one}")), None)
    return None if suffix is None else file.name[: -len(ending + suffix)] or None


def find_named_image(folder: Path, name: str) -> Path | None:
    """Find the image of a name in any format that is read; None if the folder holds none.

    Raises:
        InputError: there are several.
    """
    found = [path for suffix in READ_SUFFIXES if path_exists(path := folder / f"{name}{suffix}")]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{folder}: holds {names}; expected one image {name}")
    return found[0] if found else None
