"""Limits of the address space: a run ends with the same labelmap, or with exit code 4 and one line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..helpers.paths import CHECKOUT, SAMPLE
from .children import Ended
from .commands import differences, faults_of_streams
from .report import Trial

_GIB = 1 << 30


def memory_limits(folder: Path, instants: int) -> Iterator[Trial]:
    """Segment the sample case with the shipped weights, within 1, 2 and 4 GiB and many limits below."""
    reference = folder / "reference"
    unlimited = _run(reference, None)
    if unlimited.code:
        raise RuntimeError(unlimited.stderr)
    limits = [_GIB, 2 * _GIB, 4 * _GIB]
    limits += [int((0.4 + 1.6 * number / instants) * _GIB) for number in range(instants)]
    for limit in limits:
        output = folder / "limited"
        shutil.rmtree(output, ignore_errors=True)
        ended = _run(output, limit)
        found = faults_of_streams(ended)
        is_ended_by_libc = ended.code == 127 and "thread-local data" in ended.stderr  # it cannot be caught
        if ended.code not in (0, 4) and not is_ended_by_libc:
            found.append(f"exit code {ended.code}: {ended.stderr[-300:]}")
        if ended.code == 0:
            found += [f"other voxels: {name}" for name in differences(output, reference)]
        yield Trial(f"segment: within {limit / _GIB:.2f} GiB, exit code {ended.code}", tuple(found))


def _run(output: Path, limit: int | None) -> Ended:
    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    words = ["--input", str(SAMPLE / "input"), "--output", str(output), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "process.py"), *words],
        capture_output=True,
        text=True,
        preexec_fn=restrict,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        cwd=CHECKOUT,
    )
    return Ended(done.returncode, done.stdout, done.stderr, 0.0)
