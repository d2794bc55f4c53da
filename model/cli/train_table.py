"""The command ``train table``: train and compare the variants of [Kirchhoff2025]'s Table 1."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..comparison.variants import ALL_ROWS
from ..errors import InputError
from .arguments import add_device

HELP = "train and compare the variants of [Kirchhoff2025]'s Table 1 on your own data, within a time budget"

_ROW_NAMES = [row.name for row in ALL_ROWS]
_DESCRIPTION = """\
Trains the variants of [Kirchhoff2025]'s Table 1 and of LongiSeg 2.0 one after the other, predicts the
held-out patients of each fold, and writes table.md and table.csv. The table compares networks with and
without lesion mask, baseline CT and pretraining, and with methods that need no network; difference weighting
and early fusion; heat maps of unit peak and unit volume; propagated, given and noisy follow-up points; and,
with --test, the ensemble and its single folds. Only the row longitudinal-pretrained has all folds, the others
have folds 0 and 1. Repeat the command to continue where the budget ended: finished steps are kept, missing
ones show as "not run". Settings are key=value and pretrain.key=value, as in `train run`, for all rows. The
default preset, two-cores, is for data of `train prepare --preset tiny --spacing 3 2 2 --patch 24 48 48`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="output of `train prepare`, with folds")
    add(
        "--pretrain",
        type=Path,
        metavar="DIR",
        help="prepared synthetic follow-ups, for the pretrained rows. If they show patients of --data, each "
        "fold has a pretraining of its own, without its held-out patients",
    )
    add(
        "--test",
        type=Path,
        metavar="DIR|CSV",
        help="data set in any format of `train prepare`, of patients who are in neither --data nor "
        "--pretrain",
    )
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of runs, ledger and table")
    add(
        "--budget-minutes",
        type=float,
        required=True,
        metavar="N",
        help="wall time of this call; epochs and scans in progress are finished. 0 only writes the table",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="number of folds to train or predict with in parallel, each in a process with its share of the "
        "cores (default: 1)",
    )
    add(
        "--rows",
        nargs="+",
        action="extend",
        metavar="NAME",
        help=f"work on these rows only: {', '.join(_ROW_NAMES)}",
    )
    add_device(parser)
    add("overrides", nargs="*", metavar="key=value", help="settings, see `train run --settings`")


def run(arguments: argparse.Namespace) -> int:
    """Do what the budget allows, then print the table.

    Raises:
        InputError: data, settings or options cannot be used, or do not fit the existing output.
        LongilesionError: a step failed.
    """
    if not 0 <= arguments.budget_minutes < math.inf:
        raise InputError(f"--budget-minutes: is {arguments.budget_minutes}; expected a number from 0 on")
    if arguments.jobs < 1:
        raise InputError(f"--jobs: is {arguments.jobs}; expected a whole number from 1 on")
    # argparse takes settings that follow the names of rows for names.
    named = arguments.rows or []
    chosen = [name for name in named if "=" not in name] or _ROW_NAMES
    for name in chosen:
        if name not in _ROW_NAMES:
            raise InputError(f"--rows: {name} is unknown; expected some of {', '.join(_ROW_NAMES)}")

    from ..comparison.report import table_markdown
    from ..comparison.run_table import TableJob, run_table

    table = run_table(
        TableJob(
            data=arguments.data,
            pretraining=arguments.pretrain,
            test=arguments.test,
            output=arguments.output,
            budget_minutes=arguments.budget_minutes,
            rows=tuple(row for row in ALL_ROWS if row.name in chosen),
            jobs=arguments.jobs,
            overrides=(*(text for text in named if "=" in text), *arguments.overrides),
            device=arguments.device,
        )
    )
    print(f"\n{table_markdown(table)}", end="")
    return 0
