"""Options ``--sample...``, shared by the commands that take several points from a mask."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..prompts.sampling import ChoiceOptions

SAMPLINGS = ("uniform", "distance", "distance-squared", "fixed-number", "fixed-distance")


def add_point_options(group: argparse.ArgumentParser | argparse._ArgumentGroup, usage: str) -> None:
    """Add the options.

    Args:
        usage: how the command uses the points, for the help text.
    """
    add = group.add_argument
    add(
        "--sample",
        choices=SAMPLINGS,
        help="sample several points of a mask by this method (default: only the voxel deepest inside); "
        f"{usage}",
    )
    add("--samples", type=int, default=27, metavar="N", help="maximum number of points (default: 27)")
    add(
        "--sample-hu",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="keep only points of --sample within these HU",
    )
    add(
        "--sample-probability",
        type=float,
        metavar="P",
        help="keep only points of --sample where the model, without a prompt, predicts at least this "
        "probability of lesion; the most probable come first",
    )


def point_choice(arguments: argparse.Namespace) -> ChoiceOptions | None:
    """Build the options of a parsed command line; None without ``--sample``.

    Raises:
        InputError: values are out of range, or given without ``--sample``.
    """
    from ..prompts.sampling import ChoiceOptions, Sampling, SamplingOptions

    probability = arguments.sample_probability
    if arguments.samples < 1:
        raise InputError(f"--samples {arguments.samples}: expected at least one point")
    if probability is not None and not 0 <= probability <= 1:
        raise InputError(f"--sample-probability {probability:g}: expected 0 to 1")
    if arguments.sample is None:
        for option, value in (("--sample-hu", arguments.sample_hu), ("--sample-probability", probability)):
            if value is not None:
                raise InputError(f"{option}: filters the points of --sample; expected it beside that option")
        return None
    sampling = SamplingOptions(Sampling(arguments.sample), arguments.samples)
    return ChoiceOptions(sampling, value_range(arguments.sample_hu), min_probability=probability)


def value_range(values: list[float] | None) -> tuple[float, float] | None:
    """Convert the two numbers of an option to a tuple; None if the option is not given."""
    if values is None:
        return None
    low, high = values
    return (low, high)
