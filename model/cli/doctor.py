"""The command ``doctor``: whether everything that runs need is there and works."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import __version__
from ..errors import ExitCode
from ..installation.condition import Condition, Health, worst
from ..installation.examine import ExaminedPlaces, examine
from .arguments import add_device
from .process import NO_LOG


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--weights", type=Path, metavar="DIR", help="the model (default: that of segment)")
    add("--output", type=Path, metavar="DIR", help="folder for outputs (default: /output if it exists)")
    add_device(parser, "where a forward pass is tried")
    add("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(log_level=NO_LOG)  # the conditions say it all


def run(arguments: argparse.Namespace) -> int:
    """Print one line per condition; returns 1 if anything is broken, else 0."""
    conditions = []
    places = ExaminedPlaces(arguments.weights, arguments.output, arguments.device)
    for condition in examine(places):
        conditions.append(condition)
        if not arguments.json:
            print(_line(condition), flush=True)
    health = worst(conditions)
    if arguments.json:
        document = {
            "version": __version__,
            "health": health,
            "conditions": [condition.document() for condition in conditions],
        }
        print(json.dumps(document, indent=2))
    return ExitCode.FAULT if health is Health.BROKEN else ExitCode.SUCCESS


def _line(condition: Condition) -> str:
    """A condition in one line, with what to do."""
    action = f" -> {condition.action}" if condition.action else ""
    return f"{condition.health:7}  {condition.part}: {condition.found}{action}"
