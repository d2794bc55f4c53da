"""Completion in the shell: the parser is given to argcomplete if the shell asks, and if it is installed."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType

import pytest

from model.cli.main import main


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[argparse.ArgumentParser]:
    """Parsers that a stand-in for argcomplete was given."""
    parsers: list[argparse.ArgumentParser] = []
    library = ModuleType("argcomplete")
    library.autocomplete = parsers.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "argcomplete", library)
    return parsers


def _version() -> None:
    with pytest.raises(SystemExit):
        main(["--version"])


def test_a_shell_gets_completions(
    asked: list[argparse.ArgumentParser], monkeypatch: pytest.MonkeyPatch
) -> None:
    _version()
    assert asked == []
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    _version()
    (parser,) = asked
    assert "segment" in parser.format_help()


def test_without_the_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    _version()
