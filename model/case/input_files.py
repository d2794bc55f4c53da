"""Opening the files of users: regular files only, with names of any bytes.

A path may name a pipe, a device, a folder, a loop of links or nothing; a name may hold bytes that are no text
in the current locale, which libraries cannot take.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_regular_file(path: Path) -> bool:
    """True if a path is an existing regular file; False also for names that no file system accepts."""
    try:
        return path.is_file()
    except OSError:
        return False


def path_exists(path: Path) -> bool:
    """True if a path exists; False also for names that no file system accepts."""
    try:
        return path.exists()
    except OSError:
        return False


@contextlib.contextmanager
def open_input(path: Path, expected: str) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without waiting for pipes or devices.

    Args:
        path: the file.
        expected: what the file should be, with which errors end.

    Yields:
        The file at its beginning.

    Raises:
        InputError: it is missing, of another kind, or cannot be read; also for an OSError in the block.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        file = path.open("rb") if kind == stat.S_IFREG else None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _unreadable(path, error, expected) from error
    if file is None:
        raise InputError(
            f"{path}: cannot be read (it is {_KINDS.get(kind, 'no regular file')}); expected {expected}"
        )
    with file:
        try:
            yield file
        except OSError as error:
            raise _unreadable(path, error, expected) from error


def _unreadable(path: Path, error: OSError | ValueError, expected: str) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"{path}: cannot be read ({reason}); expected {expected}")


@contextlib.contextmanager
def library_path(path: Path, suffix: str) -> Iterator[str]:
    """Name a file for a library that takes plain names only, and finds the format by the suffix.

    Args:
        path: an existing file.
        suffix: in small letters, by which the library knows the format.

    Yields:
        The path itself if it is plain and ends in the suffix, otherwise that of a temporary link.
    """
    text = str(path)
    if text.isascii() and text.isprintable() and text.endswith(suffix):
        yield text
        return
    with plain_folder() as folder:
        link = folder / f"file{suffix}"
        link.symlink_to(path.resolve())
        yield str(link)


@contextlib.contextmanager
def plain_folder() -> Iterator[Path]:
    """Make a temporary folder with a plain name.

    Raises:
        InputError: no folder for temporary files can be written to.
    """
    try:
        candidates = [tempfile.gettempdir(), "/tmp", "/dev/shm"]
    except OSError:
        candidates = ["/dev/shm"]
    for candidate in candidates:
        if not (candidate.isascii() and candidate.isprintable()):
            continue
        with contextlib.suppress(OSError):
            folder = tempfile.TemporaryDirectory(
                prefix="longilesion-", dir=candidate, ignore_cleanup_errors=True
            )
            break
    else:
        raise InputError(f"{candidates[0]}: cannot be written to; expected a folder for temporary files")
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def plain_output(path: Path) -> Iterator[str]:
    """Name a file to be written for a library that takes plain names only.

    Args:
        path: a file with a plain name in an existing folder of any name.

    Yields:
        A plain path of the same file.
    """
    text = str(path)
    if text.isascii() and text.isprintable():
        yield text
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
