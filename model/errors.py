"""Errors that users see, and the exit codes of all commands.

The message of an error is one sentence: the file or option at fault, what is wrong, what was expected. It is
printed as the last line on stderr, which is the line that grand-challenge shows to its users.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

_LONGEST_LINE = 1000  # characters of a message, which may quote a damaged file


class ExitCode(IntEnum):
    """Exit codes of `process.py` and of every command."""

    SUCCESS = 0
    FAULT = 1  # an unexpected fault, or no lesion of a case could be segmented
    INPUT = 2  # unusable input or options; argparse exits with 2 as well
    WEIGHTS = 3
    MEMORY = 4
    OUTPUT = 5
    COLLAPSED = 6  # training: the network of a fold predicts background only
    BUDGET_SPENT = 7  # training and cross-validation: the time budget is spent, another call continues
    INTERRUPTED = 130  # SIGINT: 128 + 2
    UNREAD_STDOUT = 141  # 128 + SIGPIPE (13): the reader of stdout is gone
    TERMINATED = 143  # SIGTERM: 128 + 15, as container runtimes expect


class LongilesionError(Exception):
    """Base of all errors whose message is shown to the user in one line."""

    exit_code: ClassVar[int] = ExitCode.FAULT


class AllLesionsFailedError(LongilesionError):
    """No lesion of the case could be segmented; its labelmaps are empty."""


class InputError(LongilesionError):
    """The input or the options cannot be used."""

    exit_code = ExitCode.INPUT


class WeightsError(LongilesionError):
    """Weights are missing, corrupt, unsafe, or do not fit their plan."""

    exit_code = ExitCode.WEIGHTS


class MemoryExhaustedError(LongilesionError):
    """Out of memory on every rung of the memory ladder."""

    exit_code = ExitCode.MEMORY


class OutputError(LongilesionError):
    """An output cannot be written, or does not read back as it was written."""

    exit_code = ExitCode.OUTPUT


def one_line(error: BaseException) -> str:
    """The message of any exception as a single printable line that is neither empty nor endless."""
    text = " ".join(str(error).split())
    printable = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
    if len(printable) > _LONGEST_LINE:
        printable = f"{printable[: _LONGEST_LINE // 2]} ... {printable[-_LONGEST_LINE // 2 :]}"
    return printable or type(error).__name__
