"""Processes have their threads and end with their parent, whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model.data.workers import process_pool
from test.helpers.paths import CHECKOUT

CALL = """
import os, sys, time
from functools import partial
from model.cli.process import supervise_command
from model.data.workers import process_pool

def busy():
    import torch
    print("busy", os.getpid(), flush=True)
    while True:
        torch.randn(400, 400) @ torch.randn(400, 400)

def call():
    pool = process_pool(2, ignore_interrupt=True)
    for future in [pool.submit(busy) for _ in range(2)]:
        future.result()

if __name__ == "__main__":
    sys.exit(supervise_command(call))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "call.py").write_text(CALL)
    process = subprocess.Popen(
        [sys.executable, "call.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        pids = [int(process.stdout.readline().split()[1]) for _ in range(2)]
        begun = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)  # also waits for processes that hold its stdout
        assert time.monotonic() - begun < 10
        assert errors.splitlines() == [f"ended by signal {int(number)}; what was written until then is whole"]
        assert not any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in pids)
    finally:
        process.kill()


def _is_zombie(pid: int) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.slow
def test_processes_have_the_given_number_of_threads() -> None:
    with process_pool(1, threads=3) as pool:
        assert pool.submit(torch.get_num_threads).result(timeout=600) == 3
