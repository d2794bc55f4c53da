"""Text of libraries on file descriptor 2 goes to the log, from any thread, and stderr comes back."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from model.case.library_text import captured_library_text, write_to_stderr
from test.helpers.paths import CHECKOUT


def test_text_is_logged_and_stderr_comes_back(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), captured_library_text():
        os.write(2, b"one\n")
        with captured_library_text():
            os.write(2, b"two \xff\n")
        assert write_to_stderr("a sentence of ours")
        os.write(2, b"three\n")
    os.write(2, b"after\n")
    assert not write_to_stderr("Python's own stderr does")
    assert caplog.messages == ["library: one", "library: two \\xff", "library: three"]
    assert capfd.readouterr().err == "a sentence of ours\nafter\n"


def test_an_error_gives_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), captured_library_text():
        os.write(2, b"lost\n")
        raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_many_threads(capfd: pytest.CaptureFixture[str]) -> None:
    def work(number: int) -> None:
        with captured_library_text():
            os.write(2, b"noise %d\n" % number)

    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert len(os.listdir("/proc/self/fd")) == before
    assert capfd.readouterr().err == ""


def test_a_closed_stderr() -> None:
    program = (
        "from model.case.library_text import captured_library_text\n"
        "import os\n"
        "with captured_library_text():\n    os.listdir('.')\n"
        "print('done')\n"
    )
    run = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
