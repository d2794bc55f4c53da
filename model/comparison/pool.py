"""Executor of the steps: processes with their share of the cores, or this process for a single job."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from ..data.workers import process_pool

P = ParamSpec("P")
T = TypeVar("T")


class SerialExecutor(Executor):
    """Runs each call at once, in this process."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call ``work`` and return a finished future."""
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def threads_of(jobs: int) -> int:
    """Threads of each of so many processes."""
    return max(1, (os.cpu_count() or 1) // jobs)


def executor(jobs: int) -> Executor:
    """Executor for so many jobs at once; its processes end with this one."""
    if jobs == 1:
        return SerialExecutor()
    return process_pool(jobs, threads_of(jobs), ignore_interrupt=True)
