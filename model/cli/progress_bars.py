"""Progress bars on a terminal, below the log; nothing elsewhere, where carriage returns spoil a log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..progress import progress_listener

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBars:
    """One bar for each kind of work that is reported, with the time left; on a terminal only."""

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown and sys.stdout.isatty()
        self._lock = Lock()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bars while the block runs; the log appears above them."""
        if not self._is_shown:
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            transient=True,
            console=Console(),
        ) as self._progress:
            handlers = _handlers_of_stdout(sys.__stdout__)
            for handler in handlers:
                handler.setStream(sys.stdout)  # which now prints above the bars
            try:
                with progress_listener(self.report):
                    yield
            finally:
                self.stop()
                for handler in handlers:
                    handler.setStream(sys.__stdout__)

    def report(self, work: str, done: int, total: int) -> None:
        """Move the bar of some work, see `report_progress`."""
        with self._lock:
            if self._progress is None:
                return
            if work not in self._tasks:
                self._tasks[work] = self._progress.add_task(work, total=total)
            self._progress.update(self._tasks[work], completed=done, total=total)

    def stop(self) -> None:
        """Take the bars off the terminal and give it back its cursor; may be called from any thread."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None


def _handlers_of_stdout(stream: object) -> list[logging.StreamHandler[Any]]:
    handlers = logging.getLogger().handlers
    return [one for one in handlers if isinstance(one, logging.StreamHandler) and one.stream is stream]
