"""Odd surroundings: closed or full streams, no home, nothing writable but the output, a clock that jumps."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from model.case.folder_lock import locked_folder

from .children import run_child
from .commands import (
    TestedCommand,
    broken_files,
    differences,
    faults_of_streams,
    final_files,
    make_commands,
    temporary_files,
)
from .report import Trial

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


def surroundings(folder: Path) -> Iterator[Trial]:
    """Run all commands in odd surroundings; each has to end as an undisturbed one."""
    for command in make_commands(folder / "data"):
        place = folder / command.name.replace(" ", "-")
        reference = place / "reference"
        run_child(command.arguments(reference), place / "logs")
        if command.name != "propagate":  # which writes single files
            yield _second_run(command, place, reference)
        for name, before in _BEFORE.items():
            yield _tried(command, name, before, place, reference)
        if os.getuid() == 0:
            output = place / "nothing-else-is-writable"
            name = "nothing but the output is writable, /tmp neither"
            yield _tried(command, name, partial(_only_writable, output), place, reference, output)


def _tried(
    command: TestedCommand,
    name: str,
    before: Callable[[], None],
    place: Path,
    reference: Path,
    output: Path | None = None,
) -> Trial:
    output = output or place / name.replace(" ", "-").replace("/", "-")
    output.mkdir(parents=True)
    ended = run_child(command.arguments(output), place / "logs", before=before)
    found = faults_of_streams(ended)
    is_result_lost = before is _fill_stdout and command.name == "evaluate"  # which prints it
    if ended.code != (5 if is_result_lost else 0):
        found.append(f"exit code {ended.code}: {ended.stderr[-300:]}")
    found += [f"half-written: {name}" for name in broken_files(output)]
    found += [f"left behind: {name}" for name in temporary_files(output)]
    if not is_result_lost:
        found += [f"differs: {name}" for name in differences(output, reference)]
    return Trial(f"{command.name}: {name}, exit code {ended.code}", tuple(found))


def _second_run(command: TestedCommand, place: Path, reference: Path) -> Trial:
    """A run whose folder another one is writing to is refused and changes nothing."""
    locked = reference / "o" if command.name == "segment" else reference
    locked = {"track": reference / "p", "train run": reference / "fold_0"}.get(command.name, locked)
    before = {name: path.read_bytes() for name, path in final_files(reference).items()}
    if command.name == "train run":
        (reference / "fold_0" / "checkpoint_final.pth").unlink()
        before.pop("fold_0/checkpoint_final.pth")
    with locked_folder(locked):
        ended = run_child(command.arguments(reference), place / "logs")
    found = faults_of_streams(ended)
    if ended.code != 5 or "another run" not in ended.stderr:
        found.append(f"exit code {ended.code}: {ended.stderr[-300:]}")
    if {name: path.read_bytes() for name, path in final_files(reference).items()} != before:
        found.append("the files of the first run were changed")
    run_child(command.arguments(reference), place / "logs")
    return Trial(f"{command.name}: the folder is another run's, exit code {ended.code}", tuple(found))


def _close(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)
        # What Python does at its start when the shell has closed them.
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if number in numbers:
                setattr(sys, name, None)

    return close


def _fill_stdout() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _environment(**values: str | None) -> Callable[[], None]:
    def change() -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return change


def _jumping_clock() -> None:
    """Let the clock of the day run backwards, by an hour each time it is read."""
    now, calls = time.time, [0]

    def backwards() -> float:
        calls[0] += 1
        return now() - 3600 * calls[0]

    time.time = backwards


def _only_writable(output: Path) -> None:
    """Mount everything read-only for this process but one folder."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    os.environ["MPLCONFIGDIR"] = "/nonexistent"
    for words in (
        ["--make-rprivate", "/"],
        ["--bind", str(output), str(output)],
        ["-o", "remount,ro,bind", "/"],
    ):
        subprocess.run(["mount", *words], check=True)


_BEFORE: dict[str, Callable[[], None]] = {
    "stdin closed": _close(0),
    "stdin, stdout and stderr closed": _close(0, 1, 2),
    "no home": _environment(HOME=None),
    "no temporary folder": _environment(HOME="/nonexistent", TMPDIR="/nonexistent"),
    "locale C": _environment(LANG=None, LC_ALL="C"),
    "the clock runs backwards": _jumping_clock,
    "stdout on a full disk": _fill_stdout,
}
