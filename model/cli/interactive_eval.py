"""Command ``interactive-eval``: networks for PET/CT scored step by step with more and more clicks."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExitCode, InputError, LongilesionError
from ..inference.options import DEFAULT_FOLDS, ModelOptions
from .arguments import add_false_alarm_rules, add_model_options, add_pet_ct_weights, false_alarm_rules
from .interactive_clicks import SCRIBBLE_STYLES, add_simulation_options, check_seed

if TYPE_CHECKING:
    from ..protocol.protocol_options import ProtocolOptions

_DESCRIPTION = """\
Runs the challenge's loop over the cases of a folder: all tumour is segmented with 0 to 10 clicks in tumour
and as many in background, simulated from the reference or given (autoPET/CT IV, Task 1), or with 0 to 5
scribbles on the errors of the step before (autoPET V). Each step is scored by Dice, DMM, FPvol and FNvol.
An interrupted run resumes when the command is repeated. docs/interactive_evaluation.md has the rules.
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
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for masks, clicks, records and tables",
    )
    add_pet_ct_weights(parser)
    add(
        "--clicks",
        type=Path,
        metavar="DIR",
        help="folder of click files, CASE.json or CASE_clicks.json; step N uses the first N clicks of each "
        "kind (default: clicks are simulated)",
    )
    add(
        "--steps",
        type=_steps,
        metavar="0,3,7,10",
        help="numbers of clicks of each kind (default: 0 to 10), or of scribbles from 0 on (default: 0 to 5)",
    )
    add(
        "--scribbles",
        choices=("in-turn", *SCRIBBLE_STYLES),
        help="prompt with scribbles instead of clicks: along the centerline of an error, along a random line "
        "across it, along its boundary, or with the three styles in turn, one per case",
    )
    add_simulation_options(parser)
    add_false_alarm_rules(parser)
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
    from ..protocol.protocol_report import CURVES_FILE, draw_curves, summary_table, write_protocol_report
    from ..protocol.run_protocol import run_protocol

    check_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    options = _protocol_options(arguments)
    found = find_protocol_cases(arguments.data, arguments.clicks)
    network = ProtocolNetwork(
        tuple(arguments.weights),
        None if arguments.folds is DEFAULT_FOLDS else arguments.folds,
        ModelOptions(
            device=arguments.device,
            precision=arguments.precision,
            tta=arguments.tta,
            deterministic=arguments.deterministic,
        ),
        false_alarm_rules(arguments),
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


def _protocol_options(arguments: argparse.Namespace) -> ProtocolOptions:
    from ..click_simulation.error_scribbles import ScribbleStyle
    from ..protocol.protocol_options import CLICK_STEPS, SCRIBBLE_STEPS, ProtocolOptions, ProtocolPrompt

    if arguments.scribbles is None:
        return ProtocolOptions(
            steps=arguments.steps or CLICK_STEPS,
            seed=arguments.seed,
            published=arguments.published_clicks,
            given_clicks=arguments.clicks is not None,
        )
    if arguments.clicks is not None or arguments.published_clicks:
        option = "--clicks" if arguments.clicks is not None else "--published-clicks"
        raise InputError(f"{option}: is given with --scribbles; expected one of them")
    steps = arguments.steps or SCRIBBLE_STEPS
    if steps != tuple(range(len(steps))):
        raise InputError("--steps: leaves out scribbles; expected all from 0 on, such as 0,1,2")
    style = None if arguments.scribbles == "in-turn" else ScribbleStyle(arguments.scribbles)
    return ProtocolOptions(ProtocolPrompt.SCRIBBLES, steps, arguments.seed, style=style)


def _steps(text: str) -> tuple[int, ...]:
    """The type of ``--steps``: ascending numbers of clicks."""
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; expected such as 0,3,7,10")
    steps = tuple(map(int, text.split(",")))
    if list(steps) != sorted(set(steps)):
        raise argparse.ArgumentTypeError(f"{text!r} does not ascend; expected such as 0,3,7,10")
    return steps
