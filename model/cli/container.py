"""The container: the task that the input folder holds, a PET/CT or baseline and follow-up CTs."""

from __future__ import annotations

import argparse
from functools import partial

from ..case.task_choice import holds_pet_ct
from . import interactive, segment
from .process import supervise_command


def run(arguments: argparse.Namespace) -> int:
    """Run the case of a command line parsed with the options of ``segment``; returns the exit code."""
    if holds_pet_ct(arguments.input):
        segment.options_of(arguments)  # options that clash
        return supervise_command(partial(interactive.run_platform_case, arguments))
    return segment.run(arguments)
