"""The command ``train run``: train networks on prepared data, then cross-validate them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, one_line
from .arguments import add_device

if TYPE_CHECKING:  # imports torch
    from ..training.config import TrainingConfig
    from ..training.distributed import World
    from ..training.stages import EnsembleJob

log = logging.getLogger(__name__)

HELP = "train networks, fold after fold, into a model folder"

_PRESETS = ("scratch", "pretraining", "finetuning")
_DESCRIPTION = """\
Trains the folds one after the other and writes a model folder for --weights. Interrupted folds resume,
finished ones are skipped. Each fold then predicts its held-out patients on their original files; predictions
and tables go to cross_validation in the model folder. Settings are key=value, those of the pretraining
pretrain.key=value, e.g. epochs=200 batch_size=4 pretrain.epochs=500. On several GPUs: torchrun
--nproc-per-node N -m model train run ..., where N divides the batch sizes of both stages. The best model of
[Kirchhoff2025]: --pretrain SYNTHETIC --data REAL.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = _DESCRIPTION
    parser.add_argument("--data", type=Path, metavar="DIR", help="data set written by `train prepare`")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the model folder")
    parser.add_argument(
        "--fold",
        action="append",
        metavar="N|all",
        help="a fold of the splits, may be repeated; all: one network on all patients "
        "(default: every fold of the splits)",
    )
    parser.add_argument(
        "--pretrain",
        type=Path,
        metavar="DIR",
        help="prepared synthetic follow-ups to pretrain on. If they contain patients of --data, each fold "
        "has a pretraining of its own, without its validation patients",
    )
    parser.add_argument(
        "--initial",
        type=Path,
        metavar="FILE",
        help="checkpoint of the initial weights, .pth or .safetensors; its input channels may differ",
    )
    parser.add_argument(
        "--preset",
        choices=_PRESETS,
        help="base of the settings: scratch (default), pretraining (points drawn inside lesions), finetuning "
        "(a tenth of the learning rate; default with --pretrain or --initial)",
    )
    add_device(parser)
    parser.add_argument(
        "--restart", action="store_true", help="train from the start, even if a fold is finished"
    )
    parser.add_argument(
        "--no-cross-validation",
        action="store_true",
        help="do not validate the folds on their held-out patients",
    )
    parser.add_argument(
        "--settings", action="store_true", help="print all settings with their values and exit"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, see --settings")


def run(arguments: argparse.Namespace) -> int:
    """Train and cross-validate, with a log line per epoch.

    Raises:
        InputError: data, settings or options cannot be used.
        WeightsError: initial weights or a checkpoint cannot be used.
        OutputError: a file cannot be written.
        CollapsedFoldError: a fold does not learn.
    """
    config, pretraining = _configs(arguments)
    if arguments.settings:
        _print_settings(arguments, config, pretraining)
        return 0
    for option in ("data", "output"):
        if getattr(arguments, option) is None:
            raise InputError(f"--{option}: is missing; expected a folder")

    from ..training.distributed import joined
    from ..training.health import CollapsedFoldError
    from ..training.train_ensemble import train_ensemble

    job = _job(arguments, config, pretraining)
    collapsed: CollapsedFoldError | None = None
    with joined(job.device) as world:
        if _is_refused(job, world):
            return InputError.exit_code
        try:
            train_ensemble(job)
        except CollapsedFoldError as error:
            collapsed = error  # the other folds are validated nevertheless
    if not arguments.no_cross_validation and _is_first_process():
        _cross_validate(job)
    if collapsed is not None:
        raise collapsed
    return 0


def _configs(arguments: argparse.Namespace) -> tuple[TrainingConfig, TrainingConfig]:
    """The settings of the folds and of their pretraining."""
    from ..training.config import PRESETS, with_stage_overrides

    has_initial_weights = arguments.pretrain is not None or arguments.initial is not None
    preset = arguments.preset or ("finetuning" if has_initial_weights else "scratch")
    return with_stage_overrides(PRESETS[preset], PRESETS["pretraining"], arguments.overrides)


def _print_settings(
    arguments: argparse.Namespace, config: TrainingConfig, pretraining: TrainingConfig
) -> None:
    from ..training.config import PRETRAINING_PREFIX, setting_lines

    stages = [("", config)]
    if arguments.pretrain is not None:
        stages.append((PRETRAINING_PREFIX, pretraining))
    for prefix, settings in stages:
        for line in setting_lines(_with_plan(settings, arguments.data)):
            print(f"{prefix}{line}")


def _with_plan(settings: TrainingConfig, data: Path | None) -> TrainingConfig:
    """The settings with the plan's values filled in, if a data set is given."""
    if data is None:
        return settings
    from ..network.plan import DEFAULT_CONFIGURATION, PLANS_FILE
    from ..training.config import with_plan_defaults

    return with_plan_defaults(settings, data / PLANS_FILE, DEFAULT_CONFIGURATION)


def _job(arguments: argparse.Namespace, config: TrainingConfig, pretraining: TrainingConfig) -> EnsembleJob:
    from ..training.prepared_data import open_prepared
    from ..training.stages import EnsembleJob

    return EnsembleJob(
        data=open_prepared(arguments.data, config.uses_lesion_voxels),
        output=arguments.output,
        config=config,
        folds=tuple(dict.fromkeys(arguments.fold)) if arguments.fold else None,
        pretraining=open_prepared(arguments.pretrain, pretraining.uses_lesion_voxels)
        if arguments.pretrain is not None
        else None,
        pretraining_config=pretraining,
        initial=arguments.initial,
        device=arguments.device,
        restart=arguments.restart,
    )


def _is_refused(job: EnsembleJob, world: World) -> bool:
    """True if a batch size cannot be divided among the processes; the first process prints why."""
    from ..training.stages import check_batch_sizes

    try:
        check_batch_sizes(job, world.size)
    except InputError as error:
        if world.is_first:
            print(one_line(error), file=sys.stderr, flush=True)
        world.wait()  # torchrun ends all processes as soon as one has ended
        return True
    return False


def _is_first_process() -> bool:
    """True for the one of torchrun's processes that writes files and logs."""
    return int(os.environ.get("RANK", "0")) == 0


def _cross_validate(job: EnsembleJob) -> None:
    """Validate the finished folds on their held-out patients; the training counts even if this fails."""
    from ..case.folder_lock import locked_folder
    from ..crossval.cross_validate import CROSS_VALIDATION_FOLDER, cross_validate
    from ..crossval.pairs import evaluation_pairs
    from ..crossval.validate_interactive import validate_interactive
    from ..data.pet_ct.prepared_study import read_study_sources
    from ..training.stages import EVERYTHING
    from ..training.train_ensemble import finished_folds

    if job.folds is not None and set(job.folds) == {EVERYTHING}:
        return
    output = job.output / CROSS_VALIDATION_FOLDER
    try:
        held_out = {name: split.validation for name, split in finished_folds(job).items()}
        if not held_out:
            return
        with locked_folder(output, wait=True):  # a run of other folds may validate them now
            if job.data.pet is not None:
                studies = read_study_sources(job.data.folder)
                validate_interactive(studies, held_out, job.output, output, job.device)
            else:
                cross_validate(evaluation_pairs(job.data.folder), held_out, job.output, output, job.device)
    except InputError as error:
        log.info("cross-validation: not possible, the trained folds are unaffected: %s", error)
        return
    log.info("cross-validation: tables in %s", output)
