"""A lock on an output folder: of two runs that write into one folder, the second is refused.

The lock is on the folder itself, not on a file in it, so that neither a run that ends nor one that crashes
leaves anything behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError, one_line

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is created, while the block runs.

    Some network file systems have no such locks; the block then runs without one, with a line in the log.

    Args:
        folder: the output folder.
        wait: wait for another run in the folder to end, instead of refusing.

    Raises:
        OutputError: another run writes into the folder, or it cannot be created or opened.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _opened(folder)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise OutputError(f"{folder}: cannot be used ({reason}); expected a writable folder") from error
    if handle is None:
        yield
        return
    try:
        _lock(handle, folder, wait)
        yield
    finally:
        os.close(handle)  # which releases the lock


def _opened(folder: Path) -> int | None:
    """Open a folder; None for one that may be written to but not listed."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError as error:
        _log_without(folder, error)
        return None


def _lock(handle: int, folder: Path, wait: bool) -> None:
    """Lock an open folder, if its file system has locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError as error:
        if not wait:
            raise OutputError(
                f"{folder}: another run is writing into this folder; expected another folder, or to wait for "
                "its end"
            ) from error
    except OSError as error:
        _log_without(folder, error)
        return
    log.info("%s: waiting for another run in this folder", folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        _log_without(folder, error)


def _log_without(folder: Path, error: OSError) -> None:
    reason = error.strerror or one_line(error)
    log.info("%s: cannot be locked against a second run (%s)", folder, reason)
