"""The command ``evaluate``: how good predicted lesions are."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFINITION_NAMES = ("challenge", "longitudinal", "tracking")
DEFAULT_DEFINITION = "longitudinal"

_DESCRIPTION = """\
Compares labelmaps of lesion ids (binary ones too) with their references: Dice, recall, precision, FNvol and
FPvol, NSD at 2 mm, HD95, ASSD, vanished lesions, CPM@25, Dice@25, MED, and the area under the curve over
several steps. Folders pair by relative path without suffix, or by case folder and socket in the platform's
layout. A reference without prediction gets the worst score. What empty masks count is in docs/evaluation.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="FILE|DIR", help="true labelmaps, label = lesion id"
    )
    parser.add_argument(
        "--prediction",
        type=Path,
        required=True,
        action="append",
        metavar="FILE|DIR",
        help="predicted labelmaps; given several times: the steps in order",
    )
    parser.add_argument(
        "--definition",
        choices=DEFINITION_NAMES,
        default=DEFAULT_DEFINITION,
        help="what counts and how it is averaged: the challenge's script, [Kirchhoff2025] (longitudinal, "
        "default), or [Rokuss2025] (tracking)",
    )
    parser.add_argument(
        "--lesion-map",
        type=Path,
        metavar="tracking.json|CSV|DIR",
        help="which lesions of the baseline became which of the follow-up: LongiSeg's tracking.json, the "
        "challenge's CSV or the folder of its patients' CSVs, or a CSV with "
        "baseline_id,followup_ids[,patient,scan] (default: ids pair with themselves)",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE|DIR",
        help="labelmaps of the baseline: which lesions were there, and how large",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="RUN_DIR", help="the -o folder of another run: paired differences"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write records, tables and summary here"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, not as a table")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; prints the summary on stdout and warnings on stderr.

    Raises:
        InputError: a file that cannot be used, or grids that differ; the message names them.
        OutputError: the folder cannot be written.
    """
    from ..evaluation.evaluate_files import EvaluateOptions, run_evaluation

    run_evaluation(
        EvaluateOptions(
            reference=arguments.reference,
            predictions=tuple(arguments.prediction),
            definition=arguments.definition,
            lesion_map=arguments.lesion_map,
            baseline=arguments.baseline,
            compare=arguments.compare,
            output=arguments.output,
            as_json=arguments.json,
        )
    )
    return 0
