"""Checksums of a model's files: `SHA256SUMS` beside `plans.json`, as ``sha256sum`` writes and checks it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ..case.atomic_files import write_text
from ..case.input_files import path_exists
from ..case.text_files import read_text
from ..errors import InputError, WeightsError
from .weights import sha256

CHECKSUM_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write_checksums(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Write the checksums of files in a model's folder.

    Args:
        folder: of the model.
        files: below the folder.

    Returns:
        SHA-256 in hexadecimal by path relative to the folder.

    Raises:
        OutputError: the file cannot be written.
    """
    sums = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(files)}
    write_text(folder / CHECKSUM_FILE, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    return sums


def read_checksums(folder: Path) -> Mapping[str, str] | None:
    """Read the checksums of a model's folder.

    Returns:
        SHA-256 in hexadecimal by path relative to the folder; None if none are recorded.

    Raises:
        WeightsError: the file cannot be read.
    """
    path = folder / CHECKSUM_FILE
    if not path_exists(path):
        return None
    try:
        text = read_text(path, "lines of a checksum and a file")
    except InputError as error:
        raise WeightsError(str(error)) from error
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        name = match[2].removeprefix("./") if match else ""
        if match is None or not _is_below(name):
            raise WeightsError(f"{path}: line {number} is no checksum of a file of the model; expected one")
        sums[name] = match[1]
    return sums


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
