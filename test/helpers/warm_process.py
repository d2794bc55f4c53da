"""Python scripts, above all `process.py`, in children of one process that has imported the large libraries.

Importing torch and SimpleITK takes several times as long as a run on a small case. The child imports the
package `model` itself, after any code that injects a fault, as a fresh process does.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from select import select
from typing import NoReturn

from .paths import CHECKOUT

# Nothing of the package itself.
LIBRARIES = (
    "torch",
    "torch._dynamo",  # by torch's optimisers, of trainings and registrations
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
class ScriptRun:
    """A script to run; stdout and stderr go to files in ``folder`` whose names begin with ``name``."""

    script: str
    arguments: Sequence[str]
    folder: str
    name: str = "run"
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, stream: str) -> Path:
        return Path(self.folder) / f"{self.name}-{stream}.txt"


@dataclass(frozen=True)
class ScriptResult:
    """Exit code and what was written to stdout and stderr."""

    code: int
    stdout: str
    stderr: str


def run_scripts(*runs: ScriptRun) -> list[ScriptResult]:
    """Run scripts at the same time, each in a forked child."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps([asdict(run) for run in runs]) + "\n")
    server.stdin.flush()
    if not select([server.stdout], [], [], _SECONDS)[0]:
        server.kill()
        _server.cache_clear()
        raise TimeoutError(f"{[run.name for run in runs]} took more than {_SECONDS:.0f} seconds")
    codes: list[int] = json.loads(server.stdout.readline())
    return [
        ScriptResult(code, run.path("stdout").read_text(), run.path("stderr").read_text())
        for code, run in zip(codes, runs, strict=True)
    ]


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
    """Fork the children of one request after the other; print their exit codes."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.path[0] = str(CHECKOUT)
    for line in sys.stdin:
        children = [_fork(ScriptRun(**run)) for run in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def _fork(run: ScriptRun) -> int:
    child = os.fork()
    if child == 0:
        _run(run)
    return child


def _run(run: ScriptRun) -> NoReturn:
    for number, path in ((0, os.devnull), (1, run.path("stdout")), (2, run.path("stderr"))):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(run.environment)
    sys.argv = ["script.py", *run.arguments]
    code = 0
    try:
        exec(run.script, {"__name__": "script"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
