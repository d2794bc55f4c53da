"""Whether work on a scan was done on the same input: sizes and times of its files, and the settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .dataset import RawScan


class FileStamp(BaseModel):
    """A file as it was; (-1, -1) where none was."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    mtime_ns: int


class Stamp(BaseModel):
    """``settings`` is whatever else the work depends on, in one text."""

    model_config = ConfigDict(frozen=True)

    files: tuple[FileStamp, ...]
    settings: str


def stamp_of(scan: RawScan, settings: str) -> Stamp:
    """The stamp of a scan's files now."""
    return Stamp(files=tuple(_file(p) for p in (scan.image, scan.labels) if p is not None), settings=settings)


def _file(path: Path) -> FileStamp:
    try:
        found = path.stat()
    except OSError:
        return FileStamp(path=str(path.absolute()), size=-1, mtime_ns=-1)
    return FileStamp(path=str(path.absolute()), size=found.st_size, mtime_ns=found.st_mtime_ns)
