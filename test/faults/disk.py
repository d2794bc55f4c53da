"""Full disks at each file that a command writes, folders that vanish or may not be written to."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .children import Ended, run_child
from .commands import (
    TestedCommand,
    broken_files,
    differences,
    faults_of_streams,
    final_files,
    make_commands,
    temporary_files,
)
from .report import Trial


def disk_faults(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    """Run all commands on disks that are too small in many ways."""
    rng = random.Random(seed)
    for command in make_commands(folder / "data"):
        place = folder / command.name.replace(" ", "-")
        reference = place / "reference"
        run_child(command.arguments(reference), place / "logs")
        yield from _limited_files(command, place, reference)
        yield from _vanishing(command, place, reference, instants, rng)
        if os.getuid() == 0:
            yield from _small_disks(command, place, reference)
        else:
            yield Trial(f"{command.name}: small and read-only disks are left out, only root can mount them")


def _limited_files(command: TestedCommand, place: Path, reference: Path) -> Iterator[Trial]:
    """Let each file in turn be too large (RLIMIT_FSIZE); smaller ones can be written."""
    sizes = sorted({path.stat().st_size for path in final_files(reference).values()})
    for size in sizes:

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (_limit(size), resource.RLIM_INFINITY))

        output = place / "limited"
        shutil.rmtree(output, ignore_errors=True)
        ended = run_child(command.arguments(output), place / "logs", before=limit)
        name = f"{command.name}: files of up to {_limit(size)} bytes, exit code {ended.code}"
        yield Trial(name, tuple(_faults(ended, output, reference)))


def _limit(size: int) -> int:
    """A little below a size, which may vary with times in the file; stderr has to be written in any case."""
    return max(int(0.95 * size), 1000)


def _faults(ended: Ended, output: Path, reference: Path) -> list[str]:
    """What is wrong after a run on a bad disk: it ends with 5, or with 0 and all files."""
    found = faults_of_streams(ended)
    if ended.code not in (0, 5):
        found.append(f"exit code {ended.code}: {ended.stderr[-300:]}")
    found += [f"half-written: {name}" for name in broken_files(output)]
    found += [f"left behind: {name}" for name in temporary_files(output)]
    if ended.code == 0:
        found += [f"exit code 0 and another {name}" for name in differences(output, reference)]
    return found


def _vanishing(
    command: TestedCommand, place: Path, reference: Path, instants: int, rng: random.Random
) -> Iterator[Trial]:
    """Delete the output folder while the command runs."""
    for _ in range(max(1, instants // 5)):
        output, seconds = place / "vanishing", rng.uniform(0, 3)
        shutil.rmtree(output, ignore_errors=True)

        def delete(_: int, now: float, output: Path = output, seconds: float = seconds) -> bool:
            if now >= seconds:
                shutil.rmtree(output, ignore_errors=True)
            return now >= seconds

        ended = run_child(command.arguments(output), place / "logs", meanwhile=delete)
        found = faults_of_streams(ended)
        if ended.code not in (0, 5):
            found.append(f"exit code {ended.code}: {ended.stderr[-300:]}")
        found += [f"half-written: {name}" for name in broken_files(output)]
        found += [f"another {name}" for name in differences(output, reference, only_present=True)]
        yield Trial(
            f"{command.name}: folder deleted after {seconds:.2f} s, exit code {ended.code}", tuple(found)
        )


def _small_disks(command: TestedCommand, place: Path, reference: Path) -> Iterator[Trial]:
    """Mount disks with few blocks, with few inodes, and one that is read-only."""
    needed = sum(max(4096, path.stat().st_size) for path in final_files(reference).values())
    options = [f"size={kib}k" for kib in _steps(4, needed // 1024)]
    options += [f"size=64m,nr_inodes={count}" for count in (2, 3, 4, 6, 8)]
    for option in [*options, "size=64m,ro"]:
        yield _on_disk(option, command, place, reference)


def _steps(least: int, most: int) -> list[int]:
    """Sizes from one to another, each about 1.5 times the one before, in whole pages of 4 KiB."""
    sizes = [least]
    while sizes[-1] < most:
        sizes.append(max(sizes[-1] + 4, int(sizes[-1] * 1.5) // 4 * 4))
    return sizes


def _on_disk(option: str, command: TestedCommand, place: Path, reference: Path) -> Trial:
    output = place / "mounted"
    output.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "none", output], check=True)
    try:
        ended = run_child(command.arguments(output), place / "logs")
        found = _faults(ended, output, reference)
    finally:
        subprocess.run(["umount", output], check=True)
    return Trial(f"{command.name}: disk with {option}, exit code {ended.code}", tuple(found))
