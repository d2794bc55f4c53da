"""The errors that users see. Each carries the exit code of the process it ends.

The text of an error is one sentence: the file (or option) at fault, what is wrong, what was expected.
It is printed as the last line on stderr, where a grand-challenge user finds it.
"""

from __future__ import annotations

from typing import ClassVar


class LongilesionError(Exception):
    """Base of all errors that are told to the user in one line."""

    exit_code: ClassVar[int] = 1


class InputError(LongilesionError):
    """The input cannot be used as it is."""

    exit_code = 2


class WeightsError(LongilesionError):
    """Weights are missing, corrupt, unsafe, or do not fit their plan."""

    exit_code = 3


class MemoryExhaustedError(LongilesionError):
    """Out of memory after every smaller way of computing was tried."""

    exit_code = 4


class OutputError(LongilesionError):
    """A written output did not read back as it was meant."""

    exit_code = 5


EXIT_TERMINATED = 143
"""Exit code after SIGTERM (128 + 15), as container runtimes expect."""


def one_line(error: BaseException) -> str:
    """The message of any exception as a single line that is never empty."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
