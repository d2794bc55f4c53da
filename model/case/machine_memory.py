"""The memory that this process may use: the machine's, or less by the limit of a container (cgroup)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_V2_FILE, _V1_FILE = "memory.max", "memory.limit_in_bytes"


def memory_bytes(root: Path = Path("/")) -> int:
    """The most memory that this process may use, e.g. that of ``docker run --memory``.

    Args:
        root: folder that holds ``proc`` and ``sys``.

    Returns:
        Bytes of the machine, or the least limit of the process's control groups (version 1 or 2).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """The limits of the process's control groups and of those above them, as far as they can be seen."""
    for file in _limit_files(root):
        with suppress(OSError, ValueError):  # not there, or "max": no limit
            limit = int(file.read_text())
            if limit > 0:
                yield limit


def _limit_files(root: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:  # number:controllers:path, with neither number nor controllers in version 2
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        is_v1 = "memory" in controllers.split(",")
        if controllers and not is_v1:
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if is_v1 else "")
        own = PurePosixPath(group.lstrip("/"))
        # In a container the mount may show the group itself, whose path is that of the host: try all of it.
        for above in (own, *own.parents):
            if ".." not in above.parts:
                yield mount / above / (_V1_FILE if is_v1 else _V2_FILE)
