"""The server of interactive sessions: a page, and requests of its sessions as HTTP with JSON.

No name that a client sends is ever used as a path: uploads get names of our own, pages are a fixed list.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..case.pet_ct_scan import PetCtFiles, read_pet_ct
from ..errors import ExitCode, InputError, LongilesionError, MemoryExhaustedError, one_line
from ..interactive.false_alarm_rules import FalseAlarmRules
from ..interactive.load_pet_ct import PetCtModel
from ..interactive.session import DEFAULT_MEMORY_MIB, Session
from .messages import ImagesRequest, PointsRequest, click_list, parsed_request, session_state
from .session_table import (
    HeldSession,
    RefusedRequestError,
    ServerLimits,
    SessionTable,
    UploadKind,
    discard_upload,
)
from .uploads import check_upload

log = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost")
PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "niivue.umd.js": "text/javascript; charset=utf-8",
    "niivue.LICENSE.txt": "text/plain; charset=utf-8",
}

_PAGE = Path(__file__).parent / "page"
_LONGEST_JSON = 1 << 20
_SWEEP_SECONDS = 30.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self' blob: data:; script-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Result = TypeVar("Result")


class SessionServer:
    """The requests of all sessions of one model.

    Networks compute one request at a time; others wait.

    Args:
        model: from `load_pet_ct_model`.
        limits: of sessions and uploads.
        memory_mib: of each session, as for `Session`.
        rules: of each session, as for `Session`.
    """

    def __init__(
        self,
        model: PetCtModel,
        limits: ServerLimits,
        memory_mib: int = DEFAULT_MEMORY_MIB,
        rules: FalseAlarmRules | None = None,
    ) -> None:
        self.limits = limits
        self.table = SessionTable(lambda: Session(model, memory_mib=memory_mib, rules=rules), limits)
        self._computing = threading.Lock()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=self._routes(),
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)],
            exception_handlers={
                LongilesionError: _error_response,
                HTTPException: _http_error_response,
                ClientDisconnect: _gone_response,
                Exception: _fault_response,
            },
            lifespan=self._lifespan,
        )

    def _routes(self) -> list[BaseRoute]:
        one = "/api/sessions/{token:str}"
        return [
            Route("/", _page_file),
            Route("/page/{name:str}", _page_file),
            Route("/api/sessions", self._open, methods=["POST"]),
            Route(one, self._state, methods=["GET"]),
            Route(one, self._close, methods=["DELETE"]),
            Route(one + "/uploads/{kind:str}", self._upload, methods=["PUT"]),
            Route(one + "/images", self._set_images, methods=["POST"]),
            Route(one + "/points", self._add_points, methods=["POST"]),
            Route(one + "/undo", self._undo, methods=["POST"]),
            Route(one + "/mask.nii.gz", self._mask, methods=["GET"]),
            Route(one + "/clicks.json", self._clicks, methods=["GET"]),
        ]

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(min(_SWEEP_SECONDS, self.limits.idle_seconds))
                self.table.close_idle()

        sweeping = asyncio.create_task(sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            self.table.close_all()

    async def _compute(self, request: Request, work: Callable[[HeldSession], Result]) -> Result:
        """Do the work of one request in a thread; paths of ours are left out of messages."""

        def locked() -> Result:
            with self.table.using(request.path_params["token"]) as held, self._computing:
                try:
                    return work(held)
                except LongilesionError as error:
                    _without_folder(error, held.folder)
                    raise

        return await run_in_threadpool(locked)

    async def _open(self, request: Request) -> Response:
        _check_origin(request)
        return _json({"token": self.table.open()}, 201)

    async def _close(self, request: Request) -> Response:
        _check_origin(request)
        self.table.close(request.path_params["token"])
        return _json({})

    async def _state(self, request: Request) -> Response:
        return _json(await self._compute(request, lambda held: session_state(held.session, None)))

    async def _upload(self, request: Request) -> Response:
        _check_origin(request)
        if request.path_params["kind"] not in list(UploadKind):
            raise RefusedRequestError(404, "an upload is 'ct' or 'pet'")
        kind = UploadKind(request.path_params["kind"])
        with self.table.using(request.path_params["token"]) as held:
            path = held.new_upload()
            try:
                size = await _receive(request, path, self.limits.upload_bytes)
            except BaseException:
                discard_upload(path)
                raise
            held.keep_upload(kind, path)
        return _json({"bytes": size})

    async def _set_images(self, request: Request) -> Response:
        _check_origin(request)
        dose = parsed_request(ImagesRequest, await _body(request)).dose

        def work(held: HeldSession) -> dict[str, Any]:
            if missing := [kind for kind in UploadKind if kind not in held.uploads]:
                raise InputError(f"{' and '.join(missing)}: not uploaded yet; expected CT and PET")
            files = PetCtFiles(held.uploads[UploadKind.CT], held.uploads[UploadKind.PET])
            for path in (files.ct, files.pet):
                check_upload(path, self.limits.voxels)
            held.session.set_scan(read_pet_ct(files, dose=dose))
            held.discard_uploads()
            return session_state(held.session, held.session.changed_box)

        return _json(await self._compute(request, work))

    async def _add_points(self, request: Request) -> Response:
        _check_origin(request)
        clicked = parsed_request(PointsRequest, await _body(request))

        def work(held: HeldSession) -> dict[str, Any]:
            session = held.session
            if len(session.clicks) + len(clicked.points) > self.limits.steps:
                raise InputError(f"clicks: there would be more than {self.limits.steps}; expected fewer")
            points = clicked.points_zyx(session)
            session.add_scribble(points, clicked.kind)
            return session_state(session, session.changed_box)

        return _json(await self._compute(request, work))

    async def _undo(self, request: Request) -> Response:
        _check_origin(request)

        def work(held: HeldSession) -> dict[str, Any]:
            held.session.undo()
            return session_state(held.session, held.session.changed_box)

        return _json(await self._compute(request, work))

    async def _mask(self, request: Request) -> Response:
        def work(held: HeldSession) -> bytes:
            path = held.folder / "mask.nii.gz"
            held.session.write_mask(path)
            try:
                return path.read_bytes()
            finally:
                path.unlink()

        return _download(await self._compute(request, work), "application/gzip", "mask.nii.gz")

    async def _clicks(self, request: Request) -> Response:
        def work(held: HeldSession) -> bytes:
            document = {
                "name": "Points of interest",
                "type": "Multiple points",
                "points": click_list(held.session),
                "version": {"major": 1, "minor": 0},
            }
            return json.dumps(document, indent=1).encode()

        return _download(await self._compute(request, work), "application/json", "lesion-clicks.json")


async def _page_file(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    if name not in PAGE_FILES:
        raise HTTPException(404)
    return FileResponse(_PAGE / name, media_type=PAGE_FILES[name], headers=_HEADERS)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_JSON:
            raise RefusedRequestError(413, f"the request is larger than {_LONGEST_JSON} bytes; expected less")
    return body


async def _receive(request: Request, path: Path, most_bytes: int) -> int:
    """Write the body of a request to a file; returns its size."""
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most_bytes:
                raise RefusedRequestError(413, f"the image is larger than {most_bytes} bytes; expected less")
            try:
                await run_in_threadpool(file.write, chunk)
            except OSError as error:
                raise RefusedRequestError(507, f"the image cannot be stored ({error.strerror})") from error
    if not size:
        raise RefusedRequestError(400, "the image is empty; expected the bytes of an image file")
    return size


def _check_origin(request: Request) -> None:
    """Refuse requests that pages of other sites make a browser send.

    Raises:
        RefusedRequestError: the request comes from such a page.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host')}":
        raise RefusedRequestError(403, "requests of pages from elsewhere are refused")


def _without_folder(error: LongilesionError, folder: Path) -> None:
    """Leave the names of uploaded files, which mean nothing to the client, out of a message."""
    error.args = tuple(str(part).replace(f"{folder}/", "") for part in error.args)


def _json(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, headers={"Cache-Control": "no-store"})


def _download(content: bytes, media_type: str, name: str) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


async def _error_response(_request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedRequestError):
        status = error.status
    elif isinstance(error, MemoryExhaustedError):
        status = 507
    else:
        status = 400 if isinstance(error, LongilesionError) and error.exit_code == ExitCode.INPUT else 500
    log.warning("refused: %s", one_line(error))
    return _json({"error": one_line(error)}, status)


async def _http_error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code)


async def _gone_response(_request: Request, _error: Exception) -> Response:
    return _json({"error": "the client has gone"}, 499)


async def _fault_response(_request: Request, error: Exception) -> Response:
    return _json({"error": f"an unexpected fault of the program: {type(error).__name__}"}, 500)
