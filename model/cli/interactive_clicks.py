"""Command ``interactive-clicks``: simulated clicks or a scribble for a PET/CT, from its reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ExitCode, InputError

CHALLENGE_SEED = 42
SCRIBBLE_STYLES = ("centerline", "random", "boundary")

_DESCRIPTION = """\
Writes simulated prompts as a click file of the platform: by default ten clicks in tumour and ten in
background, drawn from a reference and its PET as in autoPET/CT IV (Task 1); with --scribble, a scribble on
the largest error of a segmentation, as in autoPET V.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add("--labels", type=Path, required=True, metavar="FILE", help="reference; voxels above 0 are tumour")
    add("--pet", type=Path, metavar="FILE", help="PET on the same grid, for clicks")
    add("--prediction", type=Path, metavar="FILE", help="segmentation on the same grid, for a scribble")
    add("--scribble", choices=SCRIBBLE_STYLES, help="style of the scribble (default: simulate clicks)")
    add("-o", "--output", type=Path, required=True, metavar="JSON", help="click file to write")
    add_simulation_options(parser)


def add_simulation_options(group: argparse._ActionsContainer) -> None:
    """Add the options of simulated clicks to a parser or an argument group."""
    group.add_argument(
        "--seed",
        type=int,
        default=CHALLENGE_SEED,
        metavar="S",
        help=f"seed of simulated clicks (default: {CHALLENGE_SEED}, as in the challenge)",
    )
    group.add_argument(
        "--published-clicks",
        action="store_true",
        help="simulate clicks exactly as the challenge's script does, including where it deviates from its "
        "rule",
    )


def check_seed(seed: int) -> None:
    """Raise InputError if a seed is out of range."""
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed: is {seed}; expected a whole number from 0 to {2**32 - 1}")


def run(arguments: argparse.Namespace) -> int:
    """Write the click file and print the number of clicks.

    Raises:
        InputError: a file cannot be used, or the grids differ.
        OutputError: the click file cannot be written.
    """
    check_seed(arguments.seed)
    if arguments.output.suffix.lower() != ".json":
        raise InputError(f"{arguments.output}: is no name for clicks; expected it to end in .json")

    _check_sources(arguments)

    from ..case.tumor_clicks import ClickKind
    from ..click_simulation.challenge_clicks import ChallengeRules
    from ..click_simulation.error_scribbles import ScribbleStyle
    from ..protocol.simulated_prompts import write_simulated_clicks, write_simulated_scribble

    labels, output, seed = arguments.labels, arguments.output, arguments.seed
    if arguments.scribble is None:
        rules = ChallengeRules(published=arguments.published_clicks)
        counts = write_simulated_clicks(labels, arguments.pet, output, rules, seed)
    else:
        style = ScribbleStyle(arguments.scribble)
        counts = write_simulated_scribble(labels, arguments.prediction, output, style, seed)
    shown = " and ".join(f"{counts[kind]} {kind}" for kind in ClickKind)
    print(f"{output}: {shown} {'clicks' if arguments.scribble is None else 'points'}")
    return ExitCode.SUCCESS


def _check_sources(arguments: argparse.Namespace) -> None:
    """Raise InputError unless clicks have their PET, or a scribble its prediction."""
    needed, other = ("pet", "prediction") if arguments.scribble is None else ("prediction", "pet")
    what = "clicks are" if arguments.scribble is None else "a scribble is"
    if getattr(arguments, needed) is None:
        raise InputError(f"--{needed}: is missing; expected it, as {what} simulated")
    if getattr(arguments, other) is not None:
        raise InputError(f"--{other}: is given; expected --{needed} alone, as {what} simulated")
    if arguments.scribble is not None and arguments.published_clicks:
        raise InputError("--published-clicks: is given with --scribble; expected one of them")
