"""Supervision of commands whose stdout has no reader: they end silently, as Unix tools do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import write_image
from model.errors import ExitCode
from test.helpers.paths import CHECKOUT

UNREAD_STDOUT = ExitCode.UNREAD_STDOUT

BEGIN = """\
import logging, sys
from model.errors import InputError
from model.cli.process import supervise_command
"""
END = "sys.exit(supervise_command(work))"
# Prints are buffered, as by default.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def _run_unread(*words: str | Path) -> tuple[int, str]:
    """Exit code and stderr of a program whose stdout is a pipe without a reader."""
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


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_evaluate_with_an_unread_stdout(tmp_path: Path, options: tuple[str, ...]) -> None:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 2:5] = 1
    path = tmp_path / "mask.nii.gz"
    write_image(path, labels, Geometry((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    words = ("-m", "model", "evaluate", "--reference", path, "--prediction", path)
    assert _run_unread(*words, *options, "-o", tmp_path / "out") == (UNREAD_STDOUT, "")
    assert (tmp_path / "out" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("work", "code", "stderr"),
    [
        ("print('short')\n    return 0", UNREAD_STDOUT, ""),  # still buffered at the end
        ("print('a' * 100_000)\n    return 0", UNREAD_STDOUT, ""),
        ("print('x', flush=True)", UNREAD_STDOUT, ""),
        ("print('x')\n    return 6", 6, ""),
        ("print('x')\n    raise InputError('the file')", 2, "the file\n"),
    ],
)
def test_commands_with_an_unread_stdout(work: str, code: int, stderr: str) -> None:
    assert _run_unread("-c", f"{BEGIN}def work():\n    {work}\n{END}") == (code, stderr)


def test_child_processes_are_not_waited_for_if_stdout_is_unread() -> None:
    work = (
        "from concurrent.futures import ThreadPoolExecutor\nimport time\n"
        "def work():\n    ThreadPoolExecutor(1).submit(time.sleep, 600)\n    print('x', flush=True)\n"
    )
    assert _run_unread("-c", f"{BEGIN}{work}{END}") == (UNREAD_STDOUT, "")


def test_logs_are_dropped_if_stdout_is_unread() -> None:
    """The run of a case writes files, and continues to its end."""
    program = (
        "import logging, sys\nfrom model.cli import process\n"
        "process._prepare()\n"
        "logging.info('one')\nlogging.info('two')\nprint('done', file=sys.stderr)\n"
        "process.leave(0)"
    )
    assert _run_unread("-c", program) == (0, "done\n")


def test_a_broken_pipe_of_a_child_process_is_a_fault() -> None:
    program = f"{BEGIN}def work():\n    raise BrokenPipeError('of a process')\n{END}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 1
    assert done.stderr == "an unexpected fault of the program: BrokenPipeError: of a process\n"


def test_a_closed_stdout() -> None:
    """Logs must not go to stderr instead."""
    program = f"{BEGIN}def work():\n    logging.info('x')\n    print('y', flush=True)\n    return 0\n{END}"
    words = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_package_of_training_is_named_with_its_extra() -> None:
    program = f"{BEGIN}sys.modules['blosc2'] = None\ndef work():\n    import model.data.store\n{END}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == ExitCode.FAULT
    (line,) = done.stderr.splitlines()
    assert line.startswith("blosc2: is not installed") and "longilesion[train]" in line


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_of_any_bytes_are_printed_in_any_locale(locale: dict[str, str]) -> None:
    body = r"logging.info('log \udcfc \xfc'); print('\udcfc'); raise InputError('a\udcfc\x1bb\nc: is odd')"
    program = f"{BEGIN}def work():\n    {body}\n{END}"
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, cwd=CHECKOUT, env=ENVIRONMENT | locale)
    assert (done.returncode, done.stderr) == (2, rb"a\udcfc\x1bb c: is odd" + b"\n")
    assert done.stdout.startswith(rb"log \udcfc ") and done.stdout.endswith(b"\n\\udcfc\n")


def test_a_name_that_is_too_long_is_bad_input() -> None:
    program = f"{BEGIN}from pathlib import Path\ndef work():\n    Path('n' * 300).is_dir()\n{END}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == ExitCode.INPUT
    assert done.stderr == "n" * 300 + ": cannot be used (File name too long); expected another name\n"


def test_nothing_follows_the_last_line() -> None:
    late = "import atexit, os\natexit.register(lambda: os.write(2, b'library at exit'))\n"
    program = f"{late}{BEGIN}def work():\n    raise InputError('the last line')\n{END}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    assert (done.returncode, done.stderr) == (2, "the last line\n")


def test_no_file_becomes_stderr(tmp_path: Path) -> None:
    lines = (f"    file = open({str(tmp_path / 'out')!r}, 'w')", "    return 0 if file.fileno() > 2 else 9")
    program = "\n".join([f"{BEGIN}def work():", *lines, END])
    words = ["sh", "-c", 'exec "$@" 2>&- <&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(words, cwd=CHECKOUT, check=False).returncode == 0
