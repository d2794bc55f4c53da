"""The command ``track``: follow the lesions of patients over any number of time points."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..inference.options import BOOSTS, DEFAULT_BOOST
from . import point_options as sampling
from .arguments import add_model_options

TOPOLOGIES = ("star", "chain", "recentre", "recentre-mask")
CONFIDENCES = ("there-and-back", "spread")

_DESCRIPTION = """\
Every lesion that the source shows (by its mask, clicks or boxes) is found again at all other time points, by
registration, and segmented there. A lesion that is first clicked, boxed or labelled elsewhere is followed
from there on, away from the source. A click or box that is given at a time point is used as it is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add(
        "--series",
        type=Path,
        required=True,
        metavar="DIR|CSV|JSON",
        help="a manifest with the columns patient, timepoint, order or date, scan, mask, clicks, boxes, "
        "scan_slot; or a folder per time point with ct.*, mask.*, clicks.json, boxes.json in it",
    )
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="a folder; each patient gets its own")
    add(
        "--source",
        metavar="TIMEPOINT",
        help="where to start (default: the earliest time point with a mask, else with clicks or boxes)",
    )
    add(
        "--topology",
        choices=TOPOLOGIES,
        default="star",
        help="star: from the source to each time point (default); chain: from each to the next; recentre: "
        "the same from the middle of each result; recentre-mask: and its mask is the next one's context",
    )
    add("--previous-mask", action="store_true", help="the neighbour's result is the context, not the source")
    add(
        "--clicks",
        choices=("voxel", "world"),
        default="voxel",
        help="units of clicks and boxes: voxel index (x, y, z) of their scan, or world (LPS mm)",
    )
    _add_segmenter(parser.add_argument_group("segmenter"))
    _add_prompts(parser.add_argument_group("registration and prompts"))
    _add_answers(parser.add_argument_group("answers"))


def _add_segmenter(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--segmenter",
        default="longitudinal",
        metavar="NAME|module:function",
        help="longitudinal (default), single (LesionLocator's layout), or your own function",
    )
    add(
        "--weights",
        type=Path,
        metavar="DIR",
        help="the model (default: the longitudinal one that is at hand)",
    )
    add_model_options(group)
    add(
        "--boost",
        choices=BOOSTS,
        default=DEFAULT_BOOST,
        help="ask more than once for each lesion whose point was propagated (default: %(default)s)",
    )
    add("--boost-mm", type=float, default=5.0, metavar="MM", help="reach of perturbed points (default: 5)")
    add("--boost-count", type=int, default=2, metavar="N", help="perturbed points per lesion (default: 2)")
    add("--seed", type=int, default=0, metavar="S", help="of all that is random (default: 0)")


def _add_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--backend", metavar="NAME", help="how scans are registered: a name, or your own module:function")
    add(
        "--confidence",
        choices=CONFIDENCES,
        default=CONFIDENCES[0],
        help="measure how far off a point may be by the way back too, at the price of a second registration, "
        f"or by the spread of points near it alone (default: {CONFIDENCES[0]})",
    )
    add("--flag-mm", type=float, default=10.0, metavar="MM", help="flag points beyond this (default: 10)")
    add(
        "--prompt",
        choices=("point", "box", "mask"),
        default="mask",
        help="what is carried along beside the point, for segmenters that take it; with point nothing is "
        "registered where clicks are given (default: mask)",
    )
    sampling.add_arguments(group, "the first is the prompt, --boost click-majority asks at all")


def _add_answers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--component-rule",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep only the component at the point (default: yes)",
    )
    add("--component-mm", type=float, default=20.0, metavar="MM", help="its reach (default: 20)")
    add(
        "--overlap",
        choices=("probability", "max-id"),
        default="probability",
        help="who gets a voxel that several lesions claim: the more probable one, or the highest id",
    )
    vanished = "a lesion has vanished where"
    add("--min-probability", type=float, default=0.6, metavar="P", help=f"{vanished} no voxel reaches this")
    add("--min-mean-probability", type=float, metavar="P", help=f"{vanished} its mean is lower")
    add("--min-volume-ml", type=float, default=0.01, metavar="ML", help=f"{vanished} it is smaller")
    add("--min-diameter-mm", type=float, metavar="MM", help=f"{vanished} its axial diameter is shorter")
    add(
        "--hu-window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help=f"{vanished} its mean HU lies outside",
    )


def run(arguments: argparse.Namespace) -> int:
    """Follow all patients; returns the exit code.

    Raises:
        LongilesionError: the series, weights or options cannot be used, or the only patient failed.
    """
    from ..tracking.patients import options_of, track

    return track(options_of(arguments))
