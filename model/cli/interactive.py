"""The command ``interactive``: all tumour of one PET/CT, from its images and clicks."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExitCode, InputError
from ..inference.options import DEFAULT_FOLDS, ModelOptions
from .arguments import add_false_alarm_rules, add_model_options, add_pet_ct_weights, false_alarm_rules

if TYPE_CHECKING:
    from ..case.pet_ct_scan import PetCtFiles
    from ..case.scans import ClickUnits
    from ..case.suv_checks import InjectedDose
    from ..interactive.load_pet_ct import PetCtModel
    from .pet_ct_run import PetCtRunOptions

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--ct", type=Path, required=True, metavar="FILE", help="CT, in HU")
    add(
        "--pet",
        type=Path,
        required=True,
        metavar="FILE",
        help="PET, in SUV; in Bq/ml with --dose or --activity",
    )
    add(
        "--clicks",
        type=Path,
        metavar="JSON",
        help='points named "tumor" and "background" on the CT (default: none)',
    )
    add(
        "--click-units",
        choices=("voxel", "world"),
        default="voxel",
        help="units of the points: voxel index (x, y, z) of the CT, or world (LPS mm)",
    )
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="mask to write, on the CT's grid")
    add_pet_ct_weights(parser)
    add(
        "--extras",
        type=Path,
        metavar="DIR",
        help="folder for run.json, the lesions and their uptake (labelmap and table), and the probability "
        "map",
    )
    add_pet_ct_options(parser)
    add_model_options(parser)


def add_pet_ct_options(parser: argparse._ActionsContainer) -> None:
    """Add the options of a PET/CT to a parser or an argument group."""
    dose = parser.add_mutually_exclusive_group()
    dose.add_argument(
        "--dose",
        type=Path,
        metavar="FILE",
        help="for a PET in Bq/ml: a JSON file with weight_kg, dose_mbq, half_life_minutes, and either "
        "minutes or injected and scanned; or an image of its DICOM series, or the folder of the series",
    )
    dose.add_argument(
        "--activity",
        type=float,
        nargs=4,
        metavar=("KG", "MBQ", "MINUTES", "HALF_LIFE"),
        help="for a PET in Bq/ml: body weight, injected dose, minutes from injection to scan, and half-life "
        "in minutes",
    )
    parser.add_argument(
        "--organs",
        action="store_true",
        help="also write a labelmap of organs to --extras; the networks must have a head for organs",
    )
    add_false_alarm_rules(parser)


def given_pet_ct_options(arguments: argparse.Namespace) -> list[str]:
    """The names of the options of `add_pet_ct_options` that a command line gives."""
    names = ("dose", "activity", "organs", "min_suv", "remove_clicked", "cover_clicks")
    values = {name: getattr(arguments, name) for name in names}
    return [f"--{name.replace('_', '-')}" for name, value in values.items() if value not in (None, False)]


def run(arguments: argparse.Namespace) -> int:
    """Segment the PET/CT of a parsed command line; returns the exit code.

    Raises:
        LongilesionError: see `errors`; no mask is left then, not even an earlier one.
    """
    from ..case.pet_ct_scan import PetCtFiles
    from .pet_ct_run import run_pet_ct

    files = PetCtFiles(arguments.ct, arguments.pet, arguments.clicks)
    run_pet_ct(_run_options(arguments, files, arguments.output, arguments.weights, arguments.click_units))
    return ExitCode.SUCCESS


def run_platform_case(arguments: argparse.Namespace, loaded: PetCtModel | None = None) -> int:
    """Segment the PET/CT of the platform's input folder; returns the exit code.

    Args:
        arguments: as of the command ``segment``, whose options for single lesions do not apply, with those of
            `add_pet_ct_options`.
        loaded: the model, if it is loaded already.

    Raises:
        LongilesionError: see `errors`; no mask is left then, not even that of another CT.
    """
    from ..case.folder_lock import locked_folder
    from ..case.pet_ct_outputs import platform_mask, remove_stale_masks
    from ..case.pet_ct_scan import find_pet_ct
    from ..network.weights import find_weights
    from .pet_ct_run import run_pet_ct

    with locked_folder(arguments.output):
        remove_stale_masks(arguments.output)
        files = find_pet_ct(arguments.input)
        if files.clicks is None:
            log.warning("lesion-clicks.json: is missing; read as an empty list")
        mask, weights = platform_mask(arguments.output, files.ct), [find_weights(arguments.weights)]
        run_pet_ct(_run_options(arguments, files, mask, weights, arguments.clicks), loaded)
    return ExitCode.SUCCESS


def _run_options(
    arguments: argparse.Namespace,
    files: PetCtFiles,
    mask: Path,
    weights: Sequence[Path],
    click_units: ClickUnits,
) -> PetCtRunOptions:
    from .pet_ct_run import PetCtRunOptions

    if arguments.organs and arguments.extras is None:
        raise InputError("--organs: has nowhere to write to; expected --extras DIR with it")
    return PetCtRunOptions(
        files=files,
        mask=mask,
        weights=weights,
        folds=pet_ct_folds(arguments),
        click_units=click_units,
        dose=_dose(arguments),
        extras_dir=arguments.extras,
        organs=arguments.organs,
        model=pet_ct_options(arguments),
        rules=false_alarm_rules(arguments),
    )


def _dose(arguments: argparse.Namespace) -> InjectedDose | None:
    """The values that convert Bq/ml to SUV, from a file or from the command line."""
    from ..case.dose_files import read_dose
    from ..case.suv_checks import InjectedDose

    if arguments.dose is not None:
        return read_dose(arguments.dose)
    return InjectedDose(*arguments.activity) if arguments.activity is not None else None


def pet_ct_folds(arguments: argparse.Namespace) -> Sequence[int | str] | None:
    """The folds of each model; the default of `segment` is five, here all available ones."""
    return None if arguments.folds is DEFAULT_FOLDS else arguments.folds


def pet_ct_options(arguments: argparse.Namespace) -> ModelOptions:
    """The options of networks for PET/CT of a parsed command line."""
    return ModelOptions(
        device=arguments.device,
        precision=arguments.precision,
        tta=arguments.tta,
        deterministic=arguments.deterministic,
    )
