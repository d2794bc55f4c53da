"""The life of a run as the outside sees it: signals, exit codes, and the last line on stderr.

The work is done in a thread, so that this one can answer a signal at once, also while the network or a
registration computes. Logs go to stdout; stderr gets nothing but sentences for the user, because the
platform shows its last line. Where nobody reads stdout any more (``| head``), logs are dropped and the run of
a case goes on, as its answer is a file; a command that prints its answer ends without a word.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from ..errors import EXIT_TERMINATED, LongilesionError, MemoryExhaustedError, one_line
from .segment import CaseRunOptions

if TYPE_CHECKING:
    from .case_run import Run

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_EXIT_UNREAD = 141  # 128 + SIGPIPE, as shells have it of programs that end so


class _SignalReceived(BaseException):
    """Raised in the main thread by SIGTERM and SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Worker(Thread):
    """Carries out the run; keeps what went wrong for the main thread."""

    def __init__(self, options: CaseRunOptions) -> None:
        super().__init__(name="run", daemon=True)
        self.options = options
        self.current: Run | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            from .case_run import Run  # brings numpy and SimpleITK: not before signals are answered

            self.current = Run(self.options)
            self.current.execute()
        except BaseException as error:
            self.error = error


class _Command(Thread):
    """Carries out a command; keeps its exit code, or what went wrong, for the main thread."""

    def __init__(self, work: Callable[[], int]) -> None:
        super().__init__(name="command", daemon=True)
        self.work = work
        self.code = LongilesionError.exit_code
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.code = self.work()
        except BaseException as error:
            self.error = error


class _Log(logging.StreamHandler[TextIO]):
    """Logs for people: where nobody reads them any more they are dropped, without a word on stderr."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), BrokenPipeError):
            super().handleError(record)


def supervise(options: CaseRunOptions) -> int:
    """Run one case and say in one line what went wrong, if anything did. Returns the exit code."""
    _prepare()
    worker = _Worker(options)
    if (number := _wait_for(worker)) is not None:
        _write_unfinished(worker)
        _end(number, "the lesions finished until then were written")
    if worker.error is not None:
        return _explain(worker.error)
    if worker.current is not None and worker.current.failed_ids:
        failed = ", ".join(str(lesion_id) for lesion_id in worker.current.failed_ids)
        _say(f"lesions that could not be computed and were left empty: {failed}; all others are complete")
    _flush()
    return 0


def supervise_command(work: Callable[[], int]) -> int:
    """Run a command other than that of a case, as `supervise` does. Returns the exit code.

    A signal ends it at once, and so does an output that nobody reads; files are written whole or not at all.
    """
    _prepare()
    worker = _Command(work)
    if (number := _wait_for(worker)) is not None:
        _end(number, "what was written until then is whole")
    if isinstance(worker.error, BrokenPipeError) and _is_unread():
        os._exit(_EXIT_UNREAD)  # its processes, and what is left to print, are not waited for
    code = worker.code if worker.error is None else _explain(worker.error)
    return code if _flush() or code else _EXIT_UNREAD


def leave(code: int) -> NoReturn:
    """End the process at once: all is written, and taking torch apart would cost half a second."""
    _flush()
    os._exit(code)


def _prepare() -> None:
    # There is no stdout where the shell has closed it; logs must not go to stderr then.
    handler = _Log(sys.stdout) if sys.stdout is not None else logging.NullHandler()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    # Patches are cut beside the network's threads: those that wait must not spin on the cores of others.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("numexpr").setLevel(logging.WARNING)  # a guest's guest that greets on import


def _wait_for(worker: Thread) -> int | None:
    """Start a thread and wait for its end, or for a signal, whose number is the answer."""
    before = {number: signal.signal(number, _raise_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        worker.start()
        while worker.is_alive():
            worker.join(_POLL_SECONDS)
    except _SignalReceived as received:
        return received.number
    for number, handler in before.items():
        signal.signal(number, handler)
    return None


def _end(number: int, rest: str) -> NoReturn:
    """Answer a signal. The worker may be deep in a library: it is not waited for."""
    _say(f"ended by signal {number}; {rest}")
    os._exit(EXIT_TERMINATED if number == signal.SIGTERM else 128 + number)


def _raise_signal(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the writing
    raise _SignalReceived(number)


def _write_unfinished(worker: _Worker) -> None:
    try:
        from .case_run import Run

        (worker.current or Run(worker.options)).write_unfinished()
    except Exception as error:  # nothing can be saved: the signal is answered all the same
        log.exception("the unfinished result could not be written")
        _say(one_line(error))


def _explain(error: BaseException) -> int:
    """One line on stderr for an error, its details on stdout for those of our own making."""
    if isinstance(error, MemoryError):
        error = MemoryExhaustedError(
            f"out of memory outside of the network ({one_line(error)}); expected more"
        )
    if isinstance(error, LongilesionError):
        log.debug("", exc_info=error)
        _say(one_line(error))
        return error.exit_code
    log.error("an unexpected fault", exc_info=error)
    _say(f"an unexpected fault of the program: {type(error).__name__}: {one_line(error)}")
    return LongilesionError.exit_code


def _say(text: str) -> None:
    _flush()
    with suppress(BrokenPipeError):  # of stderr: then there is nobody to tell
        print(text, file=sys.stderr, flush=True)


def _flush() -> bool:
    """Write what is left for stdout and stderr; False where nobody reads the former.

    What cannot be written is dropped, as Python would try again at its end, and complain.
    """
    is_read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            is_read = is_read and stream is not sys.stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return is_read


def _is_unread() -> bool:
    """Whether stdout or stderr is a pipe without a reader: pipes to other processes break, too."""
    ends = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # no file, or closed
            ends.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))
