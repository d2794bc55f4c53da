"""Command ``track``: track the lesions of patients over any number of time points."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..inference.options import BOOSTS, DEFAULT_BOOST
from .arguments import add_model_options, add_point_rounding, model_options
from .point_options import add_point_options, point_choice, value_range

if TYPE_CHECKING:
    from ..inference.robust import SegmenterOptions
    from ..prompts.sampling import ChoiceOptions
    from ..tracking.fates import FateOptions
    from ..tracking.patients import TrackRunOptions
    from ..tracking.series import TrackingOptions

TOPOLOGIES = ("star", "chain", "recentre", "recentre-mask")
CONFIDENCES = ("there-and-back", "spread")
FOLLOWUP_POINTS = ("verified", "propagated", "none")

_DESCRIPTION = """\
Tracks each lesion of the source time point (given by a mask, clicks or boxes): locates it at all other time
points by registration and segments it there. A lesion that is first clicked, boxed or labelled at another
time point is tracked from there on, away from the source. Clicks and boxes of a time point replace propagated
ones.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add(
        "--series",
        type=Path,
        required=True,
        metavar="DIR|CSV|JSON",
        help="a manifest with the columns patient, timepoint, order or date, scan, mask, clicks, boxes, "
        "scan_slot; or a folder per time point with ct.*, mask.*, clicks.json, boxes.json in it; or "
        "LongiSeg's trackingTr.json or its folder, or a pair list of LongiTrack's viewer",
    )
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="output folder; each patient gets a sub-folder",
    )
    add(
        "--source",
        metavar="TIMEPOINT",
        help="time point to start from (default: the earliest one with a mask, otherwise with clicks or "
        "boxes)",
    )
    add(
        "--topology",
        choices=TOPOLOGIES,
        default="star",
        help="star: from the source to each time point (default); chain: from each to the next; recentre: "
        "like chain, from the middle of each result; recentre-mask: also with its mask as the next context",
    )
    add(
        "--previous-mask",
        action="store_true",
        help="use the neighbouring time point and its result as context, instead of the source",
    )
    add(
        "--clicks",
        choices=("voxel", "world"),
        default="voxel",
        help="units of clicks and boxes: voxel index (x, y, z) of their scan, or world (LPS mm)",
    )
    add(
        "--followup-points",
        choices=FOLLOWUP_POINTS,
        default=FOLLOWUP_POINTS[0],
        help="follow-up points to take from LongiSeg's tracking files and LongiTrack's exports: verified "
        "ones (default), propagated ones, or none, which propagates all of them here",
    )
    _add_segmenter(parser.add_argument_group("segmenter"))
    _add_prompts(parser.add_argument_group("registration and prompts"))
    _add_results(parser.add_argument_group("results"))


def _add_segmenter(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--segmenter",
        default="longitudinal",
        metavar="NAME|module:function",
        help="longitudinal (default), single (LesionLocator's layout), or your own function",
    )
    add("--weights", type=Path, metavar="DIR", help="model folder (default: that of `segment`)")
    add_model_options(group)
    add_point_rounding(group)
    add(
        "--boost",
        choices=BOOSTS,
        default=DEFAULT_BOOST,
        help="segment each lesion with a propagated point from several views (default: %(default)s)",
    )
    add(
        "--boost-mm",
        type=float,
        default=5.0,
        metavar="MM",
        help="maximum shift of perturbed points (default: 5)",
    )
    add("--boost-count", type=int, default=2, metavar="N", help="perturbed points per lesion (default: 2)")
    add("--seed", type=int, default=0, metavar="S", help="random seed (default: 0)")


def _add_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--backend", metavar="NAME", help="registration method, as for `propagate` (default: deformable)")
    add(
        "--confidence",
        choices=CONFIDENCES,
        default=CONFIDENCES[0],
        help="how to estimate the error of propagated points: there-and-back also registers in the opposite "
        f"direction, which doubles the time; spread does not (default: {CONFIDENCES[0]})",
    )
    add(
        "--flag-mm",
        type=float,
        default=10.0,
        metavar="MM",
        help="flag points with a larger estimated error (default: 10)",
    )
    add(
        "--prompt",
        choices=("point", "box", "mask"),
        default="mask",
        help="prompt to propagate for segmenters that use it: the point alone, also a box, or also box and "
        "mask (default). With point, scans whose lesions all have clicks are not registered",
    )
    add_point_options(group, "the first one is the prompt; --boost click-majority uses all of them")


