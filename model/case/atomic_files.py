"""Atomic writing: files are written under a temporary name and renamed once they are complete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import OutputError, one_line

TEMPORARY_PREFIX = ".writing-"

_unfinished: set[Path] = set()  # of this process

_LONGEST_NAME = 200  # of 255 bytes, which file systems allow; the rest is for suffixes


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


@contextlib.contextmanager
def atomic_write(
    path: Path, suffix: str = "", reason: Callable[[Exception], str] = _reason
) -> Iterator[Path]:
    """Yield a temporary file to write to, and rename it to ``path`` at the end of the block.

    The folder is created. If anything fails, an existing file stays unchanged and the temporary file is
    removed.

    Args:
        path: the final file.
        suffix: end of the temporary name, for writers that derive the format from it.
        reason: describes an error in the OutputError's message.

    Yields:
        Path of the temporary file.

    Raises:
        OutputError: for any OSError or RuntimeError in the block or in this function.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        _unfinished.add(temporary)
        yield temporary
        # Temporary files are private by default; results belong to the owner of the mounted folder.
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{path}: cannot be written ({reason(error)}); expected a writable folder"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # it has its final name, or its folder has gone
                temporary.unlink()
            _unfinished.discard(temporary)


def discard_unfinished_files() -> None:
    """Delete temporary files and folders being written; called when a signal ends the process."""
    for temporary in tuple(_unfinished):
        with contextlib.suppress(OSError):
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink()


def remember_temporary(path: Path) -> None:
    """Have a file or folder deleted if a signal ends the process."""
    _unfinished.add(path)


def forget_temporary(path: Path) -> None:
    """Undo `remember_temporary`."""
    _unfinished.discard(path)


def remove_partial_files(*folders: Path) -> None:
    """Delete what a killed run left behind in folders that only this run writes to; missing ones are skipped.

    Raises:
        OutputError: a file cannot be deleted.
    """
    for folder in folders:
        try:
            for partial in folder.glob(f"{TEMPORARY_PREFIX}*"):
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be used ({_reason(error)}); expected a writable folder"
            ) from error


def shortened_name(name: str) -> str:
    """A file name that leaves room for suffixes; a longer one ends in a checksum of all of it.

    Args:
        name: of ASCII letters only.
    """
    if len(name) <= _LONGEST_NAME:
        return name
    checksum = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - 17]}-{checksum}"


def write_text(path: Path, text: str) -> None:
    """Write text atomically as UTF-8 with its line ends; bytes of names that are no text are escaped.

    Raises:
        OutputError: it cannot be written; an existing file stays unchanged.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        file.write(text)
