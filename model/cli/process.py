"""Supervision of a process: signals, exit codes, and the last line on stderr, for all commands.

The work runs in a thread of its own, so that the main thread can handle a signal at once, even while the
network or a registration computes. Logs go to stdout; stderr gets only sentences for the user, because
grand-challenge shows its last line. If the reader of stdout is gone (``| head``), logs are dropped and the
run of a case continues, as its result is a file; a command that prints its result ends silently.
"""

from __future__ import annotations

import atexit
import errno
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import FrameType
from typing import NoReturn, TextIO

from ..case.atomic_files import discard_unfinished_files
from ..case.library_text import write_to_stderr
from ..case.machine_limits import limit_library_threads
from ..errors import ExitCode, InputError, LongilesionError, MemoryExhaustedError, OutputError, one_line

log = logging.getLogger(__name__)

NO_LOG = logging.CRITICAL + 1
"""A log level for commands whose stdout is for machines."""

_POLL_SECONDS = 0.2
_STDERR = 2

# Faults of names that a user gives, met where a file is only looked for.
_PATH_FAULTS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM})

# Packages that inference does not need: the extra "train".
_TRAIN_PACKAGES = frozenset({"batchgeneratorsv2", "blosc2", "tqdm"})


# How the loader of shared objects, threads, C++ and torch report a lack of memory.
_MEMORY_SIGNS = (
    "failed to map segment",
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "not enough memory",
    "out of memory",
    "bad_alloc",
)


# These are never errors of reading.
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class _SignalReceived(BaseException):
    """Raised in the main thread by SIGTERM and SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Worker(Thread):
    """Runs the work of a command; keeps its exit code or its error for the main thread."""

    def __init__(self, work: Callable[[], int]) -> None:
        super().__init__(name="command", daemon=True)
        self.work = work
        self.code: int = ExitCode.FAULT
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.code = self.work()
        except BaseException as error:
            self.error = error


class _StdoutLog(logging.StreamHandler[TextIO]):
    """Log handler that silently drops records that cannot be written: no reader, a full disk, closed."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handleError(record)


def supervise_case(
    work: Callable[[], int],
    write_unfinished: Callable[[], str],
    log_level: int = logging.INFO,
    is_late: Callable[[], bool] = lambda: False,
) -> int | None:
    """Run the segmentation of one case; an error is printed as one line on stderr.

    Args:
        work: the run; returns the exit code.
        write_unfinished: writes finished lesions and returns a sentence on the others; called when a signal
            ends the process.
        log_level: of the least important records that are shown on stdout.
        is_late: tells, while the run works, whether its time is spent.

    Returns:
        The exit code of the process; None if the run is late, and still works.
    """
    _prepare(log_level)
    worker = _Worker(work)
    if (number := _wait_for(worker, is_late)) is not None:
        _end(number, _try_to_write(write_unfinished))
    if worker.is_alive():
        return None
    code = worker.code if worker.error is None else _report(worker.error)
    _flush()
    return code


def supervise_command(work: Callable[[], int], log_level: int = logging.INFO) -> int:
    """Run a command; an error is printed as one line on stderr.

    A signal ends it at once, and so does a reader of stdout that is gone; files are written atomically.

    Args:
        work: the command; returns the exit code.
        log_level: of the least important records that are shown on stdout.

    Returns:
        The exit code of the process.
    """
    _prepare(log_level)
    worker = _Worker(work)
    if (number := _wait_for(worker)) is not None:
        _end(number, "what was written until then is whole")
    if isinstance(worker.error, BrokenPipeError) and _is_unread():
        os._exit(ExitCode.UNREAD_STDOUT)  # without waiting for child processes and buffered output
    code = worker.code if worker.error is None else _report(worker.error)
    return code if _flush() or code else ExitCode.UNREAD_STDOUT


def print_error_line(text: str) -> None:
    """Print one line for the user on stderr, after everything on stdout."""
    _flush()
    if write_to_stderr(text):  # a library is running in another thread
        return
    with suppress(OSError, ValueError):  # stderr cannot be written to either
        print(text, file=sys.stderr, flush=True)


def print_document(text: str) -> None:
    """Print a result for machines on stdout, in one piece."""
    with suppress(OSError, ValueError):  # without a reader nothing is lost
        print(text, flush=True)
    _flush()


def leave(code: int) -> NoReturn:
    """End the process at once: all is written, and unloading torch would take half a second."""
    _flush()
    os._exit(code)


