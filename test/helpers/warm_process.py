"""Runs of `process.py` in children of one process that has imported the large libraries once.

Importing torch and SimpleITK takes several times as long as a run on a small case. The child imports the
package `model` itself, after any code that injects a fault, as a fresh process does.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from select import select
from typing import NoReturn

from .paths import CHECKOUT

# Nothing of the package itself.
_LIBRARIES = (
    "torch",
    "SimpleITK",
    "scipy.ndimage",
    "scipy.signal",
    "pydantic.main",
    "pydantic.types",
    "pydantic.functional_validators",
    "safetensors.torch",
    "cc3d",
    "convexAdam",
)
_SECONDS = 300.0


@dataclass(frozen=True)
class ProcessResult:
    """Exit code and what was written to stdout and stderr."""

    code: int
    stdout: str
    stderr: str


def run_process(arguments: Sequence[str], driver: str | None, folder: Path) -> ProcessResult:
    """Run `process.py` in a forked child.

    Args:
        arguments: command-line options.
        driver: Python code that the child runs first, to inject a fault.
        folder: for the files of stdout and stderr.
    """
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    stdout, stderr = folder / "stdout.txt", folder / "stderr.txt"
    request = {"arguments": list(arguments), "driver": driver, "stdout": str(stdout), "stderr": str(stderr)}
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    if not select([server.stdout], [], [], _SECONDS)[0]:
        server.kill()
        _server.cache_clear()
        raise TimeoutError(f"process.py took more than {_SECONDS:.0f} seconds")
    code = int(server.stdout.readline())
    return ProcessResult(code, stdout.read_text(), stderr.read_text())


@cache
def _server() -> subprocess.Popen[str]:
    """Process that has imported the libraries; it ends with the tests, which hold its stdin."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )


def _serve() -> None:
    """Fork one child after the other; print the exit code of each."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    sys.path[0] = str(CHECKOUT)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(arguments: list[str], driver: str | None, stdout: str, stderr: str) -> NoReturn:
    for number, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["process.py", *arguments]
    code = 1
    try:
        if driver is not None:
            exec(driver, {"__name__": "driver"})
        runpy.run_path(str(CHECKOUT / "process.py"), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
