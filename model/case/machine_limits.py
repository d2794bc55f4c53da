"""The memory and the cores that this process may use: the machine's, or less in a container (cgroup)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

# Read by OpenMP (torch, numpy) and ITK when they start, which heed affinity but no quota.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def memory_bytes(root: Path = Path("/")) -> int:
    """The most memory that this process may use, e.g. that of ``docker run --memory``.

    Args:
        root: folder that holds ``proc`` and ``sys``.

    Returns:
        Bytes of the machine, or the least limit of the process's control groups (version 1 or 2).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_memory_limits(root)])


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may keep busy, e.g. those of ``docker run --cpus`` or ``--cpuset-cpus``.

    Args:
        root: folder that holds ``proc`` and ``sys``.

    Returns:
        The number of cores of the process's affinity, or the least quota of its control groups (version 1
        or 2), rounded up; at least 1.
    """
    quota = cpu_quota(root)
    return _affine_cores() if quota is None else min(_affine_cores(), max(1, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The cores that the process's control groups allow on average; None without a limit.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    return min(_cpu_quotas(root), default=None)


def limit_library_threads(root: Path = Path("/")) -> None:
    """Have torch and ITK start no more threads than a quota lets run, in this process and its children.

    More threads than that are stopped together for most of the time. To be called before these libraries are
    imported; what the user has set is kept.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    cores = usable_cores(root)
    if cores < _affine_cores():
        for name in _THREAD_VARIABLES:
            os.environ.setdefault(name, str(cores))


def _affine_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        return os.cpu_count() or 1


def _memory_limits(root: Path) -> Iterator[int]:
    """The limits of the process's control groups and of those above them, as far as they can be seen."""
    for folder, is_v1 in _control_groups(root, "memory"):
        with suppress(OSError, ValueError):  # not there, or "max": no limit
            limit = int((folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")).read_text())
            if limit > 0:
                yield limit


def _cpu_quotas(root: Path) -> Iterator[float]:
    """The quotas of the same groups, in cores."""
    for folder, is_v1 in _control_groups(root, "cpu"):
        with suppress(OSError, ValueError):  # not there, "max" or -1: no limit
            if is_v1:
                text = " ".join((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            else:
                text = (folder / "cpu.max").read_text()
            quota, period = (int(word) for word in text.split())
            if quota > 0 and period > 0:
                yield quota / period


def _control_groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the process's control groups and of those above them; True for version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = ["0::/", f"1:{controller}:/"]
    for line in lines:  # number:controllers:path, with neither number nor controllers in version 2
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        is_v1 = controller in controllers.split(",")
        if controllers and not is_v1:
            continue
        own = PurePosixPath(group.lstrip("/"))
        # Version 1 is mounted by the names of controllers: one, or all that share the mount.
        for mount in dict.fromkeys((controller, controllers) if is_v1 else ("",)):
            # In a container the mount may show the group itself, whose path is the host's: try all of it.
            for above in (own, *own.parents):
                if ".." not in above.parts:
                    yield root / "sys/fs/cgroup" / mount / above, is_v1
