"""Provenance: marks of files and digests of values that show whether a result still belongs to its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from ..network.weights import sha256


class FileMark(BaseModel):
    """A file as it was when it was read.

    Attributes:
        path: absolute path; None if the mark goes by the content alone.
        size: bytes, -1 if the file was missing.
        mtime_ns: time of the last modification, -1 if the file was missing.
        sha256: hash of the content; None if the mark goes by size and time alone.
    """

    model_config = ConfigDict(frozen=True)

    path: str | None = None
    size: int
    mtime_ns: int
    sha256: str | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    def matches(self, path: Path) -> bool:
        """True if a file still has the marked content. Missing files count as unchanged.

        The file is read only if its time has changed and its size has not.
        """
        try:
            now = path.stat()
        except OSError:
            return True
        if now.st_size != self.size:
            return False
        return now.st_mtime_ns == self.mtime_ns or file_digest(path) == self.sha256


class Stamp(BaseModel):
    """The inputs of a piece of work: marks of its files, and all its settings in one text."""

    model_config = ConfigDict(frozen=True)

    files: tuple[FileMark, ...]
    settings: str


def mark_of(path: Path) -> FileMark:
    """Mark a file by size, time and content.

    Raises:
        OSError: the file cannot be read.
    """
    now = path.stat()
    return FileMark(size=now.st_size, mtime_ns=now.st_mtime_ns, sha256=file_digest(path))


def stamp_of(paths: Iterable[Path], settings: str) -> Stamp:
    """Stamp work on files as they are now, by path, size and time; nothing is read."""
    return Stamp(files=tuple(map(_mark_without_content, paths)), settings=settings)


def _mark_without_content(path: Path) -> FileMark:
    try:
        now = path.stat()
    except OSError:
        return FileMark(path=str(path.absolute()), size=-1, mtime_ns=-1)
    return FileMark(path=str(path.absolute()), size=now.st_size, mtime_ns=now.st_mtime_ns)


def file_digest(path: Path) -> str:
    """SHA-256 of a file; a process reads it again only if its size or time has changed.

    Raises:
        OSError: the file cannot be read.
    """
    now = path.stat()
    return _cached_digest(path.absolute(), now.st_size, now.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_digest(path: Path, size: int, mtime_ns: int) -> str:
    return sha256(path)


def digest(values: Iterable[object]) -> str:
    """SHA-256 of values one after the other: bytes as they are, anything else by its `repr`.

    Digests are written to disk: the `repr` of a value, e.g. the field names of a dataclass, must not change.
    """
    total = hashlib.sha256()
    for value in values:
        total.update(value if isinstance(value, bytes) else repr(value).encode())
    return total.hexdigest()
