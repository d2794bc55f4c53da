"""The command ``interactive``: all tumour of one PET/CT, from its images and clicks."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExitCode, InputError, OutputError
from ..inference.options import DEFAULT_FOLDS, ModelOptions
from .arguments import add_model_options

if TYPE_CHECKING:
    from ..case.pet_ct_scan import PetCtFiles
    from ..case.scans import ClickUnits
    from ..case.suv_checks import InjectedDose

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--ct", type=Path, required=True, metavar="FILE", help="the CT, in HU")
    add("--pet", type=Path, required=True, metavar="FILE", help="the PET, in SUV")
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
    add(
        "--activity",
        type=float,
        nargs=4,
        metavar=("KG", "MBQ", "MINUTES", "HALF_LIFE"),
        help="of a PET in Bq/ml: weight, injected dose, minutes from injection to scan, half-life (minutes)",
    )
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the mask, on the CT's grid")
    add(
        "--weights",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="one or several models for PET/CT, all folds of which are averaged",
    )
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Segment the PET/CT of a parsed command line; returns the exit code.

    Raises:
        LongilesionError: see `errors`; no mask is left then, not even an earlier one.
    """
    from ..case.pet_ct_scan import PetCtFiles
    from ..case.suv_checks import InjectedDose

    files = PetCtFiles(arguments.ct, arguments.pet, arguments.clicks)
    dose = InjectedDose(*arguments.activity) if arguments.activity is not None else None
    _segment(files, arguments.output, arguments.weights, arguments.click_units, arguments, dose)
    return ExitCode.SUCCESS


def run_platform_case(arguments: argparse.Namespace) -> int:
    """Segment the PET/CT of the platform's input folder; returns the exit code.

    Args:
        arguments: as of the command ``segment``, whose options for lesions and extras do not apply.

    Raises:
        LongilesionError: see `errors`; no mask is left then.
    """
    from ..case.folder_lock import locked_folder
    from ..case.pet_ct_scan import find_pet_ct, platform_mask
    from ..network.weights import find_weights

    if arguments.extras is not None:
        log.warning("--extras: nothing is written there for a PET/CT")
    files = find_pet_ct(arguments.input)
    if files.clicks is None:
        log.warning("lesion-clicks.json: is missing; read as an empty list")
    with locked_folder(arguments.output):
        weights = [find_weights(arguments.weights)]
        _segment(files, platform_mask(arguments.output, files.ct), weights, arguments.clicks, arguments)
    return ExitCode.SUCCESS


def _segment(
    files: PetCtFiles,
    output: Path,
    weights: Sequence[Path],
    click_units: ClickUnits,
    arguments: argparse.Namespace,
    dose: InjectedDose | None = None,
) -> None:
    _prepare_output(output, (files.ct, files.pet))
    from ..case.pet_ct_scan import read_pet_ct

    scan = read_pet_ct(files, click_units, dose)
    for warning in scan.warnings:
        log.warning("%s", warning)
    from ..interactive.load_pet_ct import load_pet_ct_model  # brings torch
    from ..interactive.segment_pet_ct import segment_pet_ct

    options = ModelOptions(
        device=arguments.device,
        precision=arguments.precision,
        tta=arguments.tta,
        deterministic=arguments.deterministic,
    )
    # The default of `segment` is five folds; here it is all that are there.
    folds = None if arguments.folds is DEFAULT_FOLDS else arguments.folds
    model = load_pet_ct_model(weights, options, folds)
    result = segment_pet_ct(model, scan.ct, scan.pet, scan.geometry, scan.clicks)
    scan.write_mask(output, result.mask)
    volume_ml = int(result.mask.sum()) * scan.geometry.voxel_volume_ml
    log.info("%s: tumour of %.2f ml, from %d clicks", output, volume_ml, len(result.clicks))


def _prepare_output(path: Path, inputs: tuple[Path, ...]) -> None:
    """Check the name of the mask, and delete an earlier one, so that a failing run leaves no old result.

    Raises:
        InputError: its suffix is that of no image, or it is one of the inputs.
        OutputError: it cannot be written.
    """
    from ..case.input_files import path_exists
    from ..case.lesion_json import check_writable
    from ..case.stored_image import IMAGE_SUFFIXES

    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise InputError(f"{path}: has the suffix of no image; expected one of {', '.join(IMAGE_SUFFIXES)}")
    if path_exists(path) and any(path_exists(other) and path.samefile(other) for other in inputs):
        raise InputError(f"{path}: is an input, too; expected another file for the mask")
    check_writable(path)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        reason = f"cannot be replaced ({error.strerror})"
        raise OutputError(f"{path}: {reason}; expected a writable folder") from error
