"""The platform's `invoke` API: a server that has loaded the model, and segments one case after the other.

`GET /health` is 503 until the model is loaded, then 200, also while a case runs. `POST /invoke` segments the
case in the input folder and is 201 once its outputs were written and read back; a case that fails is 500 with
its sentence, and the server goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from ..errors import InputError
from .process import explain, print_error_line

if TYPE_CHECKING:  # torch must not delay the first responses
    from .warm_model import WarmModel

log = logging.getLogger(__name__)

_ALL_ADDRESSES = ""  # in a container; the platform is on another one
_SECONDS_PER_REQUEST = 10.0  # to send it
_MOST_BODY_BYTES = 1 << 20
_BUSY_SECONDS = 1

Response = tuple[HTTPStatus, dict[str, object]]


class InvokeServer:
    """Serves one case at a time, with one model.

    Args:
        arguments: a command line parsed with the options of ``segment`` and ``port``.
        warm_up: loads the model; None loads that of the arguments.

    Attributes:
        port: on which it listens; None before it does.
    """

    def __init__(self, arguments: argparse.Namespace, warm_up: Callable[[], WarmModel] | None = None) -> None:
        self._arguments = arguments
        self._warm_up = warm_up or self._load
        self._model: WarmModel | None = None
        self._is_busy = Lock()
        self._has_ended = Event()
        self.port: int | None = None

    def serve(self) -> int:
        """Listen at once, load the model, and serve for ever.

        Raises:
            LongilesionError: the port is taken, or the model cannot be loaded.
        """
        with self._listening() as listener:
            self.port = port = listener.server_port
            Thread(target=listener.serve_forever, name="http", daemon=True).start()
            try:
                start = time.perf_counter()
                self._model = self._warm_up()
                log.info("ready on port %d after %.1f s", port, time.perf_counter() - start)
                self._has_ended.wait()
            finally:
                listener.shutdown()
        return 0

    def end(self) -> None:
        """Have `serve` return; a case that runs is not waited for."""
        self._has_ended.set()

    def write_unfinished(self) -> str:
        """Write what is finished of the case that runs, if one does; see `CaseRun.write_unfinished`."""
        sentence = self._model.write_unfinished() if self._model is not None else None
        return sentence or "no case was running"

    def health(self) -> Response:
        """Whether cases can be sent."""
        if self._model is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "loading"}
        return HTTPStatus.OK, {"status": "busy" if self._is_busy.locked() else "ready"}

    def invoke(self) -> Response:
        """Segment the case in the input folder, unless another one is being segmented."""
        if self._model is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the model is being loaded"}
        if not self._is_busy.acquire(blocking=False):
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "another case is being segmented"}
        start = time.perf_counter()
        try:
            self._model.run_case()
        except BaseException as error:
            code, sentence = explain(error)
            print_error_line(sentence)
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": sentence, "exit_code": code}
        finally:
            self._is_busy.release()
        seconds = time.perf_counter() - start
        log.info("the case took %.1f s", seconds)
        return HTTPStatus.CREATED, {"status": "done", "seconds": round(seconds, 3)}

    def _load(self) -> WarmModel:
        from .warm_model import load_warm_model

        return load_warm_model(self._arguments)

    def _listening(self) -> ThreadingHTTPServer:
        port = self._arguments.port
        handler = type("_Handler", (_RequestHandler,), {"server_of_cases": self})
        try:
            return _Listener((_ALL_ADDRESSES, port), handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"--port {port}: cannot be used ({error}); expected a free port") from error


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _RequestHandler(BaseHTTPRequestHandler):
    """Handles each request in a thread of its own, and never redirects."""

    protocol_version = "HTTP/1.1"
    timeout = _SECONDS_PER_REQUEST
    server_of_cases: InvokeServer

    def do_GET(self) -> None:
        self._respond({"/health": self.server_of_cases.health}, {"/invoke": "POST"})

    def do_POST(self) -> None:
        self._respond({"/invoke": self.server_of_cases.invoke}, {"/health": "GET"})

    def _respond(self, known: dict[str, Callable[[], Response]], others: dict[str, str]) -> None:
        path = self.path.partition("?")[0]
        if not self._takes_body():
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "expected a short body or none"})
        elif path in known:
            self._send(*known[path]())
        elif path in others:
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"expected {others[path]} {path}"})
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "expected GET /health or POST /invoke"})

    def _takes_body(self) -> bool:
        """Read the body, which says nothing; False for one that is too long or of unknown length."""
        length = self.headers.get("Content-Length", "0")
        is_short = length.isascii() and length.isdecimal() and int(length) <= _MOST_BODY_BYTES
        if not is_short or self.headers.get("Transfer-Encoding") is not None:
            return False
        self.rfile.read(int(length))
        return True

    def _send(self, status: HTTPStatus, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.close_connection = True
        self.send_response(status)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(_BUSY_SECONDS)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Health checks would fill the log."""
        log.debug(format, *args)
