"""Steps side by side: in processes with their share of the cores, or in this one where there is but one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from ..data.workers import enter_process

P = ParamSpec("P")
T = TypeVar("T")


class SerialExecutor(Executor):
    """Does what it is given at once, in this process."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def threads_of(jobs: int) -> int:
    """The threads of each of so many processes."""
    return max(1, (os.cpu_count() or 1) // jobs)


def executor(jobs: int) -> Executor:
    """Who does the steps. Processes are started afresh, and end with this one."""
    if jobs == 1:
        return SerialExecutor()
    # Ended by a signal, Python's own helper would have the last word on stderr, which is the user's.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_enter, initargs=(threads_of(jobs),))


def _enter(threads: int) -> None:
    """Ctrl-C reaches all processes of a terminal: the first one answers it, and the others end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    enter_process()
    import torch

    torch.set_num_threads(threads)
