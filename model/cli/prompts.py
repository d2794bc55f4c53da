"""Command ``prompts``: clicks or boxes from a lesion mask."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import add_device
from .point_options import add_point_options, point_choice

if TYPE_CHECKING:
    from ..prompts.sampling import ChoiceOptions
    from ..tracking.prompt_files import PromptOptions

POINT_RULES = ("deepest", "centre", "uniform", "weighted", "border", "challenge")

_DESCRIPTION = """\
Write clicks (the platform's JSON) or boxes for all lesions of a mask, as voxel indices x, y, z of its grid or
in LPS mm. --simulate N writes N variants that imitate users: OUT.json becomes OUT-001.json to OUT-NNN.json;
the same seed gives the same files, whatever N is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--mask", type=Path, required=True, metavar="FILE", help="a labelmap, label = lesion id (1 to 65535)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.json", help="file to write")
    parser.add_argument(
        "--type", choices=("point", "box"), default="point", help="kind of prompt (default: point)"
    )
    parser.add_argument(
        "--instances",
        action="store_true",
        help="the mask is binary: number its connected components (26 neighbours)",
    )
    parser.add_argument(
        "--point",
        choices=POINT_RULES,
        help="deepest: the voxel deepest inside (default); centre: the centre of gravity, as in the "
        "challenge's files; uniform, weighted (by depth) or border: a random voxel; challenge: the deepest "
        "voxel in the first file, border voxels in further simulated files (default with --simulate)",
    )
    parser.add_argument(
        "--margin", type=int, default=0, metavar="N", help="voxels added to boxes on each side (default: 0)"
    )
    parser.add_argument(
        "--units", choices=("voxel", "world"), default="voxel", help="units of the file (default: voxel)"
    )
    parser.add_argument("--simulate", type=int, metavar="N", help="write N simulated variants")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="random seed (default: 0)")
    parser.add_argument(
        "--perturb",
        type=int,
        metavar="N",
        help="move points by up to N voxels along each axis, and sides of simulated boxes outwards "
        "(default: 0, simulated boxes 5)",
    )
    group = parser.add_argument_group("several points of each lesion")
    add_point_options(group, "the best one is written; with --simulate N the best N, one per file")
    group.add_argument(
        "--scan", type=Path, metavar="FILE", help="CT of the mask, required to filter by HU or probability"
    )
    group.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="longitudinal model for --sample-probability (default: that of `segment`)",
    )
    add_device(group)


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print their names.

    Raises:
        InputError: the mask is not a labelmap, or options are out of range or clash.
        OutputError: a file cannot be written.
    """
    for option in ("margin", "simulate", "seed", "perturb"):
        least = 1 if option == "simulate" else 0
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise InputError(f"--{option}: is {value}; expected a whole number of at least {least}")
    if arguments.type == "box" and arguments.point is not None:
        raise InputError(f"--point: {arguments.point} given for boxes; expected it with --type point alone")
    choice = point_choice(arguments)
    if choice is not None:
        _check_sampling(arguments)
    if arguments.output.suffix.lower() != ".json":
        raise InputError(f"{arguments.output}: is not a name for prompts; expected it to end in .json")

    from ..tracking.prompt_files import write_prompts

    counts = write_prompts(_prompt_options(arguments, choice))
    if not any(counts.values()):
        print(f"warning: {arguments.mask}: contains no lesion; the list is empty")
    noun = "clicks" if arguments.type == "point" else "boxes"
    for path, count in counts.items():
        print(f"{path}: {count} {noun}")
    return 0


def _prompt_options(arguments: argparse.Namespace, choice: ChoiceOptions | None) -> PromptOptions:
    from ..tracking.prompt_files import PromptOptions

    return PromptOptions(
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


def _check_sampling(arguments: argparse.Namespace) -> None:
    """Raise InputError if options clash with ``--sample``."""
    if arguments.type == "box":
        raise InputError("--sample: given for boxes; expected it with --type point alone")
    for option in ("point", "perturb"):
        if getattr(arguments, option) is not None:
            raise InputError(f"--{option}: given beside --sample; expected one of them alone")
    needs_scan = arguments.sample_hu is not None or arguments.sample_probability is not None
    if needs_scan and arguments.scan is None:
        raise InputError(
            "--scan: is missing; expected the CT, which --sample-hu and --sample-probability need"
        )
