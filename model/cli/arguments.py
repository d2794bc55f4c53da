"""Command-line options that several commands share."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

from ..errors import InputError
from ..inference.options import DEVICE_PATTERN, ModelOptions
from ..interactive.false_alarm_rules import LEAST_SUV, FalseAlarmRules
from .process import NO_LOG


def add_model_options(group: argparse._ActionsContainer) -> None:
    """Add the options of `ModelOptions` to a parser or an argument group."""
    defaults = ModelOptions()
    add = group.add_argument
    add_device(group, "where the network runs")
    add(
        "--precision",
        choices=("auto", "fp32", "fp16", "bf16"),
        default=defaults.precision,
        help="auto: bf16 if the GPU supports it, fp16 on other GPUs, fp32 on the CPU",
    )
    add(
        "--folds",
        type=fold_list,
        default=defaults.folds,
        metavar="0,1,2,3,4|all",
        help="folds of the ensemble (default: 0,1,2,3,4, for PET/CT all of each model)",
    )
    add(
        "--tta",
        action="store_true",
        help="test-time augmentation: average over the mirrored views that the checkpoint allows",
    )
    add("--deterministic", action="store_true", help="reproduce results bit for bit on the same machine")


def add_pet_ct_weights(group: argparse._ActionsContainer) -> None:
    """Add ``--weights`` for the networks for PET/CT to a parser or an argument group."""
    group.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="one or more models for PET/CT; the folds of all of them are averaged",
    )


def add_point_rounding(group: argparse._ActionsContainer) -> None:
    """Add ``--point-rounding`` for the longitudinal networks to a parser or an argument group."""
    group.add_argument(
        "--point-rounding",
        choices=("truncate", "round"),
        default=ModelOptions().point_rounding,
        help="how a point is mapped to a voxel of the network grid: truncate, as in training and in the "
        "published networks (default), or round to the nearest",
    )


def model_options(arguments: argparse.Namespace) -> ModelOptions:
    """Build the `ModelOptions` of a parsed command line; see `add_model_options`, `add_point_rounding`."""
    return ModelOptions(
        device=arguments.device,
        precision=arguments.precision,
        folds=arguments.folds,
        tta=arguments.tta,
        deterministic=arguments.deterministic,
        point_rounding=arguments.point_rounding,
    )


def add_false_alarm_rules(group: argparse._ActionsContainer) -> None:
    """Add the rules against false alarms in PET/CT to a parser or an argument group."""
    add = group.add_argument
    add(
        "--min-suv",
        type=float,
        nargs="?",
        const=LEAST_SUV,
        metavar="SUV",
        help=f"remove components whose maximum is below this SUV (off by default; {LEAST_SUV} if no number "
        "follows)",
    )
    add("--remove-clicked", action="store_true", help="remove components that contain a background click")
    add(
        "--cover-clicks",
        action="store_true",
        help="add a ball of 5 mm radius around each tumor click outside the mask",
    )


def false_alarm_rules(arguments: argparse.Namespace) -> FalseAlarmRules:
    """Build the rules of a parsed command line; see `add_false_alarm_rules`.

    Raises:
        InputError: a SUV that is not a positive number.
    """
    if arguments.min_suv is not None and not 0 < arguments.min_suv < float("inf"):
        raise InputError(f"--min-suv: is {arguments.min_suv:g}; expected a positive number")
    return FalseAlarmRules(arguments.min_suv, arguments.remove_clicked, arguments.cover_clicks)


def add_display(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet`` and ``--json`` to a parser."""
    display = parser.add_mutually_exclusive_group()
    display.add_argument("--quiet", action="store_true", help="warnings and errors only, and no bars")
    display.add_argument(
        "--json",
        action="store_true",
        help="nothing but one JSON document on stdout: exit_code, and the contents of run.json or the error",
    )


def log_level(arguments: argparse.Namespace) -> int:
    """The log level of a parsed command line: that of its command, of ``--json`` or of ``--quiet``."""
    if getattr(arguments, "json", False):
        return NO_LOG
    quiet = logging.WARNING if getattr(arguments, "quiet", False) else logging.INFO
    return getattr(arguments, "log_level", quiet)


def add_device(group: argparse._ActionsContainer, what: str = "where it computes") -> None:
    """Add ``--device`` to a parser or an argument group."""
    group.add_argument(
        "--device",
        type=device_name,
        default="auto",
        metavar="auto|cpu|cuda|cuda:N",
        help=f"{what} (default: auto)",
    )


def device_name(text: str) -> str:
    """The type of a ``--device`` argument."""
    if not re.fullmatch(DEVICE_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; expected auto, cpu, cuda or cuda:N")
    return text


def fold_list(text: str) -> tuple[int | str, ...]:
    """The type of a ``--folds`` argument: distinct fold numbers, separated by commas, or ``all``.

    ``all`` is the name of one fold, that of a network trained on all patients.
    """
    if text == "all":
        return (text,)
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of folds; expected numbers such as 0,1,2,3,4")
    folds = tuple(int(part) for part in text.split(","))
    if len(set(folds)) != len(folds):
        raise argparse.ArgumentTypeError(f"{text!r} names a fold twice")
    return folds
