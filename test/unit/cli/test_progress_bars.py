"""Progress bars: on a terminal below the log, elsewhere not at all; the cursor always comes back."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from model.cli.progress_bars import ProgressBars
from model.progress import report_progress

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def monkey(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


def _opened(monkey: pytest.MonkeyPatch) -> _Terminal:
    """A terminal in place of stdout; pytest sets its own before each test, so it is called in the test."""
    terminal = _Terminal()
    for name in ("stdout", "__stdout__"):
        monkey.setattr(sys, name, terminal)
    return terminal


def _work(log: logging.Logger) -> None:
    report_progress("lesions", 0, 3)
    log.info("lesion 7: 1.20 ml")
    report_progress("lesions", 2, 3)
    report_progress("registration", 1, 4)


def test_bars_on_a_terminal(monkey: pytest.MonkeyPatch) -> None:
    terminal = _opened(monkey)
    handler = logging.StreamHandler(terminal)
    root, log = logging.getLogger(), logging.getLogger("bars")
    log.setLevel(logging.INFO)
    root.addHandler(handler)
    bars = ProgressBars(is_shown=True)
    try:
        with bars.shown():
            _work(log)
            assert bars._progress is not None
            bars._progress.refresh()
    finally:
        root.removeHandler(handler)
    shown = terminal.getvalue()
    assert "2/3" in shown and "1/4" in shown and shown.count("lesion 7: 1.20 ml") == 1
    assert shown.rfind(SHOW) > shown.rfind(HIDE) >= 0
    assert handler.stream is terminal
    report_progress("lesions", 3, 3)
    assert terminal.getvalue() == shown


def test_bars_are_stopped_from_another_place(monkey: pytest.MonkeyPatch) -> None:
    """As by a signal: what is reported afterwards is dropped."""
    terminal = _opened(monkey)
    bars = ProgressBars(is_shown=True)
    with bars.shown():
        report_progress("lesions", 1, 3)
        bars.stop()
        shown = terminal.getvalue()
        assert shown.rfind(SHOW) > shown.rfind(HIDE)
        report_progress("lesions", 2, 3)
    assert terminal.getvalue() == shown


@pytest.mark.parametrize("is_shown", [True, False])
def test_no_bars_elsewhere(is_shown: bool, monkey: pytest.MonkeyPatch) -> None:
    output = io.StringIO() if is_shown else _opened(monkey)
    monkey.setattr(sys, "stdout", output)
    with ProgressBars(is_shown).shown():
        _work(logging.getLogger("bars"))
    assert output.getvalue() == ""
