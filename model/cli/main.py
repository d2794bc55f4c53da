"""The package's commands: `python -m model ...` in the checkout, `longilesion ...` when installed.

Heavy libraries are imported by the command that needs them, never for `--help`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

from .. import __version__
from ..errors import LongilesionError, one_line
from . import evaluate, prompts, propagate, segment, track, train
from .process import supervise, supervise_command


class _Command(Protocol):
    """A module that adds its options to the command line, and does what they say."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


_COMMANDS: dict[str, _Command] = {
    "track": track,
    "propagate": propagate,
    "prompts": prompts,
    "evaluate": evaluate,
    "train": train,
}
_HELP = {
    "track": "follow the lesions of patients over any number of time points",
    "propagate": "points, boxes and masks of lesions from one scan to another, by registration",
    "prompts": "clicks or boxes out of a lesion mask",
    "evaluate": "compare predicted lesions with true ones: overlap, volumes, surfaces, detection",
    "train": "train the model, from raw images to weights",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser, case = _parser()
    arguments = _parsed(parser, argv)
    try:
        if arguments.command == "segment":
            return supervise(segment.options_of(case, arguments))
        if arguments.command in _COMMANDS:
            return supervise_command(partial(_COMMANDS[arguments.command].run, arguments))
        return supervise_command(partial(_pack, arguments))
    except LongilesionError as error:
        print(one_line(error), file=sys.stderr)
        return error.exit_code


def _parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The command line. Of settings (key=value) before and after an option argparse takes the first alone."""
    arguments, rest = parser.parse_known_args(argv)
    takes_settings = hasattr(arguments, "overrides")
    settings = [text for text in rest if takes_settings and "=" in text and not text.startswith("-")]
    if unknown := [text for text in rest if text not in settings]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if settings:
        arguments.overrides += settings
    return arguments


def _parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="longilesion", description="Promptable longitudinal lesion segmentation in whole-body CT."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    case = commands.add_parser("segment", help="segment one case, as process.py does")
    segment.add_arguments(case)
    for name, module in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=_HELP[name]))
    weights = commands.add_parser("weights", help="tools for model weights")
    pack = weights.add_subparsers(dest="action", required=True).add_parser(
        "pack", help="strip optimizer state and write safetensors, which load faster and run no code"
    )
    pack.add_argument("source", type=Path, metavar="SRC", help="a model in the published layout")
    pack.add_argument("target", type=Path, metavar="DST", help="where the packed model goes")
    pack.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="number type (default: fp32)")
    return parser, case


def _pack(arguments: argparse.Namespace) -> int:
    from ..network.pack import pack_weights

    for path in pack_weights(arguments.source, arguments.target, arguments.dtype):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
