"""How far long work has come, for whoever shows it. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressListener = Callable[[str, int, int], None]
"""Called with the name of the work, the number of its parts that are done, and their total."""

_listeners: list[ProgressListener] = []  # of this process, whose threads work together


def report_progress(work: str, done: int, total: int) -> None:
    """Tell all listeners how far some work has come; without any this takes no time.

    Args:
        work: its name, e.g. lesions, folds or registration.
        done: number of its parts that are done.
        total: number of its parts.
    """
    for listener in tuple(_listeners):
        listener(work, done, total)


@contextmanager
def progress_listener(listener: ProgressListener) -> Iterator[None]:
    """Have a listener called from any thread while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
