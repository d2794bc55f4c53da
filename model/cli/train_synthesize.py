"""Command ``train synthesize``: make synthetic follow-ups of labelled CTs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError

_DESCRIPTION = """\
Makes synthetic follow-ups of one scan (--ct, --labels) or of all scans of a manifest (--manifest): lesions
grow, shrink, vanish, merge, split and appear; the patient is moved and deformed, and the noise is new. Each
follow-up has a CT, a labelmap (lesions keep their ids), the true displacement to the baseline in LPS mm and a
record of everything drawn and measured; manifest.csv and lesions.csv list them. The same seed gives the same
files with any number of workers, and a larger --count only adds further ones. Repeated runs keep finished
follow-ups.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train synthesize``."""
    parser.description = _DESCRIPTION
    parser.add_argument("--ct", type=Path, metavar="FILE", help="one CT, of any orientation and spacing")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="its labelmap; values are lesion ids (1 to 65535)"
    )
    parser.add_argument(
        "--patient",
        metavar="NAME",
        help="name of the patient as in the data set; part of the seed (default: name of the CT file)",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="table of many scans, one per row, instead of --ct: patient,timepoint,image,labels[,order]",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")
    parser.add_argument("--count", type=int, default=1, metavar="K", help="follow-ups per scan (default: 1)")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="number of processes; each holds a scan and its follow-up in memory (default: 1)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="GROUP.NAME=VALUE",
        dest="changes",
        help="change a parameter, e.g. growth.amplitudes_mm2=-22,25 or events.p_vanish=0.2; see "
        "docs/synthetic_followups.md",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the follow-ups; the log lists them.

    Raises:
        InputError: a file cannot be used, or options are invalid or do not go together.
        OutputError: a file cannot be written.
    """
    for option, least in (("seed", 0), ("count", 1), ("workers", 1)):
        value = getattr(arguments, option)
        if value < least:
            raise InputError(f"--{option}: is {value}; expected a whole number from {least} on")
    if arguments.manifest is not None and (arguments.ct is not None or arguments.labels is not None):
        raise InputError("--manifest: given together with --ct or --labels; expected one scan or a data set")
    if arguments.manifest is None and (arguments.ct is None or arguments.labels is None):
        missing = "--ct" if arguments.ct is None else "--labels"
        raise InputError(f"{missing}: is missing; expected --ct and --labels of a scan, or --manifest")

    if arguments.patient is not None:
        _check_patient(arguments)

    from ..synthesis.settings import SynthesisSettings
    from ..synthesis.synthesize import SynthesisRequest, synthesize

    settings = SynthesisSettings().with_overrides(arguments.changes)
    request = SynthesisRequest(
        ct=arguments.ct,
        labels=arguments.labels,
        manifest=arguments.manifest,
        output=arguments.output,
        seed=arguments.seed,
        count=arguments.count,
        workers=arguments.workers,
        settings=settings,
        patient=arguments.patient,
    )
    synthesize(request)
    return 0


def _check_patient(arguments: argparse.Namespace) -> None:
    """Raise InputError for a name that a manifest could not hold."""
    if arguments.manifest is not None:
        raise InputError("--patient: given together with --manifest, which names the patients; expected --ct")
    name: str = arguments.patient
    if not name or name != name.strip() or not name.isprintable():
        raise InputError(f"--patient: is {name!r}; expected a name without spaces around it")
