# PYTHON_ARGCOMPLETE_OK
"""The package's commands: `python -m model ...` in the checkout, `longilesion ...` when installed.

Heavy libraries are imported by the command that needs them, never for `--help`.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Protocol

from .. import __version__
from . import (
    doctor,
    evaluate,
    interactive,
    interactive_clicks,
    interactive_eval,
    measure,
    prompts,
    propagate,
    segment,
    serve_interactive,
    track,
    train,
    weights_tools,
)
from .arguments import log_level
from .process import supervise_command
from .shell_completion import offer_completion


class _Command(Protocol):
    """A module that adds its options to the command line and runs its command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


_COMMANDS: dict[str, _Command] = {
    "segment": segment,
    "interactive": interactive,
    "interactive-clicks": interactive_clicks,
    "interactive-eval": interactive_eval,
    "serve-interactive": serve_interactive,
    "track": track,
    "propagate": propagate,
    "prompts": prompts,
    "measure": measure,
    "evaluate": evaluate,
    "train": train,
    "weights": weights_tools,
    "doctor": doctor,
}
_HELP = {
    "segment": "segment the lesions of one case: two CTs as files, or the platform's folders",
    "interactive": "segment all tumour in one PET/CT, from its images and clicks",
    "interactive-clicks": "simulate clicks or a scribble for a PET/CT from its reference",
    "interactive-eval": "score networks for PET/CT step by step with more and more clicks",
    "serve-interactive": "segment PET/CT interactively in a browser on this computer",
    "track": "track the lesions of patients over any number of time points",
    "propagate": "propagate points, boxes and masks of lesions to another scan by registration",
    "prompts": "write clicks or boxes for the lesions of a mask",
    "measure": "measure volumes, diameters and density of lesions, and their changes",
    "evaluate": "compare predicted lesions with true ones: overlap, volumes, surfaces, detection",
    "train": "prepare data, and train and compare models",
    "weights": "list, verify, pack and import models",
    "doctor": "check that software, GPU, memory, folders and weights are ready to run",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    offer_completion(parser)
    arguments = _parsed(parser, argv)
    run = partial(_COMMANDS[arguments.command].run, arguments)
    if arguments.command == "segment":  # supervises itself: a signal must not lose finished lesions
        return run()
    return supervise_command(run, log_level(arguments))


def _parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; argparse takes settings (key=value) only on one side of an option."""
    arguments, rest = parser.parse_known_args(argv)
    takes_settings = hasattr(arguments, "overrides")
    settings = [text for text in rest if takes_settings and "=" in text and not text.startswith("-")]
    if unknown := [text for text in rest if text not in settings]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if settings:
        arguments.overrides += settings
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="longilesion", description="Promptable longitudinal lesion segmentation in whole-body CT."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=_HELP[name]))
    return parser
