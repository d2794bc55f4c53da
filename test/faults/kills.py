"""SIGTERM and SIGKILL at random instants: no half-written file, and the next run ends as if undisturbed."""

from __future__ import annotations

import importlib
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from .children import Ended, kill_at, run_child
from .commands import (
    TestedCommand,
    broken_files,
    differences,
    faults_of_streams,
    make_commands,
    temporary_files,
)
from .report import Trial

NAMES = ("segment", "track", "train run")
# Libraries of a training alone, imported once for all of its runs.
_OF_TRAINING = ("torch.utils.tensorboard", "matplotlib.figure")


def kills(folder: Path, instants: int, seed: int, names: Sequence[str] = NAMES) -> Iterator[Trial]:
    """Kill each command at some instants of its run, alternately by SIGTERM and SIGKILL."""
    for library in _OF_TRAINING:
        importlib.import_module(library)
    rng = random.Random(seed)
    commands = [command for command in make_commands(folder / "data") if command.name in names]
    for index, command in enumerate(commands):
        place = folder / command.name.replace(" ", "-")
        reference = place / "reference"
        undisturbed = run_child(command.arguments(reference), place / "logs")
        found = faults_of_streams(undisturbed) + broken_files(reference) + temporary_files(reference)
        yield Trial(f"{command.name}: undisturbed, {undisturbed.seconds:.1f} s", tuple(found))
        for number in range(instants):
            kind = (signal.SIGKILL, signal.SIGTERM)[(index + number) % 2]
            seconds = rng.uniform(0, undisturbed.seconds)
            yield _killed(command, place, reference, kind, seconds)


def _killed(
    command: TestedCommand, place: Path, reference: Path, kind: signal.Signals, seconds: float
) -> Trial:
    output = place / "killed"
    shutil.rmtree(output, ignore_errors=True)
    ended = run_child(command.arguments(output), place / "logs", meanwhile=kill_at(seconds, kind))
    found = [f"half-written: {name}" for name in broken_files(output)]
    if kind is signal.SIGTERM:
        found += _faults_after_sigterm(ended)
        found += [f"left behind: {name}" for name in temporary_files(output)]
    elif ended.code not in (0, -signal.SIGKILL):
        found.append(f"exit code {ended.code} after SIGKILL")
    again = run_child(command.arguments(output), place / "logs")
    found += [f"the next run: {fault}" for fault in faults_of_streams(again)]
    if again.code:
        found.append(f"the next run ended with {again.code}")
    found += [f"the next run differs in {name}" for name in differences(output, reference)]
    return Trial(f"{command.name}: {kind.name} after {seconds:.2f} s, exit code {ended.code}", tuple(found))


def _faults_after_sigterm(ended: Ended) -> list[str]:
    # Before its handlers are in place, Python ends by the signal itself.
    if ended.code not in (0, 143, -signal.SIGTERM):
        return [f"exit code {ended.code} after SIGTERM: {ended.stderr[-300:]}"]
    return faults_of_streams(ended)
