"""Runs of the command line in forked children, with a fault injected before or while they run."""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..helpers.paths import CHECKOUT
from ..helpers.warm_process import LIBRARIES

_SECONDS = 600.0


@dataclass(frozen=True)
class Ended:
    """A child that has ended: exit code (negative: the signal that killed it), streams and wall time."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def import_libraries() -> None:
    """Import the large libraries once, for all children."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.path.insert(0, str(CHECKOUT))


def run_child(
    arguments: Sequence[str],
    logs: Path,
    before: Callable[[], None] | None = None,
    meanwhile: Callable[[int, float], bool] | None = None,
) -> Ended:
    """Run a command of the package in a child.

    Args:
        arguments: of `python -m model`.
        logs: folder for the child's stdout and stderr.
        before: called in the child before anything of the package is imported.
        meanwhile: called again and again until it returns True, with the child's id and the seconds since
            its start.
    """
    logs.mkdir(parents=True, exist_ok=True)
    child, start = os.fork(), time.monotonic()
    if child == 0:
        _run(arguments, logs, before)
    is_done = meanwhile is None
    while True:
        seconds = time.monotonic() - start
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if seconds > _SECONDS:
            os.kill(child, signal.SIGKILL)
        if not is_done and meanwhile is not None:
            is_done = meanwhile(child, seconds)
        time.sleep(0.002)
    stdout, stderr = ((logs / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    return Ended(os.waitstatus_to_exitcode(status), stdout, stderr, seconds)


def kill_at(seconds: float, number: signal.Signals) -> Callable[[int, float], bool]:
    """Send a signal to the child after some time."""

    def kill(child: int, now: float) -> bool:
        if now < seconds:
            return False
        os.kill(child, number)
        return True

    return kill


def _run(arguments: Sequence[str], logs: Path, before: Callable[[], None] | None) -> NoReturn:
    code = 1
    try:
        for number, path in ((0, Path(os.devnull)), (1, logs / "stdout"), (2, logs / "stderr")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(CHECKOUT)
        if before is not None:
            before()
        sys.argv = ["model", *arguments]
        runpy.run_module("model", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    os._exit(code)
