"""The command ``train table``: the rows of [Kirchhoff2025]'s Table 1 on one's own data, within a budget."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..comparison.variants import ROW_NAMES
from ..errors import InputError
from .arguments import add_device

HELP = "the rows of [Kirchhoff2025]'s Table 1 on your own data, within a budget of minutes"

_DESCRIPTION = """\
Trains the rows of [Kirchhoff2025]'s Table 1 one after the other, asks each fold about its held-out patients,
and writes table.md and table.csv: with and without mask, baseline and pretraining, Gaussians of unit peak and
unit volume, propagated, given and moved points, and on --test the ensemble against single folds. The row
longitudinal-pretrained has all folds, the others have folds 0 and 1. Called again, it goes on where the
budget ended: what is finished is never repeated, and what was not reached stands as "not run". Settings are
key=value and pretrain.key=value, as of `train run`, and hold for all rows; without any they are those of the
preset two-cores, made for data of `train prepare --preset tiny --spacing 3 2 2 --patch 24 48 48`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="what `train prepare` has written, with folds"
    )
    parser.add_argument(
        "--pretrain",
        type=Path,
        metavar="DIR",
        help="prepared synthetic follow-ups, for the rows that are pretrained. Where they show patients of "
        "--data, each fold has a pretraining of its own, without its held-out patients",
    )
    parser.add_argument(
        "--test",
        type=Path,
        metavar="DIR|CSV",
        help="a data set as `train prepare` reads it, of patients who are in none of the others",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where runs, ledger and table go"
    )
    parser.add_argument(
        "--budget-minutes",
        type=float,
        required=True,
        metavar="N",
        help="of this call, by the clock; 0 only writes the table. Epochs and scans that have been begun are "
        "brought to their end",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="how many folds are trained, or asked, side by side, each by a process with its share of the "
        "cores (default: 1)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        action="extend",
        metavar="NAME",
        help=f"work on these alone: {', '.join(ROW_NAMES)}",
    )
    add_device(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, see `train run --settings`"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the budget allows; prints a line for each step, and the table.

    Raises:
        InputError: data, settings or options cannot be used, or do not fit what is there already.
        LongilesionError: of a step that could not be done.
    """
    if not 0 <= arguments.budget_minutes < math.inf:
        raise InputError(f"--budget-minutes: is {arguments.budget_minutes}; expected a number from 0 on")
    # Settings that follow the names of rows are taken by that option.
    given = arguments.rows or []
    rows = tuple(dict.fromkeys(name for name in given if "=" not in name))
    for name in rows:
        if name not in ROW_NAMES:
            raise InputError(f"--rows: {name} is unknown; expected some of {', '.join(ROW_NAMES)}")
    if arguments.jobs < 1:
        raise InputError(f"--jobs: is {arguments.jobs}; expected a whole number from 1 on")

    from ..comparison.report import markdown
    from ..comparison.run_table import TableJob, run_table

    table = run_table(
        TableJob(
            data=arguments.data,
            pretraining=arguments.pretrain,
            test=arguments.test,
            output=arguments.output,
            budget_minutes=arguments.budget_minutes,
            rows=rows or None,
            jobs=arguments.jobs,
            overrides=(*(text for text in given if "=" in text), *arguments.overrides),
            device=arguments.device,
        ),
        lambda line: print(line, flush=True),
    )
    print()
    print(markdown(table), end="")
    return 0
