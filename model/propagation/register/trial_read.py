"""Trial of a binary transform file in a process of its own: damaged ones can crash the libraries of ITK.

HDF5 files may also take groups, voxels or parameters from other files, by paths that they name. The trial may
open a single file, so that those which do are seen.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys

log = logging.getLogger(__name__)

_SECONDS = 60.0
_PROGRAM = "import sys, SimpleITK; SimpleITK.ReadTransform(sys.argv[1])"
_LIMITED_PROGRAM = """
import os, resource, sys, SimpleITK
spare = os.open(os.devnull, os.O_RDONLY)
os.close(spare)
resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
SimpleITK.ReadTransform(sys.argv[1])
"""
_OTHER_FILES = "takes parts from other files; expected a transform with all of its content in one file"
# The layout message of a virtual dataset, in both kinds of HDF5's object headers: HDF5 reads the parts of
# files that it cannot open as zeros. Behind it the address of the list of files, and a small number.
_VIRTUAL = re.compile(
    rb"\x08(?:\x00\x10\x00[\x00-\x3f]\x00{3}|[\x0a\x0e]\x00[\x00-\x3f](?:..)?)\x04\x03"
    rb"(?:.{4}\x00{4}|.{4}).{2}\x00{2}",
    re.DOTALL,
)


def check_readable(name: str) -> None:
    """Read a transform once in another process, which has to live, to end and to open no other file.

    What ITK itself reports about the file is left to the caller, who reads it again.

    Args:
        name: path as ITK opens it.

    Raises:
        ValueError: the process crashed, did not end within a minute, or needs other files.
    """
    if not _succeeds(_LIMITED_PROGRAM, name) and _succeeds(_PROGRAM, name):
        raise ValueError(_OTHER_FILES)


def check_not_virtual(content: bytes) -> None:
    """Check an HDF5 file for virtual datasets, which are parts of other files.

    Raises:
        ValueError: there is one.
    """
    if _VIRTUAL.search(content):
        raise ValueError(_OTHER_FILES)


def _succeeds(program: str, name: str) -> bool:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, name], capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError("is damaged: ITK does not come to an end with it; expected a transform") from None
    except OSError as error:  # without another process, the file is read as it is
        log.debug("no trial of %s: %s", name, error)
        return True
    if done.returncode < 0:
        raise ValueError(
            f"is damaged: it crashes ITK's reader (signal {-done.returncode}); expected a transform"
        )
    return done.returncode == 0
