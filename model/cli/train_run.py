"""The command ``train run``: networks out of prepared data."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, one_line
from .arguments import add_device

if TYPE_CHECKING:  # brings torch
    from ..training.config import TrainingConfig
    from ..training.distributed import World
    from ..training.stages import EnsembleJob

HELP = "train networks, fold after fold, into a model folder"

_PRESETS = ("scratch", "pretraining", "finetuning")

_DESCRIPTION = """\
Trains folds one after the other, into a model folder as --weights takes it. What is there already goes on
where it stopped, and finished folds are passed over. Then each fold is asked about its held-out patients, on
their original files: cross_validation in the model folder holds answers and tables. Settings are key=value,
those of --pretrain begin with pretrain., as in: epochs=200 batch_size=4 pretrain.epochs=500.
On several GPUs: torchrun --nproc-per-node N -m model train run ..., where N divides the batches of both
stages. Paper 000's best row: --pretrain SYNTHETIC --data REAL.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument("--data", type=Path, metavar="DIR", help="what `train prepare` has written")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the model folder")
    parser.add_argument(
        "--fold",
        action="append",
        metavar="N|all",
        help="a fold of the splits, may be given several times; all: one network of all patients "
        "(default: every fold of the splits)",
    )
    parser.add_argument(
        "--pretrain",
        type=Path,
        metavar="DIR",
        help="prepared synthetic follow-ups to pretrain on. Where they show patients of --data, each fold "
        "has a pretraining of its own, without its validation patients",
    )
    parser.add_argument(
        "--initial",
        type=Path,
        metavar="FILE",
        help="a checkpoint to begin with, .pth or .safetensors, also of other input channels",
    )
    parser.add_argument(
        "--preset",
        choices=_PRESETS,
        help="where settings begin: scratch (default), pretraining (points drawn inside lesions), finetuning "
        "(a tenth of the learning rate; default with --pretrain or --initial)",
    )
    add_device(parser)
    parser.add_argument("--restart", action="store_true", help="begin anew, whatever is there")
    parser.add_argument(
        "--no-cross-validation",
        action="store_true",
        help="do not ask the folds about their held-out patients",
    )
    parser.add_argument(
        "--settings", action="store_true", help="print all settings with their values, and end"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, see --settings")


def run(arguments: argparse.Namespace) -> int:
    """Train; prints a line per epoch.

    Raises:
        InputError: data, settings or options cannot be used.
        WeightsError: initial weights or a checkpoint cannot be used.
        OutputError: something cannot be written.
        CollapsedFoldError: a fold does not learn.
    """
    from ..training.config import PRESETS, SETTINGS_OF_BOTH_STAGES, setting_lines, with_overrides

    begun = arguments.pretrain is not None or arguments.initial is not None
    preset = arguments.preset or ("finetuning" if begun else "scratch")
    first = [text.removeprefix("pretrain.") for text in arguments.overrides if text.startswith("pretrain.")]
    own = [text for text in arguments.overrides if not text.startswith("pretrain.")]
    config = with_overrides(PRESETS[preset], own)
    given = {text.partition("=")[0].strip() for text in first}
    shared = [text for text in own if text.partition("=")[0].strip() in SETTINGS_OF_BOTH_STAGES - given]
    pretraining = with_overrides(PRESETS["pretraining"], [*shared, *first])
    if arguments.settings:
        for stage, settings in (("", config), ("pretrain.", pretraining)):
            if stage and arguments.pretrain is None:
                continue
            for line in setting_lines(_planned(settings, arguments.data)):
                print(f"{stage}{line}")
        return 0

    for option in ("data", "output"):
        if getattr(arguments, option) is None:
            raise InputError(f"--{option}: is missing; expected a folder")

    from ..training.distributed import joined
    from ..training.health import CollapsedFoldError
    from ..training.prepared_data import open_prepared
    from ..training.stages import EnsembleJob
    from ..training.train_ensemble import train_ensemble

    tables = pretraining.sampling == "pretraining"
    job = EnsembleJob(
        data=open_prepared(arguments.data, config.sampling == "pretraining"),
        output=arguments.output,
        config=config,
        folds=tuple(dict.fromkeys(arguments.fold)) if arguments.fold else None,
        pretraining=open_prepared(arguments.pretrain, tables) if arguments.pretrain is not None else None,
        pretraining_config=pretraining,
        initial=arguments.initial,
        device=arguments.device,
        restart=arguments.restart,
    )
    collapsed: CollapsedFoldError | None = None
    with joined(job.device) as world:
        if _is_refused(job, world):
            return InputError.exit_code
        try:
            train_ensemble(job, _say)
        except CollapsedFoldError as error:
            collapsed = error  # the folds that learned are validated all the same
    if not arguments.no_cross_validation and _is_first():
        _cross_validate(job)
    if collapsed is not None:
        raise collapsed
    return 0


def _planned(settings: TrainingConfig, data: Path | None) -> TrainingConfig:
    """Settings with what they leave to the plan, where there is one."""
    if data is None:
        return settings
    from ..network.plan import DEFAULT_CONFIGURATION, PLANS_FILE
    from ..training.config import with_plan_defaults

    return with_plan_defaults(settings, data / PLANS_FILE, DEFAULT_CONFIGURATION)


def _say(line: str) -> None:
    print(line, flush=True)


def _is_refused(job: EnsembleJob, world: World) -> bool:
    """Whether batches do not divide among the processes: the first one says so, before any of them ends."""
    from ..training.stages import check_shares

    try:
        check_shares(job, world.size)
    except InputError as error:
        if world.is_first:
            print(one_line(error), file=sys.stderr, flush=True)
        world.wait()  # torchrun ends all when the first one has ended
        return True
    return False


def _is_first() -> bool:
    """Whether this is the one of torchrun's processes that writes files and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def _cross_validate(job: EnsembleJob) -> None:
    """Ask the finished folds about their held-out patients; what was trained stands, whatever comes of it."""
    from ..crossval.cross_validate import CROSS_VALIDATION_FOLDER, cross_validate
    from ..crossval.pairs import evaluation_pairs
    from ..training.stages import EVERYTHING
    from ..training.train_ensemble import finished_folds

    if job.folds is not None and set(job.folds) == {EVERYTHING}:
        return
    output = job.output / CROSS_VALIDATION_FOLDER
    try:
        held_out = {name: split.validation for name, split in finished_folds(job).items()}
        if not held_out:
            return
        cross_validate(evaluation_pairs(job.data.folder), held_out, job.output, output, job.device, _say)
    except InputError as error:
        _say(f"cross-validation: could not be done, what was trained stands: {error}")
        return
    _say(f"cross-validation: tables in {output}")
