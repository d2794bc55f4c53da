"""Files of a downloaded archive (ZIP, TAR, TAR.GZ), read one after the other within bounds.

Nothing is ever written by a name of the archive, and no link in it is followed. An archive with links, names
that lead elsewhere, or far more contents than its own size is refused before or while it is read.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from ..case.file_kinds import other_kind
from ..case.input_files import open_input
from ..errors import InputError, WeightsError, one_line

# Weights are hardly compressible: of random mantissas less than a tenth can be saved.
_MOST_PER_BYTE = 20
_ALLOWANCE_BYTES = 64 << 20
_MOST_FILES = 20_000
_MOST_AT_ONCE = 16 << 20  # headers of TAR files are read at once, as long as they say
_EXPECTED = "a ZIP, TAR or TAR.GZ archive of a model"
_KINDS = {"link": (stat.S_ISLNK,), "device or pipe": (stat.S_ISBLK, stat.S_ISCHR, stat.S_ISFIFO)}


class ArchivedFile:
    """A file of an archive; read it before advancing to the next one.

    Args:
        archive: for messages.
        path: of the file in it, relative and without ``..``.
        content: its contents.
    """

    def __init__(self, archive: Path, path: PurePosixPath, content: IO[bytes]) -> None:
        self.path = path
        self._archive, self._content = archive, content

    def read(self, size: int) -> bytes:
        """Read at most so many of the next bytes; b"" at the end.

        Raises:
            WeightsError: the archive is damaged, or its contents exceed the bounds.
        """
        with _faults(self._archive):
            return self._content.read(size)


class _Forward(io.RawIOBase):
    """A stream that is read forward, up to a limit and a bit at a time; going back one byte is allowed."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path, limit: int) -> None:
        self._stream, self._path, self._limit = stream, path, limit
        self._position, self._last, self._again = 0, b"", b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise _too_large(self._path)
        again, self._again = self._again[:size], self._again[size:]
        data = again + self._stream.read(size - len(again))
        self._move(self._position + len(data))
        self._last = data[-1:] or self._last
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset == self._position - 1 and self._last and not self._again:
            self._position, self._again = offset, self._last  # gzip would begin from the start
            return offset
        if whence != io.SEEK_SET or offset < self._position:
            raise ValueError("its members overlap")
        if offset > self._position:
            self._move(offset)
            self._again = b""
            self._stream.seek(offset)
        return offset

    def _move(self, position: int) -> None:
        if position > self._limit:
            raise _too_large(self._path)
        self._position = position


def archived_files(path: Path) -> Iterator[ArchivedFile]:
    """Read the files of an archive one after the other; folders are left out.

    Args:
        path: the archive.

    Raises:
        WeightsError: it is no such archive, damaged, encrypted, or unsafe to unpack.
    """
    try:
        with open_input(path, _EXPECTED) as file:
            start = file.read(512)
            file.seek(0)
            limit = _MOST_PER_BYTE * path.stat().st_size + _ALLOWANCE_BYTES
            with _faults(path):
                if start.startswith(b"PK\3\4"):
                    yield from _zipped(path, file, limit)
                elif start.startswith(b"\x1f\x8b"):
                    with gzip.GzipFile(fileobj=file) as unpacked:
                        yield from _tarred(path, unpacked, limit)
                elif start[257:262] == b"ustar":
                    yield from _tarred(path, file, limit)
                else:
                    kind = other_kind(start) or "of an unknown kind"
                    raise WeightsError(f"{path}: is {kind}; expected {_EXPECTED}")
    except InputError as error:
        raise WeightsError(str(error)) from error


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what damaged archives raise into one sentence."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        gzip.BadGzipFile,
        ValueError,
        LookupError,
    ) as error:
        raise WeightsError(
            f"{path}: is damaged or was not downloaded whole ({one_line(error)[:120]}); expected {_EXPECTED}"
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: cannot be unpacked ({one_line(error)[:120]}); expected {_EXPECTED}"
        ) from error


def _zipped(path: Path, file: IO[bytes], limit: int) -> Iterator[ArchivedFile]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > _MOST_FILES or sum(member.file_size for member in members) > limit:
            raise _too_large(path)
        for member in members:
            mode = member.external_attr >> 16
            name = _safe_name(path, member.filename, mode)
            if member.is_dir():
                continue
            if member.flag_bits & 1:
                raise WeightsError(f"{path}: is encrypted; expected an archive without a password")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WeightsError(f"{path}: is compressed in an unusual way; expected deflate or none")
            with archive.open(member) as content:  # gives no more than the size in its directory
                yield ArchivedFile(path, name, content)


def _tarred(path: Path, file: IO[bytes] | gzip.GzipFile, limit: int) -> Iterator[ArchivedFile]:
    bounded = _Forward(file, path, limit)
    with tarfile.open(fileobj=bounded, mode="r:") as archive:
        for number, member in enumerate(archive, 1):
            if number > _MOST_FILES:
                raise _too_large(path)
            mode = stat.S_IFLNK if member.issym() or member.islnk() else 0
            mode = stat.S_IFIFO if member.isdev() else mode
            name = _safe_name(path, member.name, mode)
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None:
                raise WeightsError(
                    f"{path}: {str(name)!r} is no plain file; expected plain files and folders"
                )
            with content:
                yield ArchivedFile(path, name, content)


def _safe_name(path: Path, name: str, mode: int) -> PurePosixPath:
    """The relative path of a file or folder in the archive; refuses names and kinds that are unsafe."""
    shown = repr(name[-80:])
    for kind, tests in _KINDS.items():
        if any(test(mode) for test in tests):
            raise WeightsError(f"{path}: {shown} is a {kind}; expected plain files and folders only")
    parsed = PurePosixPath(name)
    is_unsafe = parsed.is_absolute() or ".." in parsed.parts or "\\" in name or not name.isprintable()
    if is_unsafe or len(name) > 1000 or any(len(part.encode()) > 200 for part in parsed.parts):
        raise WeightsError(
            f"{path}: {shown} leads out of the folder or is no usable name; expected relative names"
        )
    return parsed


def _too_large(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: would unpack to more than {_MOST_PER_BYTE} times its size, or to more than {_MOST_FILES} "
        "files; expected weights, which hardly shrink"
    )
