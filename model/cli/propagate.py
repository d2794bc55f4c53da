"""The command ``propagate``: propagate points, boxes and masks of lesions from one scan to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from .arguments import add_device

_DESCRIPTION = """\
Register two scans of one patient and propagate points, boxes and masks of lesions from one to the other.

Points are written in the click JSON format of the input, with further keys that readers of clicks ignore:
confidence_mm (estimated error in mm, null if the mapping tears there), source ("propagated"), in_view (the
point lies in the target's field of view) and is_flagged (out of view, confidence_mm beyond --flag-mm, or the
registration is only a fall-back). Boxes are written as box JSON with the same keys, which refer to their
centres; they may extend beyond the target. A mask is written as a labelmap on the target's grid with the
same ids; a voxel claimed by two lesions is assigned to the smaller one.
"""

_EPILOG = """\
box JSON: {"boxes": [{"name": "7", "start": [x, y, z], "stop": [x, y, z]}]}; in voxels half-open (stop is one
past the last voxel), in world units the outer corners in LPS mm.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="SCAN",
        help="CT on which the lesions are known",
    )
    add("--to", dest="target", type=Path, required=True, metavar="SCAN", help="CT to propagate them to")
    add("--points", type=Path, metavar="CLICKS.json", help="points of the lesions, in the platform's format")
    add("--boxes", type=Path, metavar="BOXES.json", help="boxes of the lesions, see below")
    add(
        "--mask",
        type=Path,
        metavar="LABELMAP",
        help="mask of the lesions on the grid of --from, label = lesion id",
    )
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="output file: OUT.json for --points or --boxes, OUT.nii.gz, .mha or .nrrd for --mask; or a "
        "folder for points.json, boxes.json and mask.nii.gz (required for several inputs)",
    )
    add(
        "--clicks",
        choices=("voxel", "world"),
        default="voxel",
        help="units of points and boxes in all files: voxel index (x, y, z) in the file of their scan, or "
        "world (LPS mm) (default: voxel)",
    )
    _add_registration(parser.add_argument_group("registration"))


def _add_registration(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--backend",
        metavar="NAME",
        help="rigid, affine, deformable, greedy, bspline, unigradicon[:WEIGHTS], identity, "
        "transform:FILE|DIR, landmarks:FILE|BASELINE_FILE,FOLLOWUP_FILE, landmarks-rigid:..., "
        "or your own MODULE:FUNCTION (default: deformable)",
    )
    add(
        "--time",
        choices=("forward", "backward"),
        default="forward",
        help="which scan is the follow-up, i.e. the fixed scan of the registration: --to (forward, "
        "default) or --from (backward). Transform and landmark files depend on it",
    )
    add_device(group, "device of back ends that use torch")
    add(
        "--save-transform",
        type=Path,
        metavar="FILE",
        help="write the transform (fixed to moving), which --backend transform:FILE reads",
    )
    add(
        "--no-reverse",
        action="store_true",
        help="skip the registration in the opposite direction, which takes half of the time; confidence_mm "
        "then lacks inverse consistency",
    )
    add(
        "--flag-mm",
        type=float,
        default=10.0,
        metavar="MM",
        help="flag points with a larger confidence_mm (default: 10)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run `propagate_pair`; returns the exit code.

    Raises:
        InputError: a file cannot be used, or options contradict each other.
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
