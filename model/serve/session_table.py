"""Sessions of a server by their tokens: limits on their number and age, and where their uploads lie."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ..case.atomic_files import forget_temporary, remember_temporary
from ..errors import LongilesionError
from ..interactive.session import Session

log = logging.getLogger(__name__)

_TOKEN_BYTES = 24


class UploadKind(StrEnum):
    """Images that are uploaded to a session."""

    CT = "ct"
    PET = "pet"


class RefusedRequestError(LongilesionError):
    """A request that the server does not fulfil; ``status`` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of a server.

    Attributes:
        sessions: open at once.
        idle_seconds: after its last request a session is closed.
        upload_bytes: of one image file.
        voxels: of one image.
        steps: clicks and points of scribbles of one session.
    """

    sessions: int = 4
    idle_seconds: float = 3600.0
    upload_bytes: int = 1 << 30
    voxels: int = 400_000_000
    steps: int = 2000


@dataclass(eq=False)
class HeldSession:
    """One session of the server.

    Attributes:
        token: by which its client finds it.
        session: of the Python API; its images are set once both are uploaded.
        folder: of its uploads, which have names of our own.
        used: time of its last request.
        users: requests that are being worked on.
        uploads: images that are complete and not read yet.
    """

    token: str
    session: Session
    folder: Path
    used: float
    users: int = 0
    uploads: dict[UploadKind, Path] = field(default_factory=dict)

    def new_upload(self) -> Path:
        """An empty file for an upload, deleted with the session."""
        handle, name = tempfile.mkstemp(dir=self.folder)
        os.close(handle)
        path = Path(name)
        remember_temporary(path)
        return path

    def keep_upload(self, kind: UploadKind, path: Path) -> None:
        """Take a complete upload as an image of the session, in place of an earlier one."""
        kept = self.folder / kind  # this name is in messages
        remember_temporary(kept)
        path.replace(kept)
        forget_temporary(path)
        self.uploads[kind] = kept

    def discard_uploads(self) -> None:
        """Delete the uploaded files."""
        for path in self.uploads.values():
            discard_upload(path)
        self.uploads.clear()


def discard_upload(path: Path) -> None:
    """Delete the file of an upload, which may be gone."""
    with suppress(OSError):
        path.unlink()
    forget_temporary(path)


class SessionTable:
    """Open sessions by token; may be used by several threads.

    Args:
        make_session: a new session of the server's model.
        limits: of the server.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        make_session: Callable[[], Session],
        limits: ServerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_session, self._limits, self._clock = make_session, limits, clock
        self._held: dict[str, HeldSession] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def open(self) -> str:
        """Open a session; returns its token.

        Raises:
            RefusedRequestError: there are as many as may be.
        """
        self.close_idle()
        with self._lock:
            if len(self._held) >= self._limits.sessions:
                raise RefusedRequestError(
                    503, f"{len(self._held)} sessions are open; expected one of them to be closed first"
                )
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            folder = Path(tempfile.mkdtemp(prefix="longilesion-"))
            self._held[token] = HeldSession(token, self._make_session(), folder, self._clock())
        return token

    @contextmanager
    def using(self, token: str) -> Iterator[HeldSession]:
        """Use a session for one request; it is not closed meanwhile.

        Raises:
            RefusedRequestError: no session has this token.
        """
        self.close_idle()
        with self._lock:
            held = self._held.get(token)
            if held is None:
                raise RefusedRequestError(404, "no session has this token; it may have been closed meanwhile")
            held.users += 1
        try:
            yield held
        finally:
            with self._lock:
                held.users -= 1
                held.used = self._clock()
                is_closed = token not in self._held and not held.users
            if is_closed:
                _remove(held)

    def close(self, token: str) -> None:
        """Close a session; its files are deleted once no request uses it."""
        with self._lock:
            held = self._held.pop(token, None)
            is_free = held is not None and not held.users
        if held is not None and is_free:
            _remove(held)

    def close_idle(self) -> None:
        """Close the sessions without a request for too long."""
        now = self._clock()
        with self._lock:
            idle = [
                token
                for token, held in self._held.items()
                if not held.users and now - held.used > self._limits.idle_seconds
            ]
        for token in idle:
            log.info(
                "a session was closed after %.0f minutes without a request", self._limits.idle_seconds / 60
            )
            self.close(token)

    def close_all(self) -> None:
        """Close all sessions."""
        for token in tuple(self._held):
            self.close(token)


def _remove(held: HeldSession) -> None:
    held.discard_uploads()
    with suppress(OSError):
        for path in held.folder.iterdir():  # of uploads that were broken off
            discard_upload(path)
        held.folder.rmdir()
