"""SHA-256 of files; a process reads one again only when its size or its time has changed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..network.weights import sha256


class FileMark(BaseModel):
    """A file as it was when it was read."""

    model_config = ConfigDict(frozen=True)

    size: int
    mtime_ns: int
    sha256: str

    def fits(self, path: Path) -> bool:
        """Whether a file has the content still; of one that is gone nobody can tell, and it passes.

        Of a file of the same size and time nothing is read.
        """
        try:
            found = path.stat()
        except OSError:
            return True
        if found.st_size != self.size:
            return False
        return found.st_mtime_ns == self.mtime_ns or file_digest(path) == self.sha256


def mark_of(path: Path) -> FileMark:
    """The mark of a file as it is now. OSError where it cannot be read."""
    found = path.stat()
    return FileMark(size=found.st_size, mtime_ns=found.st_mtime_ns, sha256=file_digest(path))


def file_digest(path: Path) -> str:
    """The SHA-256 of a file. OSError where it cannot be read."""
    found = path.stat()
    return _digest(path.absolute(), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return sha256(path)
