"""Command ``evaluate``: compare predicted lesions with their references."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from ..errors import InputError

DEFINITION_NAMES = ("challenge", "longitudinal", "tracking")
DEFAULT_DEFINITION = "longitudinal"

_DESCRIPTION = """\
Compares labelmaps of lesion ids (or binary masks) with their references: Dice, recall, precision, FNvol and
FPvol, NSD at 2 mm, HD95, ASSD, vanished lesions, CPM@25, Dice@25, MED, and the area under the curve over
several steps. Folders pair by relative path without suffix, or by case folder and socket in the platform's
layout. A reference without a prediction gets the worst score. docs/evaluation.md lists how empty masks are
scored.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        metavar="FILE|DIR",
        help="true labelmaps; values are lesion ids",
    )
    parser.add_argument(
        "--prediction",
        type=Path,
        required=True,
        action="append",
        metavar="FILE|DIR",
        help="predicted labelmaps; repeat the option for several steps, in order",
    )
    parser.add_argument(
        "--definition",
        choices=DEFINITION_NAMES,
        default=DEFAULT_DEFINITION,
        help="rules for empty masks and for averaging: those of the challenge's script, of [Kirchhoff2025] "
        "(longitudinal, default) or of [Rokuss2025] (tracking)",
    )
    parser.add_argument(
        "--lesion-map",
        type=Path,
        metavar="tracking.json|CSV|DIR",
        help="links between lesions of the baseline and of the follow-up: LongiSeg's tracking.json, the "
        "challenge's CSV or a folder with one for each patient, or a CSV with "
        "baseline_id,followup_ids[,patient,scan] (default: equal ids pair)",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE|DIR",
        help="labelmaps of the baseline, to count vanished lesions and changes in volume",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="RUN_DIR", help="-o folder of another run, for paired differences"
    )
    parser.add_argument(
        "--floor",
        type=Path,
        metavar="CASE|DIR",
        help="input folder of the predicted case, or a folder of such folders: also scores what needs no "
        "network (the baseline mask pasted at the follow-up point, the mask warped by registration, region "
        "growing at the point), with paired differences. Its baseline masks are used unless --baseline is "
        "given",
    )
    parser.add_argument(
        "--backend", metavar="NAME", help="registration for --floor, as for `propagate` (default: deformable)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder for records, tables and summary"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; prints the summary on stdout and warnings on stderr.

    Raises:
        InputError: a file cannot be used, or grids differ; the message names the files.
        OutputError: the output folder cannot be written.
    """
    if arguments.backend is not None and arguments.floor is None:
        raise InputError("--backend: is given without --floor; expected both, or neither")

    from ..evaluation.evaluate_files import EvaluateOptions, run_evaluation
    from ..evaluation.summary import summary_document, summary_markdown

    options = EvaluateOptions(
        reference=arguments.reference,
        predictions=tuple(arguments.prediction),
        definition=arguments.definition,
        lesion_map=arguments.lesion_map,
        baseline=arguments.baseline or arguments.floor,
        compare=arguments.compare,
        output=arguments.output,
    )
    _log_to_stderr()
    floors = None
    if arguments.floor is not None:
        from ..floor.floor_cases import CaseFloors

        floors = CaseFloors(arguments.floor, arguments.backend)
    progress = _print_progress if sys.stderr.isatty() else None
    evaluation = run_evaluation(options, progress, floors)
    if arguments.json:
        print(json.dumps(summary_document(evaluation), indent=1, allow_nan=False), flush=True)
    else:
        print(summary_markdown(evaluation), flush=True)
    for warning in evaluation.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _log_to_stderr() -> None:
    """Keep stdout for the summary, which other programs may read."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def _print_progress(measured: int, total: int) -> None:
    """Show a running count on a terminal."""
    if total > 1:
        print(
            f"\r{measured}/{total} scans", end="\n" if measured == total else "", file=sys.stderr, flush=True
        )
