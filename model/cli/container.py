"""The container: one case in its input folder, or a server for one case after the other.

The task is that of the input folder: a PET/CT, or baseline and follow-up CTs.
"""

from __future__ import annotations

import argparse
from functools import partial

from ..case.task_choice import holds_pet_ct
from . import interactive, segment
from .arguments import log_level
from .process import supervise_case, supervise_command

PORT = 4743  # of the platform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of both tasks, and those of the server."""
    segment.add_arguments(parser)
    interactive.add_pet_ct_options(parser.add_argument_group("of a PET/CT alone"))
    serving = parser.add_argument_group("server")
    serving.add_argument(
        "--serve",
        action="store_true",
        help="load the model once, and segment the case in --input at each POST /invoke; GET /health is 200 "
        "once it is loaded",
    )
    serving.add_argument("--port", type=int, default=PORT, help=f"of the server (default: {PORT})")


def run(arguments: argparse.Namespace) -> int:
    """Run the case of a parsed command line, or serve; returns the exit code."""
    if arguments.serve:
        return _serve(arguments)
    if arguments.baseline is None and holds_pet_ct(arguments.input):
        segment.options_of(arguments)  # options that clash
        if arguments.json or arguments.time_budget:
            arguments.parser.error("--json and --time-budget are of pairs of CTs, not of a PET/CT")
        return supervise_command(partial(interactive.run_platform_case, arguments), log_level(arguments))
    if given := interactive.given_pet_ct_options(arguments):
        arguments.parser.error(f"{', '.join(given)}: of a PET/CT alone, but this is a case of CTs")
    return segment.run(arguments)


def _serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends the process; returns the exit code of an error."""
    if segment.options_of(arguments).pair is not None or arguments.json or arguments.time_budget:
        arguments.parser.error("--baseline, --json and --time-budget do not go with --serve")
    from .invoke_server import InvokeServer  # light as well

    server = InvokeServer(arguments)
    code = supervise_case(server.serve, server.write_unfinished, log_level(arguments))
    assert code is not None  # it is never late
    return code
