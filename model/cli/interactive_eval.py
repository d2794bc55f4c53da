"""Command ``interactive-eval``: networks for PET/CT scored step by step with more and more clicks."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from ..errors import ExitCode, LongilesionError
from ..inference.options import DEFAULT_FOLDS, ModelOptions
from .arguments import add_model_options
from .interactive_clicks import add_simulation_options, check_seed

_DESCRIPTION = """\
Runs the challenge's loop (autoPET/CT IV, Task 1) over the cases of a folder: all tumour is segmented with 0
to 10 clicks in tumour and as many in background, simulated from the reference or given, and each step is
scored by Dice, DMM, FPvol and FNvol. A run that was stopped goes on where it ended. The rules are in
docs/interactive.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="imagesTr/CASE_0000 (CT) and _0001 (PET) with labelsTr/CASE, or folders CASE/images/ct, pet and "
        "tumor-lesion-segmentation",
    )
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="masks, clicks, records and tables")
    add(
        "--weights",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="one or several models for PET/CT, all folds of which are averaged",
    )
    add(
        "--clicks",
        type=Path,
        metavar="DIR",
        help="given clicks, CASE.json or CASE_clicks.json, of which each step takes the first of both kinds "
        "(default: simulated)",
    )
    add("--steps", type=_steps, metavar="0,3,7,10", help="numbers of clicks of each kind (default: 0 to 10)")
    add_simulation_options(parser)
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the protocol; prints the means of each step, and cases that failed on stderr.

    Raises:
        InputError: the folder holds no case, or the output folder a run with other settings.
        WeightsError: the weights cannot be used.
        OutputError: the output folder cannot be written.
    """
    from ..case.folder_lock import locked_folder
    from ..protocol.protocol_cases import described_faults, find_protocol_cases
    from ..protocol.protocol_network import ProtocolNetwork
    from ..protocol.protocol_options import CLICK_STEPS, ProtocolOptions
    from ..protocol.protocol_report import CURVES_FILE, draw_curves, summary_table, write_protocol_report
    from ..protocol.run_protocol import run_protocol

    check_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    found = find_protocol_cases(arguments.data, arguments.clicks)
    options = ProtocolOptions(
        steps=arguments.steps or CLICK_STEPS,
        seed=arguments.seed,
        published=arguments.published_clicks,
        given_clicks=arguments.clicks is not None,
    )
    network = ProtocolNetwork(
        tuple(arguments.weights),
        None if arguments.folds is DEFAULT_FOLDS else arguments.folds,
        ModelOptions(
            device=arguments.device,
            precision=arguments.precision,
            tta=arguments.tta,
            deterministic=arguments.deterministic,
        ),
    )
    with locked_folder(arguments.output):
        result = run_protocol(found, arguments.output, options, network.settings(), network.load)
        summary = write_protocol_report(arguments.output, result, options)
        draw_curves(arguments.output / CURVES_FILE, result.records, options)
    print(summary_table(summary), flush=True)
    if not result.failures:
        return ExitCode.SUCCESS
    others = "all others are complete" if result.records else "no case is complete"
    print(f"cases that failed: {described_faults(result.failures)}; {others}", file=sys.stderr, flush=True)
    first = next(iter(result.failures.values()))
    return getattr(first, "exit_code", LongilesionError.exit_code)


def _steps(text: str) -> tuple[int, ...]:
    """The type of ``--steps``: ascending numbers of clicks."""
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; expected such as 0,3,7,10")
    steps = tuple(map(int, text.split(",")))
    if list(steps) != sorted(set(steps)):
        raise argparse.ArgumentTypeError(f"{text!r} does not ascend; expected such as 0,3,7,10")
    return steps
