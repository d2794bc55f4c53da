"""Completion of commands and options in the shell, by argcomplete if that is installed."""

from __future__ import annotations

import argparse
import os


def offer_completion(parser: argparse.ArgumentParser) -> None:
    """Give completions to a shell that requests them, and end the process then; otherwise do nothing.

    Args:
        parser: of the command line.
    """
    if "_ARGCOMPLETE" not in os.environ:  # set by the shell's function, never by a user
        return
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    argcomplete.autocomplete(parser)
