"""Work on many scans side by side: in processes, with a progress bar on a terminal.

Processes are started afresh (not forked), so that they share no threads of torch with this one; they end
themselves when it does, also when that was by a signal.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

from tqdm import tqdm  # type: ignore[import-untyped]

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def each(
    work: Callable[[Job], Answer], jobs: Sequence[Job], workers: int, title: str
) -> Iterator[tuple[Job, Answer]]:
    """Each job with its answer, in the order in which they are ready.

    Args:
        work: a function of a module, which processes can import; it should raise nothing that one scan
            alone causes, as the first error ends all.
        workers: processes; 1 works in this one.
    """
    # Progress is for people: logs and pipes get none.
    with tqdm(total=len(jobs), desc=title, unit="scan", disable=not sys.stderr.isatty()) as bar:
        for pair in _answers(work, jobs, min(workers, len(jobs))):
            bar.update()
            yield pair


def _answers(
    work: Callable[[Job], Answer], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Answer]]:
    if workers <= 1:
        for job in jobs:
            yield job, work(job)
        return
    context = multiprocessing.get_context("spawn")
    # Ended by a signal, Python's own helper would have the last word on stderr, which is the user's.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=enter_process) as pool:
        pending = {pool.submit(work, job): job for job in jobs}
        try:
            for done in as_completed(pending):
                yield pending[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def enter_process() -> None:
    """One thread for each process, and an end with its parent."""
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
