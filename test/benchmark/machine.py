"""Description of the machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path

from model.case.machine_limits import usable_cores


def describe_machine() -> dict[str, str | int]:
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "scipy", "SimpleITK")},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cpu_seconds() -> float:
    """CPU time of this process and of the processes that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def children_peak_memory_mib() -> float:
    """Peak resident memory (MiB) of the largest process that this one started and that has ended (Linux)."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 10)
