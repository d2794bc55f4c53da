"""Processor, memory and folders of the machine. Standard library only; Linux."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..case.machine_limits import cpu_quota, memory_bytes
from .condition import Condition, broken, doubtful, works

_ROOT = Path("/")
_GIB = 1 << 30
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "bf16": "bf16",
}
_LEAST_MEMORY, _MODEST_MEMORY = 2 * _GIB, 8 * _GIB
_LEAST_SPACE = _GIB


def processor_condition(root: Path = _ROOT) -> Condition:
    """Cores that this process may use, and instructions that matter to networks.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    fields = _processor_fields(root)
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    known = [words for flag, words in _INSTRUCTIONS.items() if flag in flags]
    share = cpu_quota(root)
    cores = len(os.sched_getaffinity(0))
    limit = f", limited to {share:g} by the container" if share is not None and share < cores else ""
    found = f"{name}: {cores} cores{limit}; {', '.join(known) or 'no vector instructions known'}"
    if flags and not known:
        return doubtful("processor", found, "networks are slow on the CPU: use a GPU or a newer processor")
    return works("processor", found)


def _processor_fields(root: Path) -> dict[str, str]:
    """The fields of the first core in /proc/cpuinfo."""
    with suppress(OSError):
        first = (root / "proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {}


def memory_condition(root: Path = _ROOT) -> Condition:
    """Memory of the machine, the container's limit, and what is free.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    usable = memory_bytes(root)
    free = _free_bytes(root)
    found = f"{machine_bytes / _GIB:.1f} GiB"
    if usable < machine_bytes:
        found += f", limited to {usable / _GIB:.1f} GiB by the container"
    if free is not None:
        found += f"; {free / _GIB:.1f} GiB of the machine are free"
    least = usable if free is None else min(usable, free)
    if least < _LEAST_MEMORY:
        return broken("memory", found, "give it more memory, or end other programs: 2 GiB are too little")
    if least < _MODEST_MEMORY:
        return doubtful("memory", found, "large scans and networks may not fit: 8 GiB are safe for most")
    return works("memory", found)


def _free_bytes(root: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return None


def folder_conditions(output: Path | None = None) -> Iterator[Condition]:
    """The folder for temporary files, and the one for outputs.

    Args:
        output: folder for outputs; None takes ``/output`` if it exists.
    """
    try:
        yield _folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a writable folder")
    except OSError:
        yield broken("temporary files", "no folder can be written to", "set TMPDIR to a writable folder")
    mounted = Path("/output")
    if output is not None or mounted.is_dir():
        where = output or mounted
        yield _folder("outputs", where, f"make {where} writable for user {os.getuid()}")


def _folder(part: str, folder: Path, action: str) -> Condition:
    """Whether a file can be written to a folder, and the space there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return broken(part, f"{folder}: cannot be written ({error.strerror})", action)
    found = f"{folder}: writable, {free / _GIB:.1f} GiB free"
    if free < _LEAST_SPACE:
        return doubtful(part, found, "make room: a large scan's outputs take up to 1 GiB")
    return works(part, found)
