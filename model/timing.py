"""Wall time and memory of a run, by stage."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Timings:
    """Seconds per stage. Stages may overlap, and one stage may be entered many times."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, with the total since the start of the run."""
        with self._lock:
            return {**self._seconds, "total": time.perf_counter() - self._start}


def peak_memory_mib() -> float:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
