"""The command ``measure``: volumes, diameters and density of lesions, and how they change."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..report.labelmap_sources import PatientSource
    from ..report.patient_measures import ResponseOptions

_DESCRIPTION = """\
Measure the lesions of labelmaps on their CTs: volume, longest axial diameter and its perpendicular, longest
diameter in space, HU, shape. Labelmaps may come from any program; the value of a voxel is its lesion's id,
which is the same at all time points. Writes measurements.json, lesions.csv and patient.csv;
docs/measurements.md defines their contents.
"""

_EPILOG = """\
examples:
  longilesion measure --scan ct1.nii.gz --labelmap m1.nii.gz --scan ct2.nii.gz --labelmap m2.nii.gz \\
      --dates 2024-01-10 2024-03-31 -o OUT
  longilesion measure --track RESULT -o OUT              what `track` has written
  longilesion measure --case INPUT OUTPUT --extras EXTRAS -o OUT     what `segment` has written
  longilesion measure --series series.csv -o OUT         masks of a manifest or folder as for `track`
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--scan",
        type=Path,
        action="append",
        default=[],
        metavar="CT",
        help="a CT; repeat, the baseline first",
    )
    add(
        "--labelmap",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="lesion ids on the grid of the CT; one for each --scan, in the same order",
    )
    add(
        "--dates",
        nargs="+",
        default=[],
        metavar="DATE",
        help="of each --scan, as 2024-03-31; - if one is not known",
    )
    add("--patient", default="patient", metavar="NAME", help="name of the patient with --scan")
    add("--track", type=Path, metavar="DIR", help="output folder of `track`, of all patients or of one")
    add("--case", type=Path, nargs=2, metavar=("INPUT", "OUTPUT"), help="a case and its labelmaps")
    add(
        "--extras",
        type=Path,
        metavar="DIR",
        help="with --case: folder of run.json, to tell lesions that have vanished from those that failed",
    )
    add("--series", type=Path, metavar="FILE|DIR", help="time points with masks, as `track` takes them")
    add(
        "--facts",
        type=Path,
        metavar="CSV",
        help="lesion, and any of patient, organ, node, target, type (yes or no for node and target): without "
        "it the largest five lesions are the targets",
    )
    add(
        "--volume-response",
        type=float,
        nargs=2,
        metavar=("PR", "PD"),
        help="percent of the volume against baseline and nadir for PR and PD by volume (default: -65 73)",
    )
    add("--sdtm", metavar="STUDY", help="also write the SDTM domains TU, TR and RS of this study, as CSV")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")


def run(arguments: argparse.Namespace) -> int:
    """Measure; prints a table per patient, and failures in one line on stderr. Returns the exit code.

    Raises:
        InputError: options or files cannot be used.
        OutputError: the output folder cannot be written.
    """
    if arguments.sdtm is not None and not arguments.sdtm.strip():
        raise InputError("--sdtm: is empty; expected the identifier of the study")
    sources = _sources(arguments)

    from ..report.measure_run import measure_patients
    from ..report.measurement_files import measurements_table
    from ..report.sdtm import write_sdtm

    result = measure_patients(sources, arguments.output, _response_options(arguments))
    for patient in result.measurements.patients:
        print(f"\n{measurements_table(patient)}")
    print()
    paths = list(result.paths)
    if arguments.sdtm is not None:
        paths += write_sdtm(arguments.output, result.measurements, arguments.sdtm)
    for path in paths:
        print(path)
    if result.message is not None:
        sys.stdout.flush()
        print(result.message, file=sys.stderr, flush=True)
    return result.exit_code


def _response_options(arguments: argparse.Namespace) -> ResponseOptions:
    from ..report.lesion_facts import FactsTable, read_lesion_facts
    from ..report.patient_measures import ResponseOptions
    from ..report.response_criteria import VOLUMETRIC

    facts = read_lesion_facts(arguments.facts) if arguments.facts is not None else FactsTable()
    volumetric = VOLUMETRIC
    if arguments.volume_response is not None:
        partial, progression = arguments.volume_response
        if not -100 <= partial < 0 < progression < float("inf"):
            raise InputError(
                f"--volume-response: is {partial:g} {progression:g}; expected a decrease such as -65 and an "
                "increase such as 73"
            )
        volumetric = replace(VOLUMETRIC, partial_percent=partial, progression_percent=progression)
    return ResponseOptions(facts, volumetric)


def _sources(arguments: argparse.Namespace) -> list[PatientSource]:
    """The patients that the options name; one of the four kinds of input."""
    kinds = {
        "--scan": bool(arguments.scan or arguments.labelmap),
        "--track": arguments.track is not None,
        "--case": arguments.case is not None,
        "--series": arguments.series is not None,
    }
    given = [name for name, is_given in kinds.items() if is_given]
    if len(given) != 1:
        named = " and ".join(given) or "no input"
        raise InputError(f"{named}: expected one of --scan with --labelmap, --track, --case and --series")
    if arguments.extras is not None and given != ["--case"]:
        raise InputError(f"--extras: is given with {given[0]}; expected it with --case")
    if arguments.dates and given != ["--scan"]:
        raise InputError(f"--dates: are given with {given[0]}; expected them with --scan")

    from ..report.labelmap_sources import listed_pairs, series_with_masks
    from ..report.result_folders import segmented_case, tracked_patients

    if given == ["--track"]:
        return tracked_patients(arguments.track)
    if given == ["--case"]:
        input_dir, output_dir = arguments.case
        return [segmented_case(input_dir, output_dir, arguments.extras)]
    if given == ["--series"]:
        return series_with_masks(arguments.series)
    return [listed_pairs(arguments.patient, arguments.scan, arguments.labelmap, arguments.dates)]
