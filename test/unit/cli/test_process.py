"""How a command ends when nobody reads what it prints: as Unix tools do, without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import write_image
from test.helpers.paths import CHECKOUT

UNREAD = 141

BEGIN = """\
import logging, sys
from model.errors import InputError
from model.cli.process import supervise_command
"""
END = "sys.exit(supervise_command(work))"
# Prints wait in a buffer, as they do unless told otherwise.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def _unread(*words: str | Path) -> tuple[int, str]:
    """Exit code and stderr of a program whose stdout is a pipe that has lost its reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            timeout=120,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_evaluation_that_nobody_reads(tmp_path: Path, options: tuple[str, ...]) -> None:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 2:5] = 1
    path = tmp_path / "mask.nii.gz"
    write_image(path, labels, Geometry((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    words = ("-m", "model", "evaluate", "--reference", path, "--prediction", path, *options)
    assert _unread(*words, "-o", tmp_path / "out") == (UNREAD, "")
    assert (tmp_path / "out" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("work", "code", "stderr"),
    [
        ("print('short')\n    return 0", UNREAD, ""),  # what is left in the buffer until the end
        ("print('a' * 100_000)\n    return 0", UNREAD, ""),
        ("print('x', flush=True)", UNREAD, ""),
        ("print('x')\n    return 6", 6, ""),
        ("print('x')\n    raise InputError('the file')", 2, "the file\n"),
    ],
)
def test_a_command_that_nobody_reads(work: str, code: int, stderr: str) -> None:
    assert _unread("-c", f"{BEGIN}def work():\n    {work}\n{END}") == (code, stderr)


def test_processes_of_a_command_that_nobody_reads_are_not_waited_for() -> None:
    work = (
        "from concurrent.futures import ThreadPoolExecutor\nimport time\n"
        "def work():\n    ThreadPoolExecutor(1).submit(time.sleep, 600)\n    print('x', flush=True)\n"
    )
    assert _unread("-c", f"{BEGIN}{work}{END}") == (UNREAD, "")


def test_logs_that_nobody_reads_are_dropped() -> None:
    """The run of a case writes files: it goes on, and to its end."""
    program = (
        "import logging, sys\nfrom model.cli import process\n"
        "process._prepare()\n"
        "logging.info('one')\nlogging.info('two')\nprint('done', file=sys.stderr)\n"
        "process.leave(0)"
    )
    assert _unread("-c", program) == (0, "done\n")


def test_a_pipe_that_breaks_elsewhere_is_a_fault() -> None:
    program = f"{BEGIN}def work():\n    raise BrokenPipeError('of a process')\n{END}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 1
    assert done.stderr == "an unexpected fault of the program: BrokenPipeError: of a process\n"


def test_stdout_may_be_closed() -> None:
    """Logs do not go to stderr instead."""
    program = f"{BEGIN}def work():\n    logging.info('x')\n    print('y', flush=True)\n    return 0\n{END}"
    words = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT)
    assert (done.returncode, done.stderr) == (0, "")
