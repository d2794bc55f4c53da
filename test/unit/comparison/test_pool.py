"""A call that is ended by a signal ends its processes, whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test.helpers.paths import CHECKOUT

CALL = """
import os, sys, time
from functools import partial
from model.cli.process import supervise_command
from model.comparison.pool import executor

def busy():
    import torch
    print("busy", os.getpid(), flush=True)
    while True:
        torch.randn(400, 400) @ torch.randn(400, 400)

def call():
    pool = executor(2)
    for future in [pool.submit(busy) for _ in range(2)]:
        future.result()

if __name__ == "__main__":
    sys.exit(supervise_command(call))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "call.py").write_text(CALL)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [sys.executable, "call.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        pids = [int(process.stdout.readline().split()[1]) for _ in range(2)]
        begun = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=30)  # also waits for those who hold its stdout
        assert time.monotonic() - begun < 10
        assert told.splitlines() == [f"ended by signal {int(number)}; what was written until then is whole"]
        assert not any(Path(f"/proc/{pid}").exists() and not _is_gone(pid) for pid in pids)
    finally:
        process.kill()


def _is_gone(pid: int) -> bool:
    """Ended, though nobody has asked how."""
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
