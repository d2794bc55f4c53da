"""Memory and cores of the machine and limits of containers, from files as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.case.machine_limits import limit_library_threads, memory_bytes, usable_cores

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = MACHINE // 4


def _tree(root: Path, groups: str, **limits: str) -> Path:
    """Write ``/proc/self/cgroup`` and the files of limits; ``__`` stands for ``/`` in their names."""
    for name, text in {"proc__self__cgroup": groups, **limits}.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


V1 = "5:devices:/\n4:cpu,memory:/docker/abc\n0::/"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/", {"sys__fs__cgroup__memory.max": str(LIMIT)}, LIMIT),
        ("0::/", {"sys__fs__cgroup__memory.max": "max"}, MACHINE),
        ("0::/a/b", {"sys__fs__cgroup__a__memory.max": str(LIMIT)}, LIMIT),  # of the group above
        (
            "0::/a/b",
            {
                "sys__fs__cgroup__a__memory.max": str(LIMIT),
                "sys__fs__cgroup__a__b__memory.max": str(LIMIT // 2),
            },
            LIMIT // 2,
        ),
        ("0::/../other", {"sys__fs__cgroup__memory.max": str(LIMIT)}, LIMIT),  # outside of the namespace
        (V1, {"sys__fs__cgroup__memory__docker__abc__memory.limit_in_bytes": str(LIMIT)}, LIMIT),
        (V1, {"sys__fs__cgroup__memory__memory.limit_in_bytes": str(LIMIT)}, LIMIT),  # as Docker mounts it
        (V1, {"sys__fs__cgroup__memory__memory.limit_in_bytes": str(2**63 - 4096)}, MACHINE),
        (V1, {"sys__fs__cgroup__memory__memory.limit_in_bytes": "damaged"}, MACHINE),
        ("5:devices:/a", {"sys__fs__cgroup__devices__memory.limit_in_bytes": "1"}, MACHINE),
    ],
)
def test_the_least_limit_counts(tmp_path: Path, groups: str, limits: dict[str, str], expected: int) -> None:
    assert memory_bytes(_tree(tmp_path, groups, **limits)) == expected


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path) == MACHINE
    assert 0 < memory_bytes() <= MACHINE


CORES = 8
CPU_V1 = "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/"


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(CORES)))
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        monkeypatch.setenv(name, "to be removed again")
        monkeypatch.delenv(name)


def _v1_quota(folder: str, quota: int) -> dict[str, str]:
    return {f"{folder}__cpu.cfs_quota_us": str(quota), f"{folder}__cpu.cfs_period_us": "100000"}


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/", {"sys__fs__cgroup__cpu.max": "max 100000"}, CORES),
        ("0::/", {"sys__fs__cgroup__cpu.max": "200000 100000"}, 2),
        ("0::/", {"sys__fs__cgroup__cpu.max": "150000 100000"}, 2),  # rounded up
        ("0::/", {"sys__fs__cgroup__cpu.max": "50000 100000"}, 1),
        ("0::/", {"sys__fs__cgroup__cpu.max": "6400000 100000"}, CORES),  # more than the process's affinity
        ("0::/", {"sys__fs__cgroup__cpu.max": "damaged"}, CORES),
        (
            "0::/a/b",
            {"sys__fs__cgroup__a__cpu.max": "300000 100000", "sys__fs__cgroup__a__b__cpu.max": "max 100000"},
            3,
        ),
        (CPU_V1, _v1_quota("sys__fs__cgroup__cpu__docker__abc", 400_000), 4),
        (CPU_V1, _v1_quota("sys__fs__cgroup__cpu", 400_000), 4),  # as Docker mounts it
        (CPU_V1, _v1_quota("sys__fs__cgroup__cpu,cpuacct__docker__abc", 400_000), 4),
        (CPU_V1, _v1_quota("sys__fs__cgroup__cpu", -1), CORES),
        ("3:cpuset:/a", _v1_quota("sys__fs__cgroup__cpuset", 100_000), CORES),
    ],
)
def test_the_least_number_of_cores_counts(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int
) -> None:
    assert usable_cores(_tree(tmp_path, groups, **limits)) == expected


@pytest.mark.usefixtures("eight_cores")
def test_libraries_start_as_many_threads_as_a_quota_lets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _tree(tmp_path, "0::/", **{"sys__fs__cgroup__cpu.max": "200000 100000"})
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's
    limit_library_threads(root)
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "2"


@pytest.mark.usefixtures("eight_cores")
def test_without_a_quota_libraries_choose_themselves(tmp_path: Path) -> None:
    limit_library_threads(tmp_path)
    assert "OMP_NUM_THREADS" not in os.environ
    assert "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS" not in os.environ


def test_cores_where_no_affinity_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert usable_cores(tmp_path) == 3
