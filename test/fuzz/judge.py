"""What becomes of a mutated input, and whether that is right."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from model.errors import ExitCode, LongilesionError, one_line

Files = Mapping[str, bytes]
"""Contents by name; names may hold folders."""

_TOLERANCE = 1e-6  # of numbers that another reader computes in another way


@dataclass(frozen=True, eq=False)
class Seed:
    """A valid input: its files, and the name of the one that is read."""

    name: str
    files: Files
    main: str


@dataclass(frozen=True)
class Mutant:
    """A changed input.

    ``has_proof`` marks a change of a part with a checksum, which every change must hurt.
    """

    files: Files
    change: str
    has_proof: bool = False


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of input.

    Attributes:
        seeds: makes valid inputs; called once.
        mutate: makes a mutant of one of them.
        read: our reading as plain data, and notes for the user.
        reference: another reader's reading of the same files; raises if it refuses them.
        codes: exit codes with which such an input may be refused.
    """

    name: str
    seeds: Callable[[], tuple[Seed, ...]]
    mutate: Callable[[Random, Seed], Mutant]
    read: Callable[[Path], tuple[Any, tuple[str, ...]]]
    reference: Callable[[Path], Any]
    codes: frozenset[int] = frozenset({int(ExitCode.INPUT)})


@dataclass(frozen=True)
class Verdict:
    """How a mutant was received; ``fault`` says what is wrong with that, if anything."""

    outcome: str
    change: str
    fault: str | None = None


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass(frozen=True)
class Received:
    """What the reading of files gives: a value, or an error; notes, and text on stderr."""

    value: Any
    error: BaseException | None
    notes: tuple[str, ...]
    stderr: str


def judge(kind: Kind, seed: Seed, mutant: Mutant) -> Verdict:
    """Read a mutant, and compare with its seed and with another reader."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, mutant.files)
        received = receive(kind, folder / seed.main)
        if received.stderr:
            return Verdict("text on stderr", mutant.change, f"on stderr: {received.stderr[:200]}")
        if received.error is not None:
            return _refusal(kind, mutant, received.error, folder)
        return _comparison(kind, seed, mutant, received, folder)


def _refusal(kind: Kind, mutant: Mutant, error: BaseException, folder: Path) -> Verdict:
    if not isinstance(error, LongilesionError):
        return Verdict("exception", mutant.change, f"{type(error).__name__}: {error}"[:300])
    code, text = int(error.exit_code), one_line(error)
    fault = sentence_fault(text)
    if code not in kind.codes:
        fault = f"exit code {code}: {text[:200]}"
    elif str(folder) not in text:
        fault = f"names no file: {text[:200]}"
    return Verdict(f"refused ({code})", mutant.change, fault)


def sentence_fault(text: str) -> str | None:
    """What is wrong with a message for the user, None if it is one line that says what was expected."""
    if "\n" in text or not text.strip():
        return f"is not one line: {text[:200]!r}"
    if "expected" not in text:
        return f"does not say what was expected: {text[:200]}"
    return "is too long" if len(text) > 1100 else None


def _comparison(kind: Kind, seed: Seed, mutant: Mutant, received: Received, folder: Path) -> Verdict:
    before = original(kind, seed)
    if same(received.value, before.value, 0):
        return Verdict("equal", mutant.change)
    if mutant.has_proof:
        return Verdict("another result", mutant.change, "another result in spite of a checksum")
    try:
        reference = kind.reference(folder / seed.main)
    except Exception as error:
        if set(received.notes) - set(before.notes):
            return Verdict("with a warning", mutant.change)
        return Verdict("another result", mutant.change, f"another reader refuses it: {error}"[:300])
    if same(received.value, reference, _TOLERANCE):
        return Verdict("as another reader", mutant.change)
    if set(received.notes) - set(before.notes):
        return Verdict("with a warning", mutant.change)
    fault = f"{received.value!r}"[-300:] + "; another reader has " + f"{reference!r}"[-300:]
    return Verdict("another result", mutant.change, fault)


def write_files(folder: Path, files: Files) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@cache
def original(kind: Kind, seed: Seed) -> Received:
    """The reading of an unchanged input.

    Raises:
        AssertionError: it is refused.
    """
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), seed.files)
        received = receive(kind, Path(name) / seed.main)
    assert received.error is None and not received.stderr, (kind.name, seed.name, received)
    return received


def receive(kind: Kind, path: Path) -> Received:
    """Read files, and keep what comes of it."""
    handler = _Notes()
    root = logging.getLogger()
    root.addHandler(handler)
    value: Any = None
    error: Exception | None = None
    notes: tuple[str, ...] = ()
    try:
        with _stderr() as text:
            try:
                value, notes = kind.read(path)
            except Exception as raised:
                error = raised
    finally:
        root.removeHandler(handler)
    folder = str(path.parent)
    told = tuple(line.replace(folder, "") for line in (*notes, *handler.lines))
    return Received(value, error, told, text[0])


@contextmanager
def _stderr() -> Iterator[list[str]]:
    """Keep what is written to file descriptor 2."""
    kept, before = os.memfd_create("stderr"), os.dup(2)
    text = [""]
    os.dup2(kept, 2)
    try:
        yield text
    finally:
        os.dup2(before, 2)
        text[0] = os.pread(kept, 4096, 0).decode("utf-8", "backslashreplace")
        os.close(before)
        os.close(kept)


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Compare plain data: containers, arrays with their types, and numbers up to a relative tolerance."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        is_pair = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        return is_pair and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, int | float) and not isinstance(b, bool):
        return a == b or (a != a and b != b) or abs(a - b) <= tolerance * max(1.0, abs(a))
    return type(a) is type(b) and bool(a == b)
