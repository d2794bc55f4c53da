"""The command ``weights pack``: convert a model for release."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``pack`` and its options."""
    pack = parser.add_subparsers(dest="action", required=True).add_parser(
        "pack", help="strip optimizer state and write safetensors, which load faster and run no code"
    )
    pack.add_argument("source", type=Path, metavar="SRC", help="a model in the published layout")
    pack.add_argument("target", type=Path, metavar="DST", help="where the packed model goes")
    pack.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="number type (default: fp32)")


def run(arguments: argparse.Namespace) -> int:
    """Pack the model and print the size of each file; returns the exit code.

    Raises:
        LongilesionError: the model cannot be read, or the packed one cannot be written.
    """
    from ..network.pack import pack_weights

    for path in pack_weights(arguments.source, arguments.target, arguments.dtype):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
