"""Trial of a binary transform file in a process of its own: damaged ones can crash the libraries of ITK."""

from __future__ import annotations

import logging
import subprocess
import sys

log = logging.getLogger(__name__)

_SECONDS = 60.0
_PROGRAM = "import sys, SimpleITK; SimpleITK.ReadTransform(sys.argv[1])"


def check_readable(name: str) -> None:
    """Read a transform once in another process, and check that the process lives and ends.

    What ITK itself reports about the file is left to the caller, who reads it again.

    Args:
        name: path as ITK opens it.

    Raises:
        ValueError: the process crashed, or did not end within a minute.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROGRAM, name], capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError("is damaged: ITK does not come to an end with it; expected a transform") from None
    except OSError as error:  # without another process, the file is read as it is
        log.debug("no trial of %s: %s", name, error)
        return
    if done.returncode < 0:
        raise ValueError(
            f"is damaged: it crashes ITK's reader (signal {-done.returncode}); expected a transform"
        )
