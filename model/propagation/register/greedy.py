"""Greedy ([Yushkevich2016]) as a back end, if its package `picsl-greedy` is installed: fast on the CPU.

1. `affine`.
2. Greedy on the overlap of the scans: a diffeomorphic deformation by local correlation of locally normalised
   images, with masks of what was measured.
3. Near the ends of the overlap the field is extrapolated from inside (`border`).
4. `refine`: as in `deformable`.

Greedy runs in a process of its own: it holds Python's lock for as long as it computes, and ends the process
on images that it does not expect.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import InputError, one_line
from . import Registration, RegistrationImage
from .affine import LinearBackend
from .border import extrapolate_border
from .convex import torch_device
from .deformable import unfolded, working_grid
from .field import FieldTransform, FloatField
from .grids import to_image
from .linear import LinearTransform
from .refine import Refiner
from .similarity import accept_if_better
from .warp import PairOnGrid, SmoothedScan, normalise_locally

log = logging.getLogger(__name__)

_PACKAGE = "picsl_greedy"
_VOXELS = 1_500_000
# With plain HU, Greedy aligns the noise of uniform tissue.
_NEIGHBOURHOOD_MM = 5.0
# Local correlation in cubes of 7 voxels; iterations at a quarter, half and all of the resolution; smoothing
# of each update and of the sum. The seed is that of the noise Greedy adds; displacements are not rounded.
_OPTIONS = "-d 3 -m NCC 3x3x3 -n 100x60x20 -s 3.5vox 1.25vox -seed 1 -wp 0 -V 0"
_FILES = "-i fixed.mha moving.mha -gm fixed-seen.mha -mm moving-seen.mha -o field.mha"
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); import picsl_greedy; "
    "picsl_greedy.Greedy3D().execute(sys.argv[2])"
)
# Half a minute is usual.
_SECONDS = 900.0


class GreedyBackend:
    """Affine, then Greedy's deformation if it is better, with refinement near points.

    Args:
        device: device of the refinement: auto, cpu, cuda or cuda:N.

    Raises:
        InputError: the package is not installed, or the GPU does not exist.
    """

    def __init__(self, device: str = "auto") -> None:
        self._folder = _package_folder()
        self._device = torch_device(device)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        start = LinearBackend(affine=True).register(fixed, moving)
        if not isinstance(start.transform, LinearTransform) or not np.isfinite(start.similarity):
            return start
        grid = working_grid(fixed, moving, start.transform, _VOXELS)
        if grid is None:
            log.info("the scans overlap too little to be deformed; the affine registration is kept")
            return start
        spacing_mm = grid.spacing_xyz[0]
        try:
            smooth_fixed, smooth_moving = (SmoothedScan.of(scan, spacing_mm) for scan in (fixed, moving))
            pair = PairOnGrid.of(grid, smooth_fixed, smooth_moving, start.transform)
            field = extrapolate_border(_displacements(pair, self._folder), pair)
            deformed = unfolded(FieldTransform(start.transform, field, grid))
        except (RuntimeError, ValueError, MemoryError, OSError) as error:  # any failure of Greedy
            log.warning("Greedy failed: %s", one_line(error))
            return accept_if_better(start, None, fixed, moving)
        registration = accept_if_better(start, deformed, fixed, moving)
        if registration.transform is not deformed:
            return registration
        refiner = Refiner(fixed, moving, deformed, spacing_mm, self._device)
        return replace(registration, refine=refiner.near)


def _package_folder() -> Path:
    """Folder from which the package is imported; checked before any scan is read."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            "greedy: the package is not installed; expected it (pip install picsl-greedy), "
            "or another registration back end"
        )
    return Path(found.origin).parent


def _displacements(pair: PairOnGrid, package: Path) -> FloatField:
    """Greedy's displacements (z, y, x, 3) in mm, last axis x, y, z, with fixed(p) ~ moving(p + u)."""
    grid, spacing_mm = pair.grid, pair.grid.spacing_xyz[0]
    log.info("Greedy at %.1f mm, %.1f million voxels", spacing_mm, pair.fixed.size / 1e6)
    with tempfile.TemporaryDirectory(prefix="longilesion-") as name:
        folder = Path(name)
        for role, hu, seen in (
            ("fixed", pair.fixed, pair.fixed_seen),
            ("moving", pair.moving, pair.moving_seen),
        ):
            normalised = normalise_locally(hu, seen, _NEIGHBOURHOOD_MM / spacing_mm)
            sitk.WriteImage(to_image(normalised, grid), str(folder / f"{role}.mha"))
            sitk.WriteImage(to_image(seen, grid), str(folder / f"{role}-seen.mha"))
        _run(folder, package)
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "field.mha"))), np.float32)


def _run(folder: Path, package: Path) -> None:
    """Run Greedy on the files of a folder.

    Raises:
        RuntimeError: it crashed, reported an error, or did not come to an end.
    """
    command = [sys.executable, "-I", "-c", _PROGRAM, str(package), f"{_OPTIONS} {_FILES}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it did not come to an end within {_SECONDS:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(said[-1] if said else f"its process ended with {done.returncode}")
