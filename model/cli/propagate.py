"""The command ``propagate``: points, boxes and masks of lesions from one scan to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from .arguments import add_device

_DESCRIPTION = """\
Registers two scans of one patient and carries the lesions' points, boxes and masks from one to the other.

Points come out as the click JSON that went in, with further keys for each point, which readers of clicks pass
over: confidence_mm (its error in mm as estimated, null where the mapping tears), source ("propagated"),
in_view (whether it lies in the target's field of view) and is_flagged (out of view, confidence_mm beyond
--flag-mm, or a registration that is only a fall-back). Boxes come out as the box JSON with the same keys, for
their middles; they may reach outside of the target. A mask comes out as a labelmap on the target's grid with
the ids kept; a voxel that two lesions take goes to the smaller one.
"""

_EPILOG = """\
box JSON: {"boxes": [{"name": "7", "start": [x, y, z], "stop": [x, y, z]}]}, in voxels half-open (stop is one
past the last voxel), in world units the outer corners in LPS mm.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="SCAN",
        help="the CT on which the lesions are known",
    )
    add(
        "--to",
        dest="target",
        type=Path,
        required=True,
        metavar="SCAN",
        help="the CT in which they are sought",
    )
    add("--points", type=Path, metavar="CLICKS.json", help="their points, in the platform's format")
    add("--boxes", type=Path, metavar="BOXES.json", help="their boxes, see below")
    add("--mask", type=Path, metavar="LABELMAP", help="their mask on the grid of --from, label = lesion id")
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="the file to write: OUT.json for --points or --boxes, OUT.nii.gz, .mha or .nrrd for --mask; "
        "or a folder, the only choice for several of them, that gets points.json, boxes.json, mask.nii.gz",
    )
    add(
        "--clicks",
        choices=("voxel", "world"),
        default="voxel",
        help="units of points and boxes, in and out: voxel index (x, y, z) of their scan's file, or world "
        "(LPS mm) (default: voxel)",
    )
    _add_registration(parser.add_argument_group("registration"))


def _add_registration(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--backend",
        metavar="NAME",
        help="rigid, affine, deformable, bspline, unigradicon[:WEIGHTS], identity, transform:FILE|DIR, "
        "landmarks:FILE|BASELINE_FILE,FOLLOWUP_FILE, landmarks-rigid:..., or your own MODULE:FUNCTION "
        "(default: that of all commands, see the documentation)",
    )
    add(
        "--time",
        choices=("forward", "backward"),
        default="forward",
        help="forward: --to is the follow-up, which is the fixed scan of the registration (default); "
        "backward: --from is. It matters for files of transforms and landmarks, which have a direction",
    )
    add_device(group, "where back ends that use torch run")
    add(
        "--save-transform",
        type=Path,
        metavar="FILE",
        help="write the transform, fixed to moving, for --backend transform:FILE",
    )
    add(
        "--no-reverse",
        action="store_true",
        help="do not register the other way round as well, which takes as long again; confidence_mm then "
        "leaves out the way there and back",
    )
    add("--flag-mm", type=float, default=10.0, metavar="MM", help="flag points beyond this (default: 10)")


def run(arguments: argparse.Namespace) -> int:
    """Carry everything over and write it; says on stdout what is being done.

    Raises:
        InputError: a file that cannot be used, or options that clash.
        OutputError: a file cannot be written.
    """
    if not arguments.flag_mm > 0:
        raise InputError(f"--flag-mm: is {arguments.flag_mm:g}; expected more than 0")

    from ..propagation.confidence import ConfidenceOptions
    from ..propagation.pair_files import PairOptions, propagate_pair
    from ..propagation.register import DEFAULT_BACKEND

    propagate_pair(
        PairOptions(
            source=arguments.source,
            target=arguments.target,
            output=arguments.output,
            points=arguments.points,
            boxes=arguments.boxes,
            mask=arguments.mask,
            units=arguments.clicks,
            backend=arguments.backend or DEFAULT_BACKEND,
            device=arguments.device,
            is_backward=arguments.time == "backward",
            there_and_back=not arguments.no_reverse,
            save_transform=arguments.save_transform,
            confidence=ConfidenceOptions(flag_mm=arguments.flag_mm),
        )
    )
    return 0
