"""The command ``train`` and its steps, each in a module of its own."""

from __future__ import annotations

import argparse
from typing import Protocol

from . import train_prepare as prepare_command
from . import train_run as run_command
from . import train_synthesize as synthesize_command
from . import train_table as table_command


class _Step(Protocol):
    """Module of a step; only its ``run`` imports heavy libraries."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


# In the usual order of use.
_STEPS: dict[str, _Step] = {
    "prepare": prepare_command,
    "synthesize": synthesize_command,
    "run": run_command,
    "table": table_command,
}
_HELP = {
    "prepare": "check, plan, preprocess and split a data set",
    "synthesize": "make synthetic follow-ups of labelled scans",
    "run": "train and cross-validate the folds of a model",
    "table": "train and compare published variants on your own data, within a time budget",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    parser.description = "Prepare data, and train and compare models."
    steps = parser.add_subparsers(dest="step", required=True)
    for name, module in _STEPS.items():
        module.add_arguments(steps.add_parser(name, help=_HELP[name]))


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen step; returns its exit code."""
    return _STEPS[arguments.step].run(arguments)
