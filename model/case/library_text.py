"""Keep what libraries write to stderr in the debug log: stderr is reserved for sentences to the user.

ITK, MetaIO, vnl, zlib and HDF5 write to file descriptor 2 directly, past Python. It is replaced for the time
of a call into them, for the whole process: calls may run in several threads and within each other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

log = logging.getLogger(__name__)

_STDERR = 2
_MOST_BYTES = 65_536

_lock = threading.Lock()


class _Capture:
    """The state of the process: how many calls are running, the file that takes their text, stderr itself."""

    calls = 0
    text: int | None = None
    stderr: int | None = None  # None while no call is running, or if stderr is closed


@contextlib.contextmanager
def captured_library_text() -> Iterator[None]:
    """Keep what the block's libraries write to stderr, and log it at debug level at its end."""
    _enter()
    try:
        yield
    finally:
        for line in _leave().splitlines():
            log.debug("library: %s", line)


def write_to_stderr(line: str) -> bool:
    """Write a line to stderr itself if calls of libraries are running.

    Returns:
        False if none is running: Python's own stderr does then.
    """
    with _lock:
        if not _Capture.calls:
            return False
        if _Capture.stderr is not None:
            with contextlib.suppress(OSError):
                os.write(_Capture.stderr, (line + "\n").encode("utf-8", "backslashreplace"))
        return True


def _enter() -> None:
    with _lock:
        _Capture.calls += 1
        if _Capture.calls > 1:
            return
        with contextlib.suppress(OSError):  # it is closed, or no descriptor is left: text cannot be kept
            _Capture.stderr = os.dup(_STDERR)
            _Capture.text = os.memfd_create("library-text")
            os.dup2(_Capture.text, _STDERR)


def _leave() -> str:
    """End a call; the text of all calls if it was the last one."""
    with _lock:
        _Capture.calls -= 1
        if _Capture.calls or _Capture.stderr is None:
            return ""
        kept = b""
        if _Capture.text is not None:
            os.dup2(_Capture.stderr, _STDERR)
            kept = os.pread(_Capture.text, _MOST_BYTES, 0)
            os.close(_Capture.text)
        os.close(_Capture.stderr)
        _Capture.stderr = _Capture.text = None
    return kept.decode("utf-8", "backslashreplace")
