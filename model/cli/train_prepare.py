"""The command ``train prepare``: prepare a data set for training."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError

PRESET_NAMES = ("resenc-l", "resenc-m", "small", "compact", "tiny")
FORMATS = ("auto", "challenge", "longiseg", "manifest", "pet-ct")
# Peak memory for one scan, from which the default number of workers follows.
_BYTES_PER_WORKER = 3 * 2**30

_DESCRIPTION = """\
Prepares a data set for training: checks it and lists all problems, plans a network by nnU-Net's rules,
resamples all scans as inference does, and splits the patients into folds. Scans and lesions that cannot be
used are left out. It reads the challenge's release, LongiSeg's layout, a manifest (CSV with the columns
patient, timepoint, image, labels), and PET/CT in nnU-Net's layout or from a manifest with a column pet.
Finished scans are kept: repeat the command to continue an interrupted run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train prepare``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--data",
        "--manifest",
        dest="data",
        type=Path,
        required=True,
        metavar="DIR|CSV",
        help="folder or manifest of the data set",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the prepared data set"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="format of the data set (default: recognised by its files)",
    )
    parser.add_argument("--strict", action="store_true", help="stop if the data set has any problem")
    parser.add_argument("--check", action="store_true", help="only check the data set")
    parser.add_argument(
        "--exclude",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATIENT",
        help="patients to leave out of scans, fingerprint and folds",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of scans processed in parallel (default: as many as cores and memory allow)",
    )
    _add_plan(parser.add_argument_group("plan"))
    group = parser.add_argument_group("folds")
    group.add_argument(
        "--folds", type=int, default=5, metavar="K", help="number of folds (default: 5); 0: no folds"
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="random seed (default: 0)")


def _add_plan(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="plans.json of another data set, used unchanged, e.g. the fine-tuning set's for pretraining",
    )
    group.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        help="size of the network: for 24 GB of GPU memory (resenc-l, default), 8 (resenc-m), 4 (small), "
        "or for a CPU (compact, tiny)",
    )
    group.add_argument(
        "--memory", type=float, metavar="GB", help="GPU memory to plan for, in place of the preset's"
    )
    group.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="target spacing in mm (default: the data set's median)",
    )
    group.add_argument(
        "--patch",
        type=int,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="patch size in voxels (default: the largest that fits into memory)",
    )
    group.add_argument(
        "--batch-size", type=int, metavar="N", help="patches per step (default: as many as fit into memory)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prepare the data set; problems and progress are logged.

    Raises:
        InputError: an option is invalid, or the data set cannot be used.
        OutputError: the output cannot be written.
        WeightsError: the given plan cannot be used.
    """
    _check(arguments)

    from ..data.formats.pet_ct_sets import is_pet_ct_set
    from ..data.pet_ct.prepare_pet_ct import prepare_pet_ct
    from ..data.planning.planner import DEFAULT_PRESET, PlanOptions
    from ..data.prepare import PrepareOptions, prepare

    options = PrepareOptions(
        data=arguments.data,
        output=arguments.output,
        data_format=arguments.format,
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
    is_pet_ct = is_pet_ct_set(options.data, options.data_format)
    (prepare_pet_ct if is_pet_ct else prepare)(options)
    return 0


def default_workers() -> int:
    """The number of scans to process at once, by cores and memory."""
    from ..case.machine_limits import memory_bytes, usable_cores

    return max(1, min(usable_cores(), int(memory_bytes() * 0.8 / _BYTES_PER_WORKER)))


def _check(arguments: argparse.Namespace) -> None:
    """Raise InputError for numbers out of range and options that exclude each other."""
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
                    f"--{name}: given beside --plan, which is used unchanged; expected one of them"
                )
