"""Worker processes: jobs side by side, with a progress bar on a terminal.

Processes are spawned, not forked, so that they share no threads of torch with their parent; they end with it,
even if it is ended by a signal.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, title: str
) -> Iterator[tuple[Job, Result]]:
    """Yield each job with its result, in the order in which the jobs finish.

    Args:
        work: a function at the top level of a module, which processes can import. The first error that it
            raises ends everything; it should catch what concerns a single scan.
        jobs: arguments of ``work``.
        workers: number of processes; 1 works in this process.
        title: name of the progress bar.
    """
    # Only terminals get a progress bar, not logs and pipes.
    with tqdm(total=len(jobs), desc=title, unit="scan", disable=not sys.stderr.isatty()) as bar:
        for pair in _results(work, jobs, min(workers, len(jobs))):
            bar.update()
            yield pair


def _results(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    if workers <= 1:
        for job in jobs:
            yield job, work(job)
        return
    with process_pool(workers) as pool:
        pending = {pool.submit(work, job): job for job in jobs}
        try:
            for done in as_completed(pending):
                yield pending[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def process_pool(workers: int, threads: int = 1, ignore_interrupt: bool = False) -> ProcessPoolExecutor:
    """Start a pool of processes that end with this one.

    Args:
        workers: number of processes.
        threads: torch threads of each process.
        ignore_interrupt: leave Ctrl-C, which reaches all processes of a terminal, to this process.
    """
    # Suppress the warning of Python's resource tracker after a signal: our error line must stay the last.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    context = multiprocessing.get_context("spawn")
    initargs = (threads, ignore_interrupt)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_enter, initargs=initargs)


def _enter(threads: int, ignore_interrupt: bool) -> None:
    if ignore_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
