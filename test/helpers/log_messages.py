"""Log messages of the package in tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


def messages(caplog: pytest.LogCaptureFixture, room: str = "model") -> list[str]:
    """The captured messages of a package, e.g. "model.training", in their order."""
    return [record.getMessage() for record in caplog.records if record.name.startswith(room)]


class _Callback(logging.Handler):
    def __init__(self, action: Callable[[str], None]) -> None:
        super().__init__()
        self._action = action

    def emit(self, record: logging.LogRecord) -> None:
        self._action(record.getMessage())


@contextmanager
def on_each_message(action: Callable[[str], None]) -> Iterator[None]:
    """Call a function with each message as it is logged; its exceptions reach the code that logs."""
    logger, handler = logging.getLogger("model"), _Callback(action)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
