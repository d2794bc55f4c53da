"""Memory of the machine and limits of containers, from files as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.case.machine_memory import memory_bytes

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
