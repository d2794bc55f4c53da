"""The command ``train prepare``: a data set as it comes -> one that training reads."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..errors import InputError

PRESET_NAMES = ("resenc-l", "resenc-m", "small", "tiny")
FORMATS = ("auto", "challenge", "longiseg", "manifest")
# What one scan needs at its peak, for choosing how many are worked on at once.
_BYTES_PER_WORKER = 3 * 2**30

_DESCRIPTION = """\
Reads the challenge's release, LongiSeg's layout or a manifest (CSV: patient, timepoint, image, labels), tells
everything that is wrong with it, and goes on without what cannot be used. Plans a network as nnU-Net does,
resamples all scans as inference does, and splits the patients into folds. What is done is not done again:
the same command goes on where it was interrupted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--data", "--manifest", dest="data", type=Path, required=True, metavar="DIR|CSV", help="the data set"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where the prepared data go"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="auto", help="of the data set (default: what it looks like)"
    )
    parser.add_argument("--strict", action="store_true", help="stop when anything is wrong with the data set")
    parser.add_argument("--check", action="store_true", help="only tell what is wrong")
    parser.add_argument(
        "--exclude",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATIENT",
        help="patients of whom nothing is used: no scan, no fingerprint, no fold",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="scans at once (default: as cores and memory allow)"
    )
    _add_plan(parser.add_argument_group("plan"))
    group = parser.add_argument_group("folds")
    group.add_argument(
        "--folds", type=int, default=5, metavar="K", help="how many (default: 5); 0 draws none"
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is random (default: 0)")


def _add_plan(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="the plans.json of another data set, taken as it is, as for pretraining that of the fine-tuning",
    )
    group.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        help="how large the network is: 24 GB of GPU memory (resenc-l, default), 8 (resenc-m), 4 (small), "
        "or a processor (tiny)",
    )
    group.add_argument("--memory", type=float, metavar="GB", help="GPU memory to plan for, instead")
    group.add_argument(
        "--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="mm (default: the data set's median)"
    )
    group.add_argument(
        "--patch", type=int, nargs=3, metavar=("Z", "Y", "X"), help="voxels (default: what memory holds)"
    )
    group.add_argument(
        "--batch-size", type=int, metavar="N", help="patches per step (default: what memory holds)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prepare the data set; prints what is wrong with it and what was done.

    Raises:
        InputError: an option makes no sense, or the data set cannot be used.
        OutputError: the output cannot be written.
        WeightsError: the given plan cannot be used.
    """
    _check(arguments)

    from ..data.planning.planner import DEFAULT_PRESET, PlanOptions
    from ..data.prepare import PrepareOptions, prepare

    options = PrepareOptions(
        data=arguments.data,
        output=arguments.output,
        form=arguments.format,
        plan_options=PlanOptions(
            preset=arguments.preset or DEFAULT_PRESET,
            memory_gb=arguments.memory,
            spacing_zyx=tuple(arguments.spacing) if arguments.spacing else None,
            patch_zyx=tuple(arguments.patch) if arguments.patch else None,
            batch_size=arguments.batch_size,
        ),
        plan=arguments.plan,
        folds=arguments.folds,
        seed=arguments.seed,
        excluded=tuple(arguments.exclude),
        workers=arguments.workers or default_workers(),
        is_strict=arguments.strict,
        check_only=arguments.check,
    )
    prepare(options, lambda line: print(line, flush=True))
    return 0


def default_workers() -> int:
    """As many as there are cores, and memory for."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(os.cpu_count() or 1, int(memory * 0.8 / _BYTES_PER_WORKER)))


def _check(arguments: argparse.Namespace) -> None:
    """Raises InputError for options that are no numbers to work with, or clash."""
    for option, least in (("workers", 1), ("folds", 0), ("seed", 0), ("batch_size", 1)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            name = option.replace("_", "-")
            raise InputError(f"--{name}: is {value}; expected a whole number from {least} on")
    positive = [("memory", arguments.memory)]
    positive += [("spacing", value) for value in arguments.spacing or ()]
    positive += [("patch", value) for value in arguments.patch or ()]
    for option, value in positive:
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{option}: is {value}; expected a number above 0")
    if arguments.plan is not None:
        for option in ("preset", "memory", "spacing", "patch", "batch_size"):
            if getattr(arguments, option) is not None:
                name = option.replace("_", "-")
                raise InputError(
                    f"--{name}: given beside --plan, which is taken as it is; expected one of them"
                )
