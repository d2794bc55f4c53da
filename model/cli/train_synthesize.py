"""The command ``train synthesize``: synthetic follow-ups of labelled CTs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError

_DESCRIPTION = """\
Synthetic follow-ups: lesions grow, shrink, vanish, merge, split and appear, and the patient is examined again
(moved, deformed, other noise). Of one scan (--ct, --labels) or of all scans of a manifest (--manifest). Each
follow-up has its CT, its labelmap (the same lesion has the same id), the true displacement to the baseline in
LPS mm and a record of everything drawn and measured; manifest.csv and lesions.csv list them. The same seed
gives the same files whatever the number of workers, and the first ones stay when there are more. Finished
follow-ups are kept when the command is run again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument("--ct", type=Path, metavar="FILE", help="one CT, of any orientation and spacing")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="its labelmap, label = lesion id (1 to 65535)"
    )
    parser.add_argument(
        "--patient",
        metavar="NAME",
        help="the name of the scan's patient, as data sets have it; part of the seed (default: the CT "
        "file's name)",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="a data set instead: patient,timepoint,image,labels[,order], a row for each scan",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where files go")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is random (default: 0)")
    parser.add_argument(
        "--count", type=int, default=1, metavar="K", help="follow-ups of each scan (default: 1)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes; each holds a scan and its follow-up in memory (default: 1)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="GROUP.NAME=VALUE",
        dest="changes",
        help="change a parameter, as in growth.amplitudes_mm2=-22,25 or events.p_vanish=0.2; see "
        "docs/synthetic_followups.md",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the follow-ups; prints what was written.

    Raises:
        InputError: a file that cannot be used, or options that make no sense.
        OutputError: a file cannot be written.
    """
    for option, least in (("seed", 0), ("count", 1), ("workers", 1)):
        value = getattr(arguments, option)
        if value < least:
            raise InputError(f"--{option}: is {value}; expected a whole number from {least} on")
    if arguments.manifest is not None and (arguments.ct is not None or arguments.labels is not None):
        raise InputError("--manifest: given beside --ct or --labels; expected either a scan or a data set")
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
    for line in synthesize(request):
        print(line)
    return 0


def _check_patient(arguments: argparse.Namespace) -> None:
    """Raises InputError for a name that a manifest could not give back."""
    if arguments.manifest is not None:
        raise InputError("--patient: given beside --manifest; expected it with --ct, a manifest has names")
    name: str = arguments.patient
    if not name or name != name.strip() or not name.isprintable():
        raise InputError(f"--patient: is {name!r}; expected a name without spaces round it")
