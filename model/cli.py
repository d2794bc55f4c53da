"""The package's commands: `python -m model ...` in the checkout, `longilesion ...` when installed.

Heavy libraries are imported by the command that needs them, never for `--help`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import __version__
from .errors import LongilesionError, one_line
from .lifecycle import supervise
from .options import add_arguments, from_arguments


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser, segment = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "segment":
            return supervise(from_arguments(segment, arguments))
        return _pack(arguments)
    except LongilesionError as error:
        print(one_line(error), file=sys.stderr)
        return error.exit_code


def _parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="longilesion", description="Promptable longitudinal lesion segmentation in whole-body CT."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    segment = commands.add_parser("segment", help="segment one case, as process.py does")
    add_arguments(segment)
    weights = commands.add_parser("weights", help="tools for model weights")
    pack = weights.add_subparsers(dest="action", required=True).add_parser(
        "pack", help="strip optimizer state and write safetensors, which load faster and run no code"
    )
    pack.add_argument("source", type=Path, metavar="SRC", help="a model in the published layout")
    pack.add_argument("target", type=Path, metavar="DST", help="where the packed model goes")
    pack.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="number type (default: fp32)")
    return parser, segment


def _pack(arguments: argparse.Namespace) -> int:
    from .network.weights import pack_weights

    for path in pack_weights(arguments.source, arguments.target, arguments.dtype):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
