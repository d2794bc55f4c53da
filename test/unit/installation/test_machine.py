"""Processor, memory and folders, from files of /proc and /sys made for the tests."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from model.installation.condition import Health, worst
from model.installation.machine import folder_conditions, memory_condition, processor_condition

GIB = 1 << 30


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _cpu(flags: str) -> dict[str, str]:
    core = f"processor\t: 0\nmodel name\t: A Processor\nflags\t\t: {flags}\n"
    return {"proc/cpuinfo": f"{core}\n{core}"}


def test_instructions_and_cores(tmp_path: Path) -> None:
    condition = processor_condition(_write(tmp_path, _cpu("sse avx2 avx512f avx512_vnni avx512_bf16")))
    assert condition.health is Health.OK
    cores = len(os.sched_getaffinity(0))
    assert condition.found == f"A Processor: {cores} cores; AVX2, AVX-512, AVX-512 VNNI, AVX-512 bf16"
    assert processor_condition(_write(tmp_path, _cpu("sse"))).health is Health.WARNING
    assert processor_condition(tmp_path / "none").health is Health.OK  # nothing is known


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "50000 100000\n"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_the_share_of_a_container(files: dict[str, str], tmp_path: Path) -> None:
    condition = processor_condition(_write(tmp_path, _cpu("avx2") | files))
    assert "limited to 0.5 by the container" in condition.found


def test_no_limit_of_cores(tmp_path: Path) -> None:
    files = _cpu("avx2") | {"sys/fs/cgroup/cpu.max": "max 100000\n"}
    assert "limited" not in processor_condition(_write(tmp_path, files)).found


@pytest.mark.parametrize(
    ("limit", "free", "health"),
    [
        ("max", 60 * GIB, Health.OK),
        (str(4 * GIB), 60 * GIB, Health.WARNING),
        ("max", 3 * GIB, Health.WARNING),
        (str(GIB), 60 * GIB, Health.BROKEN),
    ],
)
def test_memory(
    limit: str, free: int, health: Health, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", machine.__getitem__)
    files = {
        "proc/self/cgroup": "0::/box\n",
        "sys/fs/cgroup/box/memory.max": f"{limit}\n",
        "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {free // 1024} kB\n",
    }
    condition = memory_condition(_write(tmp_path, files))
    assert condition.health is health and condition.found.startswith("64.0 GiB")
    assert ("by the container" in condition.found) is (limit != "max")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    temporary, output = folder_conditions(tmp_path)
    assert worst([temporary, output]) is Health.OK and str(tmp_path) in output.found
    assert list(tmp_path.iterdir()) == []
    (_, missing) = folder_conditions(tmp_path / "none")
    assert missing.health is Health.BROKEN and "cannot be written" in missing.found
    assert str(tmp_path / "none") in missing.action
