"""The platform's invoke API over HTTP: health, one case at a time, failing cases, odd requests."""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from model.cli.invoke_server import InvokeServer
from model.errors import InputError, WeightsError

_SECONDS = 30.0


class _Cases:
    """A stand-in for a loaded model, whose case runs until it is let go."""

    def __init__(self) -> None:
        self.loading, self.running, self.may_end = Event(), Event(), Event()
        self.error: Exception | None = None

    def run_case(self) -> None:
        self.running.set()
        assert self.may_end.wait(_SECONDS)
        if self.error is not None:
            raise self.error

    def write_unfinished(self) -> str | None:
        return "UNFINISHED: lesion 7" if self.running.is_set() and not self.may_end.is_set() else None


class _Client:
    """Requests to a server on this computer."""

    def __init__(self, server: InvokeServer) -> None:
        deadline = time.monotonic() + _SECONDS
        while server.port is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.port is not None
        self._port = server.port

    def __call__(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def until(self, status: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while self("GET", "/health")[1]["status"] != status:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def cases() -> _Cases:
    return _Cases()


@pytest.fixture
def server(cases: _Cases) -> Iterator[InvokeServer]:
    def warm_up() -> _Cases:
        assert cases.loading.wait(_SECONDS)
        return cases

    server = InvokeServer(argparse.Namespace(port=0), warm_up)
    thread = Thread(target=server.serve)
    thread.start()
    yield server
    cases.loading.set()
    cases.may_end.set()
    server.end()
    thread.join(_SECONDS)
    assert not thread.is_alive()


@pytest.fixture
def client(server: InvokeServer) -> _Client:
    return _Client(server)


def test_health_while_loading_and_running(client: _Client, cases: _Cases, server: InvokeServer) -> None:
    assert client("GET", "/health") == (503, {"status": "loading"})
    assert client("POST", "/invoke")[0] == 503
    assert server.write_unfinished() == "no case was running"
    cases.loading.set()
    client.until("ready")
    responses: list[tuple[int, dict[str, Any]]] = []
    first = Thread(target=lambda: responses.append(client("POST", "/invoke", b"{}")))
    first.start()
    assert cases.running.wait(_SECONDS)
    assert client("GET", "/health") == (200, {"status": "busy"})
    assert client("POST", "/invoke") == (503, {"error": "another case is being segmented"})
    assert server.write_unfinished() == "UNFINISHED: lesion 7"
    cases.may_end.set()
    first.join(_SECONDS)
    ((status, document),) = responses
    assert status == 201 and document["status"] == "done"
    assert client("GET", "/health") == (200, {"status": "ready"})
    assert server.write_unfinished() == "no case was running"


def test_a_failing_case_is_told_and_the_next_one_runs(
    client: _Client, cases: _Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    cases.loading.set()
    cases.may_end.set()
    client.until("ready")
    cases.error = InputError("scan.mha: is truncated;\nexpected an image")
    sentence = "scan.mha: is truncated; expected an image"
    assert client("POST", "/invoke") == (500, {"error": sentence, "exit_code": 2})
    cases.error = ZeroDivisionError("by zero")
    status, document = client("POST", "/invoke")
    assert status == 500 and document["exit_code"] == 1 and "ZeroDivisionError" in document["error"]
    assert capsys.readouterr().err.splitlines()[0] == sentence
    cases.error = None
    assert client("POST", "/invoke")[0] == 201


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/else", 404),
        ("GET", "/invoke", 405),
        ("POST", "/health", 405),
        ("GET", "/health?x=1", 503),
        ("GET", "/health/", 404),  # never redirected
    ],
)
def test_other_requests(method: str, path: str, status: int, client: _Client) -> None:
    found, document = client(method, path)
    assert found == status and document


def test_a_long_body_is_not_read(client: _Client, server: InvokeServer) -> None:
    assert server.port is not None
    with socket.create_connection(("127.0.0.1", server.port), _SECONDS) as connection:
        connection.sendall(b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot be used"):
            InvokeServer(argparse.Namespace(port=port), _Cases).serve()


def test_weights_that_cannot_be_loaded_end_the_server() -> None:
    def warm_up() -> _Cases:
        raise WeightsError("no model")

    with pytest.raises(WeightsError, match="no model"):
        InvokeServer(argparse.Namespace(port=0), warm_up).serve()
