"""The command ``interactive``: all tumour of one PET/CT, from its images and clicks."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import ExitCode, InputError, OutputError
from ..inference.options import ModelOptions
from .arguments import add_model_options

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
    parser.set_defaults(folds=None)


def run(arguments: argparse.Namespace) -> int:
    """Segment the PET/CT of a parsed command line; returns the exit code.

    Raises:
        LongilesionError: see `errors`; no mask is left then, not even an earlier one.
    """
    _prepare_output(arguments.output, (arguments.ct, arguments.pet))
    from ..case.pet_ct_scan import read_pet_ct

    scan = read_pet_ct(arguments.ct, arguments.pet, arguments.clicks, arguments.click_units)
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
    model = load_pet_ct_model(arguments.weights, options, arguments.folds)
    result = segment_pet_ct(model, scan.ct, scan.pet, scan.geometry, scan.clicks)
    scan.write_mask(arguments.output, result.mask)
    volume_ml = int(result.mask.sum()) * scan.geometry.voxel_volume_ml
    log.info("%s: tumour of %.2f ml, from %d clicks", arguments.output, volume_ml, len(result.clicks))
    return ExitCode.SUCCESS


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