def _prepare(log_level: int = logging.INFO) -> None:
    threading.excepthook = _log_thread_error
    _open_closed_streams()
    atexit.register(_mute_libraries)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold anything
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_StdoutLog(sys.stdout)])
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _StdoutLog):
            handler.setLevel(log_level)
    logging.captureWarnings(True)  # of libraries, which Python writes to stderr
    # Patches are cut next to the network's threads: threads that wait must not spin on the others' cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    limit_library_threads()
    # numexpr, which blosc2 imports, logs an INFO line on import.
    logging.getLogger("numexpr").setLevel(logging.WARNING)


def _log_thread_error(error: threading.ExceptHookArgs) -> None:
    """Log an error that ended a thread of a library, instead of a traceback on stderr."""
    value = error.exc_value
    log.error("a thread has ended by an error", exc_info=value if isinstance(value, Exception) else None)


def _mute_libraries() -> None:
    """At the end of the process: HDF5 may complain while it is unloaded, after our own last line."""
    _flush()
    muted = os.open(os.devnull, os.O_WRONLY)
    os.dup2(muted, _STDERR)


def _open_closed_streams() -> None:
    """Open what the shell has closed of stdin, stdout and stderr, so that no file takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed at the start of Python
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _wait_for(worker: Thread, is_late: Callable[[], bool] = lambda: False) -> int | None:
    """Start a thread and wait until it ends or is late; the number of an interrupting signal, else None."""
    before = {number: signal.signal(number, _raise_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        worker.start()
        while worker.is_alive() and not is_late():
            worker.join(_POLL_SECONDS)
    except _SignalReceived as received:
        return received.number
    for number, handler in before.items():
        signal.signal(number, handler)
    return None


def _end(number: int, rest: str) -> NoReturn:
    """End the process after a signal; the worker may be deep in a library and is not waited for."""
    discard_unfinished_files()
    print_error_line(f"ended by signal {number}; {rest}")
    os._exit(ExitCode.TERMINATED if number == signal.SIGTERM else ExitCode.INTERRUPTED)


def _raise_signal(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the writing
    raise _SignalReceived(number)


def _try_to_write(write_unfinished: Callable[[], str]) -> str:
    """Write what is finished; returns a sentence on what is not."""
    try:
        return write_unfinished()
    except Exception as error:  # nothing can be saved; the process ends all the same
        log.exception("the unfinished result could not be written")
        print_error_line(one_line(error))
        return "UNFINISHED: the lesions finished until then could not be written"


def _report(error: BaseException) -> int:
    """Print an error as one line on stderr; returns its exit code."""
    code, sentence = explain(error)
    print_error_line(sentence)
    return code


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence of an error; the traceback of an unexpected one is logged."""
    if _is_out_of_memory(error):
        error = MemoryExhaustedError(
            f"out of memory outside of the network ({one_line(error)}); expected more"
        )
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
        where = f"{error.filename}: " if error.filename else "an output "
        error = OutputError(f"{where}cannot be written ({error.strerror}); expected space on a writable disk")
    if isinstance(error, OSError) and error.errno in _PATH_FAULTS and error.filename:
        error = InputError(f"{error.filename}: cannot be used ({error.strerror}); expected another name")
    if isinstance(error, ModuleNotFoundError) and error.name in _TRAIN_PACKAGES:
        error = LongilesionError(
            f"{error.name}: is not installed, but training needs it; expected the extra 'train' "
            "(pip install 'longilesion[train]', in a checkout: pip install -r requirements-train.txt)"
        )
    if isinstance(error, LongilesionError):
        log.debug("", exc_info=error)
        return error.exit_code, one_line(error)
    log.error("an unexpected fault", exc_info=error)
    return ExitCode.FAULT, f"an unexpected fault of the program: {type(error).__name__}: {one_line(error)}"


def _is_out_of_memory(error: BaseException | None) -> bool:
    """True if an error, or one that led to it, is a lack of memory or address space."""
    if error is None or isinstance(error, LongilesionError):
        return False
    text = str(error).lower()
    is_sign = isinstance(error, OSError | ImportError | RuntimeError | SystemError) and any(
        sign in text for sign in _MEMORY_SIGNS
    )
    return isinstance(error, MemoryError) or is_sign or _is_out_of_memory(error.__cause__)


def _flush() -> bool:
    """Write what is buffered for stdout and stderr; False if the reader of stdout is gone.

    Output that cannot be written (no reader, a full disk) is dropped; otherwise Python would try again at
    exit, and complain.
    """
    has_reader = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:  # ValueError: it is closed
            has_reader = has_reader and not (stream is sys.stdout and isinstance(error, BrokenPipeError))
            if isinstance(error, ValueError):
                continue
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return has_reader


def _is_unread() -> bool:
    """True if stdout or stderr is a pipe without a reader: pipes to child processes break, too."""
    ends = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # no file, or closed
            ends.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))
