"""Of two runs in one folder the second is refused; nothing is left behind, even by a run that is killed."""

from __future__ import annotations

import errno
import fcntl
import logging
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from model.case import folder_lock
from model.case.folder_lock import locked_folder
from model.errors import OutputError

from ...helpers.paths import CHECKOUT

HOLD = """
import sys, time
from pathlib import Path
from model.case.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "output"
    with locked_folder(folder):
        with pytest.raises(OutputError, match=r"output: another run .*; expected another folder"):
            locked_folder(folder).__enter__()
        with locked_folder(tmp_path / "new"):  # a folder above or beside is another one
            pass
    assert list(folder.iterdir()) == []
    with locked_folder(folder):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    with pytest.raises(OutputError):
        locked_folder(tmp_path).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with locked_folder(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_waiting_ends_with_the_other_run(tmp_path: Path) -> None:
    seen: list[str] = []

    def second() -> None:
        with locked_folder(tmp_path, wait=True):
            seen.append("second")

    with locked_folder(tmp_path):
        thread = Thread(target=second)
        thread.start()
        thread.join(0.1)
        seen.append("first")
    thread.join(10)
    assert seen == ["first", "second"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF, errno.ENOTSUP])
def test_file_systems_without_locks_are_used_without(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, "not here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.INFO, folder_lock.__name__), locked_folder(tmp_path):
        pass
    assert "cannot be locked against a second run (not here)" in caplog.text


def test_a_folder_that_cannot_be_listed_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with caplog.at_level(logging.INFO, folder_lock.__name__), locked_folder(tmp_path):
        pass
    assert "cannot be locked" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/output: cannot be used .*; expected a writable folder"):
        locked_folder(tmp_path / "file" / "output").__enter__()
