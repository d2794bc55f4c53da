"""The options `--sample…`, of every command that takes several points from a mask."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..prompts.sampling import ChoiceOptions

SAMPLINGS = ("uniform", "distance", "distance-squared", "fixed-number", "fixed-distance")


def add_arguments(group: argparse.ArgumentParser | argparse._ArgumentGroup, use: str) -> None:
    """``use`` says what the command does with the points."""
    add = group.add_argument
    add(
        "--sample",
        choices=SAMPLINGS,
        help=f"take several points from a mask in this way (default: the voxel deepest inside); {use}",
    )
    add("--samples", type=int, default=27, metavar="N", help="the most points of --sample (default: 27)")
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
        help="keep only points of --sample that the model takes for lesion without a prompt, surest first",
    )


def choice_of(arguments: argparse.Namespace) -> ChoiceOptions | None:
    """The choice of points that a command line asks for; None where it samples none.

    Raises:
        InputError: values out of their range, or without ``--sample``.
    """
    from ..prompts.sampling import ChoiceOptions, Sampling, SamplingOptions

    least = arguments.sample_probability
    if arguments.samples < 1:
        raise InputError(f"--samples {arguments.samples}: expected at least one point")
    if least is not None and not 0 <= least <= 1:
        raise InputError(f"--sample-probability {least:g}: expected 0 to 1")
    if arguments.sample is None:
        for option, value in (("--sample-hu", arguments.sample_hu), ("--sample-probability", least)):
            if value is not None:
                raise InputError(
                    f"{option}: chooses among the points of --sample; expected it beside that option"
                )
        return None
    sampling = SamplingOptions(Sampling(arguments.sample), arguments.samples)
    return ChoiceOptions(sampling, pair(arguments.sample_hu), min_probability=least)


def pair(values: list[float] | None) -> tuple[float, float] | None:
    """Both numbers of an option that takes two."""
    if values is None:
        return None
    low, high = values
    return (low, high)
