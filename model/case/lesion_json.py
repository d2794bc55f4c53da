"""JSON files with entries per lesion: reading with validation, and atomic writing.

The name of an entry ends in its lesion id, a run of digits.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from ..errors import InputError, OutputError
from .atomic_files import write_text
from .text_files import read_json
from .voxel_checks import MAX_LESION_ID

Triple = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]
"""Three finite numbers (x, y, z) of a file."""

# At the end of a name: numbers that are no id, whose last digits alone would be taken for one.
_OTHER_NUMBER = re.compile(r"\s*-[0-9]+\s*|.*[0-9][.,][0-9]+\s*", re.DOTALL)

Document = TypeVar("Document", bound=BaseModel)
Value = TypeVar("Value")


def read_document(path: Path, kind: type[Document], noun: str, example: str) -> Document:
    """Read and validate a file that holds one list of entries.

    Args:
        path: the file.
        kind: model of the document, whose first field is the list.
        noun: what an entry is called in messages.
        example: the expected form of the document, for messages.

    Raises:
        InputError: not readable, malformed JSON, or not valid for ``kind``.
    """
    entries = next(iter(kind.model_fields))
    document = read_json(path, f"a {noun} JSON with a list {entries!r}", allow_nan=True)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_fault(error, entries, example)}") from error


def _first_fault(error: ValidationError, entries: str, example: str) -> str:
    """The first validation error, in terms of the file rather than of the model classes."""
    fault: Any = error.errors(include_url=False)[0]
    location = ".".join(str(part) for part in fault["loc"])
    if len(fault["loc"]) >= 3 and fault["loc"][2] != "name":
        given = repr(fault["input"])
        field = fault["loc"][2]
        place = f"{entries}.{fault['loc'][1]}" + ("" if field == "point" else f".{field}")
        return f"{place} is not three finite numbers ({given[:60]}); expected [x, y, z]"
    reason = fault["msg"].split(" or instance of ")[0]  # a class of ours
    return f"{location or 'the document'}: {reason}; expected {example}"


def group_by_lesion(path: Path, noun: str, entries: Iterable[tuple[str, Value]]) -> dict[int, Value]:
    """Group entries by the lesion id at the end of their name.

    Args:
        path: the file, for messages.
        noun: what an entry is called in messages.
        entries: name and value of each.

    Returns:
        Lesion id -> value, in the file's order.

    Raises:
        InputError: a name without an id, an id out of range, or one id with two different values.
    """
    values: dict[int, Value] = {}
    for name, value in entries:
        lesion_id = _lesion_id(path, name, noun)
        if values.setdefault(lesion_id, value) != value:
            plural = "boxes" if noun == "box" else f"{noun}s"
            raise InputError(
                f"{path}: lesion {lesion_id} has two different {plural}, {_shown(values[lesion_id])} and "
                f"{_shown(value)}; expected one {noun} per lesion"
            )
    return values


def _shown(value: object) -> str:
    """A value as the file shows it: tuples become lists."""
    return json.dumps(value)


def _lesion_id(path: Path, name: str, noun: str) -> int:
    stripped = name.rstrip()
    digits = stripped[len(stripped.rstrip("0123456789")) :]
    if not digits or _OTHER_NUMBER.fullmatch(name):
        raise InputError(
            f"{path}: {noun} name {name!r} holds no lesion id; expected digits at its end, as in 'Lesion 7'"
        )
    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(MAX_LESION_ID)) or not 0 < int(digits) <= MAX_LESION_ID:
        raise InputError(
            f"{path}: lesion id {digits[:40]} of {noun} {name[:80]!r} is out of range; expected 1 to "
            f"{MAX_LESION_ID}"
        )
    return int(digits)


def write_json(path: Path, document: Mapping[str, Any], decimals: int | None = 6) -> None:
    """Write a JSON document atomically.

    Args:
        path: the file.
        document: may hold numpy scalars and arrays; NaN and infinity, which JSON lacks, become null.
        decimals: to which floats are rounded; None keeps them.

    Raises:
        OutputError: it cannot be written; an existing file stays unchanged.
    """
    text = json.dumps(_plain(document, decimals), indent=1, allow_nan=False) + "\n"
    write_text(path, text)


def check_writable(path: Path) -> None:
    """Check before long work that a file can be written; its folders need not exist yet.

    Raises:
        OutputError: the file is a folder, or its first existing parent folder is not writable.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; expected a file to write to")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = "may not be written to" if folder.is_dir() else "is no folder"
        raise OutputError(f"{path}: cannot be written ({folder} {reason}); expected a writable folder")


def _plain(value: Any, decimals: int | None) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, decimals) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, decimals) for entry in value]
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        value = value.tolist()
        return _plain(value, decimals)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        # Adding zero turns -0.0 into 0.0.
        return (value if decimals is None else round(value, decimals)) + 0.0
    return str(value) if isinstance(value, Path) else value
