"""The command serve-interactive: where it listens, and what it says if it cannot."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from typing import Any

import pytest
import uvicorn

from model.cli.serve_interactive import add_arguments, run
from model.errors import InputError, LongilesionError
from test.helpers.golden_pet_ct import PET_CT_MODEL


def _arguments(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--weights", str(PET_CT_MODEL), "--folds", "0", "--device", "cpu", *options])


def test_it_listens_on_this_computer_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    addresses: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: addresses.append(sockets[0].getsockname()))
    with caplog.at_level(logging.INFO):
        assert run(_arguments("--port", "0")) == 0
    ((host, port),) = addresses
    assert host == "127.0.0.1" and f"open http://127.0.0.1:{port} in a browser" in caplog.text


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot be used .*; expected a free port"):
            run(_arguments("--port", str(port)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(LongilesionError, match="uvicorn: is not installed.*requirements-serve.txt"):
        run(_arguments())


def test_limits_are_positive(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _arguments("--max-sessions", "0")
    assert "is no whole number from 1 on" in capsys.readouterr().err
