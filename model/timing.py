"""Wall time by stage, and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Timings:
    """Stopwatch for the stages of a run; stages may overlap, and be entered many times."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent in the context to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time (s) by stage, and ``total`` since the start."""
        with self._lock:
            return {**self._seconds, "total": time.perf_counter() - self._start}


def peak_memory_mib() -> float:
    """Peak resident memory (MiB) of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
