"""The command ``prompts``: clicks or boxes out of a lesion mask."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from . import point_options as sampling
from .arguments import add_device

POINT_RULES = ("deepest", "centre", "uniform", "weighted", "border", "challenge")

_DESCRIPTION = """\
Clicks (the platform's JSON) or boxes of all lesions of a mask, as voxel indices x, y, z of its own grid, or
in LPS mm. With --simulate N there are N variants, as users would give them: OUT.json becomes OUT-001.json to
OUT-NNN.json; the same seed gives the same files, and the first ones stay when there are more.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--mask", type=Path, required=True, metavar="FILE", help="a labelmap, label = lesion id (1 to 65535)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.json", help="the file to write"
    )
    parser.add_argument(
        "--type", choices=("point", "box"), default="point", help="what is written (default: point)"
    )
    parser.add_argument(
        "--instances",
        action="store_true",
        help="the mask only tells lesion from background: number its connected parts (26 neighbours)",
    )
    parser.add_argument(
        "--point",
        choices=POINT_RULES,
        help="deepest: the voxel deepest inside (default); centre: the centre of gravity, as the challenge's "
        "files have it; uniform, weighted (by depth) or border: a random voxel; challenge: deepest first, "
        "the border in further simulated files (default with --simulate)",
    )
    parser.add_argument(
        "--margin", type=int, default=0, metavar="N", help="voxels that boxes get on each side (default: 0)"
    )
    parser.add_argument(
        "--units", choices=("voxel", "world"), default="voxel", help="units of the file (default: voxel)"
    )
    parser.add_argument("--simulate", type=int, metavar="N", help="write N simulated variants")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is random (default: 0)")
    parser.add_argument(
        "--perturb",
        type=int,
        metavar="N",
        help="move points by up to N voxels along each axis, and sides of simulated boxes outwards "
        "(default: 0, simulated boxes 5)",
    )
    group = parser.add_argument_group("several points of each lesion")
    sampling.add_arguments(group, "the best is written, with --simulate the best N, a file each")
    group.add_argument("--scan", type=Path, metavar="FILE", help="the mask's CT, where HU or a model choose")
    group.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="the longitudinal model of --sample-probability (default: that at hand)",
    )
    add_device(group)


def run(arguments: argparse.Namespace) -> int:
    """Write the files; prints what was written.

    Raises:
        InputError: the mask is no labelmap, or an option makes no sense.
        OutputError: a file cannot be written.
    """
    for option in ("margin", "simulate", "seed", "perturb"):
        least = 1 if option == "simulate" else 0
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise InputError(f"--{option}: is {value}; expected a whole number from {least} on")
    if arguments.type == "box" and arguments.point is not None:
        raise InputError(f"--point: {arguments.point} given for boxes; expected it with --type point alone")
    choice = sampling.choice_of(arguments)
    if choice is not None:
        _check_sampled(arguments)
    if arguments.output.suffix.lower() != ".json":
        raise InputError(f"{arguments.output}: is no name for prompts; expected it to end in .json")

    from ..tracking.prompt_files import PromptOptions, write_prompts

    for line in write_prompts(
        PromptOptions(
            mask=arguments.mask,
            output=arguments.output,
            kind=arguments.type,
            has_instances=not arguments.instances,
            rule=arguments.point,
            margin=arguments.margin,
            units=arguments.units,
            variants=arguments.simulate,
            seed=arguments.seed,
            perturbation=arguments.perturb,
            choice=choice,
            scan=arguments.scan,
            weights_dir=arguments.weights,
            device=arguments.device,
        )
    ):
        print(line)
    return 0


def _check_sampled(arguments: argparse.Namespace) -> None:
    """Raises InputError where options clash with ``--sample``."""
    if arguments.type == "box":
        raise InputError("--sample: given for boxes; expected it with --type point alone")
    for option in ("point", "perturb"):
        if getattr(arguments, option) is not None:
            raise InputError(f"--{option}: given beside --sample; expected one of them alone")
    needs_scan = arguments.sample_hu is not None or arguments.sample_probability is not None
    if needs_scan and arguments.scan is None:
        raise InputError(
            "--scan: is missing; expected the CT, as --sample-hu and --sample-probability look at it"
        )