def _add_results(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--component-rule",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep only the component at the point (default: yes)",
    )
    add(
        "--component-mm",
        type=float,
        default=20.0,
        metavar="MM",
        help="if no component is at the point, keep the nearest within this distance (default: 20)",
    )
    add(
        "--overlap",
        choices=("probability", "max-id"),
        default="probability",
        help="assign a voxel claimed by several lesions to the more probable one (default), or to the "
        "highest id",
    )
    vanished = "count a lesion as vanished if"
    add(
        "--min-probability",
        type=float,
        default=0.6,
        metavar="P",
        help=f"{vanished} no voxel reaches this probability (default: 0.6)",
    )
    add("--min-mean-probability", type=float, metavar="P", help=f"{vanished} its mean probability is lower")
    add(
        "--min-volume-ml",
        type=float,
        default=0.01,
        metavar="ML",
        help=f"{vanished} it is smaller (default: 0.01)",
    )
    add("--min-diameter-mm", type=float, metavar="MM", help=f"{vanished} its axial diameter is shorter")
    add(
        "--hu-window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help=f"{vanished} its mean HU lies outside",
    )


def track_options(arguments: argparse.Namespace) -> TrackRunOptions:
    """Build the options of a parsed command line.

    Raises:
        InputError: values are out of range, or options clash.
    """
    from ..propagation.register import DEFAULT_BACKEND
    from ..tracking.patients import TrackRunOptions

    return TrackRunOptions(
        series=arguments.series,
        output=arguments.output,
        source=arguments.source,
        units=arguments.clicks,
        followup_points=arguments.followup_points,
        backend=arguments.backend or DEFAULT_BACKEND,
        tracking=_tracking_options(arguments),
        segmenter=_segmenter_options(arguments),
    )


def _tracking_options(arguments: argparse.Namespace) -> TrackingOptions:
    from ..propagation.confidence import ConfidenceOptions, is_estimated
    from ..propagation.register import DEFAULT_BACKEND
    from ..tracking.series import ConfidenceRule, PromptKind, Topology, TrackingOptions

    confidence = ConfidenceRule(arguments.confidence)
    if not is_estimated(arguments.backend or DEFAULT_BACKEND):
        # In the opposite direction a given registration is its own inverse and measures nothing.
        confidence = ConfidenceRule.SPREAD
    return TrackingOptions(
        topology=Topology(arguments.topology),
        previous_mask=arguments.previous_mask,
        prompt=PromptKind(arguments.prompt),
        choice=_point_choice(arguments),
        seed=arguments.seed,
        overlap=arguments.overlap,
        fate=_fate_options(arguments),
        confidence=confidence,
        confidence_options=ConfidenceOptions(flag_mm=_positive("--flag-mm", arguments.flag_mm)),
    )


def _fate_options(arguments: argparse.Namespace) -> FateOptions:
    from ..tracking.fates import FateOptions

    return FateOptions(
        min_probability=arguments.min_probability,
        min_mean_probability=arguments.min_mean_probability,
        min_volume_ml=arguments.min_volume_ml,
        min_diameter_mm=arguments.min_diameter_mm,
        hu_window=value_range(arguments.hu_window),
    )


def _segmenter_options(arguments: argparse.Namespace) -> SegmenterOptions:
    from ..inference.boost_options import Boosting, BoostOptions
    from ..inference.robust import SegmenterOptions

    boost = BoostOptions(Boosting(arguments.boost), arguments.boost_mm, arguments.boost_count, arguments.seed)
    return SegmenterOptions(
        name=arguments.segmenter,
        weights_dir=arguments.weights,
        model=model_options(arguments),
        boost=boost,
        component_rule=arguments.component_rule,
        component_limit_mm=_positive("--component-mm", arguments.component_mm),
    )


def _positive(option: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{option} {value:g}: expected more than 0")
    return value


def _point_choice(arguments: argparse.Namespace) -> ChoiceOptions | None:
    choice = point_choice(arguments)
    if arguments.sample_probability is not None and ":" in arguments.segmenter:
        raise InputError(
            "--sample-probability: needs a model; expected longitudinal or single as --segmenter"
        )
    return choice


def run(arguments: argparse.Namespace) -> int:
    """Track all patients; prints failures in one line on stderr and returns the exit code.

    Raises:
        LongilesionError: the series, weights or options cannot be used, or the only patient failed.
    """
    from ..tracking.patients import track_patients

    options = track_options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    result = track_patients(options)
    _measure(result.folders)
    if result.message is not None:
        sys.stdout.flush()
        print(result.message, file=sys.stderr, flush=True)
    return result.exit_code


def _measure(folders: Sequence[Path]) -> None:
    """Write the measurements of tracked patients into their folders."""
    from ..report.measure_run import measure_patients
    from ..report.measurement_files import measurements_table
    from ..report.result_folders import tracked_patients

    for folder in folders:
        (patient,) = measure_patients(tracked_patients(folder), folder).measurements.patients
        print(f"\n{measurements_table(patient)}\n")
