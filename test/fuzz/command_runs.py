"""Whole runs of the other commands with one damaged input file."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from model.errors import ExitCode

from ..faults.children import Ended, import_libraries, run_child
from ..faults.commands import TestedCommand, differences, final_files, make_commands
from .end_to_end import damaged_file
from .judge import Verdict, sentence_fault

# Files that each command reads, under the folder of all data.
_INPUTS = {
    "segment": "case/**/*",
    "track": "series.csv case/images/*-ct/* case/images/*-seg/*",
    "propagate": "case/primary-baseline-lesion-clicks.json case/images/*/*",
    "evaluate": "case/images/*-seg/*",
    "train prepare": "manifest.csv p*.mha",
}
COMMANDS = tuple(_INPUTS)
# What `train prepare` writes about a data set before it refuses it.
_FINDINGS = ("checks.json", "survey/")


@dataclass(frozen=True)
class _Workshop:
    """Commands, and the folder with their data and output."""

    folder: Path
    commands: dict[str, TestedCommand]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def run(self, name: str) -> Ended:
        """Run a command into an empty folder."""
        shutil.rmtree(self.output, ignore_errors=True)
        return run_child(self.commands[name].arguments(self.output), self.folder / "logs")

    def inputs(self, name: str) -> list[Path]:
        """Files that a command reads."""
        found = {path for pattern in _INPUTS[name].split() for path in self.data.glob(pattern)}
        return sorted(path for path in found if path.is_file())


@cache
def _workshop() -> _Workshop:
    """Made once, and removed with the process."""
    import_libraries()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "data").mkdir()
    return _Workshop(folder, {command.name: command for command in make_commands(folder / "data")})


@cache
def _expected(name: str) -> tuple[Path, frozenset[str]]:
    """Folder with the results of the undisturbed run, and its warnings."""
    workshop = _workshop()
    ended = workshop.run(name)
    assert ended.code == 0, ended.stdout + ended.stderr
    reference = workshop.folder / f"expected-{name.replace(' ', '-')}"
    workshop.output.rename(reference)
    return reference, _warnings(reference)


def _warnings(output: Path) -> frozenset[str]:
    """Warnings in the records of a run."""
    return frozenset(
        warning for path in output.rglob("*.json") for warning in _listed(json.loads(path.read_text()))
    )


def _listed(record: Any) -> Iterator[str]:
    """Yield the warnings anywhere in a record."""
    if isinstance(record, dict):
        yield from map(str, record.get("warnings", []))
    for entry in record.values() if isinstance(record, dict) else record if isinstance(record, list) else ():
        yield from _listed(entry)


def run_one(rng: Random, name: str, kept: Path | None = None) -> Verdict:
    """Damage one input of a command, run it, and judge what comes of it.

    Args:
        rng: source of randomness.
        name: of the command.
        kept: folder to which the damaged data of a fault is copied.
    """
    workshop = _workshop()
    expected, warnings = _expected(name)
    path = rng.choice(workshop.inputs(name))
    content = path.read_bytes()
    damaged, words, has_proof = damaged_file(rng, path.suffix, content)
    path.write_bytes(damaged)
    try:
        ended = workshop.run(name)
        change = f"{path.relative_to(workshop.data)}: {words}"
        verdict = _judged(ended, workshop.output, expected, warnings, change, has_proof)
        if verdict.fault and kept is not None:
            shutil.copytree(workshop.data, kept, dirs_exist_ok=True)
        return verdict
    finally:
        path.write_bytes(content)


def _may_stay(path: Path, output: Path) -> bool:
    """True for findings about a data set, and for whole patients beside one that cannot be tracked."""
    is_finding = str(path.relative_to(output)).startswith(_FINDINGS)
    return is_finding or any((folder / "tracking.json").is_file() for folder in path.parents)


def _is_same_scan(path: Path, reference: Path) -> bool:
    """Compare records of a scan but for the size and the time of the files that it was made from."""
    if path.suffix != ".json" or not (path.is_file() and reference.is_file()):
        return False
    here, there = (json.loads(one.read_text()) for one in (path, reference))
    return isinstance(here, dict) and {**here, "stamp": None} == {**there, "stamp": None}


def _judged(
    ended: Ended, output: Path, expected: Path, warnings: frozenset[str], change: str, has_proof: bool
) -> Verdict:
    outcome = f"exit code {ended.code}"
    lines = ended.stderr.splitlines()
    if ended.code not in (ExitCode.SUCCESS, ExitCode.INPUT):
        return Verdict(outcome, change, f"exit code {ended.code}: {ended.stderr[-300:]}")
    if any("Traceback" in line for line in lines) or len(lines) != (ended.code != 0):
        return Verdict(outcome, change, f"on stderr: {ended.stderr[-300:]}")
    if ended.code:
        left = ", ".join(name for name in final_files(output) if not _may_stay(output / name, output))
        return Verdict(outcome, change, f"left {left[:200]}" if left else sentence_fault(lines[-1]))
    if all(_is_same_scan(output / name, expected / name) for name in differences(output, expected)):
        return Verdict("equal", change)
    if _warnings(output) - warnings:
        return Verdict("with a warning", change)
    fault = "another result in spite of a checksum" if has_proof else None
    return Verdict("another result", change, fault)
