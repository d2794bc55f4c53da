"""UniGradICON ([Tian2024]) as a back end, if its package and weights are installed.

Neither is part of this project, and nothing is downloaded. The scans are aligned by the affine registration
first; the network gets the box that both cover.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ...case.geometry import FloatArray, Geometry
from ...errors import InputError, one_line
from . import Registration, RegistrationImage
from .affine import LinearBackend
from .field import FieldTransform, coarser_grid, sample_on_grid
from .grids import AIR_HU, FloatVolume, to_image
from .linear import LinearTransform
from .similarity import accept_if_better

log = logging.getLogger(__name__)

DEFAULT_WEIGHTS = Path("network_weights/unigradicon1.0/Step_2_final.trch")
"""Path of the package's own weights, relative to the current directory."""

_PACKAGE = "unigradicon"
# The network's input: HU clipped to these limits, then scaled to 0 ... 1.
_LOW_HU, _HIGH_HU = -1000.0, 1000.0
_MIN_SIDE_MM = 30.0
_FIELD_MM = 4.0


class UniGradIconBackend:
    """Affine, then the network's deformation if it is better; the network is loaded on first use."""

    def __init__(self, weights: Path | None = None, device: str = "auto") -> None:
        self._weights, self._device = weights or DEFAULT_WEIGHTS, device
        self._network: Any = None
        _check(self._weights)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        start = LinearBackend(affine=True).register(fixed, moving)
        if not isinstance(start.transform, LinearTransform) or not np.isfinite(start.similarity):
            return start
        box = _common_box(fixed.geometry, moving.geometry, start.transform)
        if box is None:
            return start
        if self._network is None:
            self._network = _loaded(self._weights, self._device)
        try:
            deformed = _deformed(self._network, start.transform, fixed, moving, box)
        except (RuntimeError, ValueError) as error:  # mostly out of memory
            log.warning("uniGradICON failed: %s", one_line(error))
            return accept_if_better(start, None, fixed, moving)
        return accept_if_better(start, deformed, fixed, moving)


def _check(weights: Path) -> None:
    """Check for package and weights before any scan is read; the package would download missing weights."""
    if _PACKAGE not in sys.modules and importlib.util.find_spec(_PACKAGE) is None:
        raise InputError(
            "unigradicon: the package is not installed; expected it (pip install unigradicon), "
            "or another registration back end"
        )
    if not weights.is_file():
        raise InputError(
            f"{weights}: the weights of uniGradICON are not there; expected its file Step_2_final.trch, "
            "as in unigradicon:FILE"
        )


def _loaded(weights: Path, device: str) -> Any:
    """Load the package's network onto the device."""
    import torch

    try:
        package: Any = importlib.import_module(_PACKAGE)
        config: Any = importlib.import_module("icon_registration.config")
    except Exception as error:  # the package and its many dependencies may raise anything
        raise InputError(
            f"unigradicon: the package cannot be imported ({one_line(error)}); expected it whole"
        ) from error
    has_cuda = torch.cuda.is_available()
    # The package reads the device from here, also during computation.
    config.device = torch.device("cuda" if device == "auto" and has_cuda else device.replace("auto", "cpu"))
    try:
        network = package.get_unigradicon(weights_location=str(weights))
    except Exception as error:  # another version's signature, or a file that does not hold its weights
        raise InputError(
            f"{weights}: uniGradICON cannot be loaded ({one_line(error)}); expected its file "
            "Step_2_final.trch, and a version of the package that takes weights_location"
        ) from error
    return network.to(config.device).eval()


def _common_box(
    fixed: Geometry, moving: Geometry, linear: LinearTransform
) -> tuple[FloatArray, FloatArray] | None:
    """Box along the world axes that both scans cover, in the fixed world: low and high corner, LPS mm."""
    ends = [_corners_mm(fixed), linear.moving_to_fixed(_corners_mm(moving))]
    low = np.max([corners.min(axis=0) for corners in ends], axis=0)
    high = np.min([corners.max(axis=0) for corners in ends], axis=0)
    return (low, high) if np.all(high - low >= _MIN_SIDE_MM) else None


def _corners_mm(geometry: Geometry) -> FloatArray:
    return geometry.voxel_to_world(np.asarray(list(np.ndindex(2, 2, 2))) * geometry.size_xyz - 0.5)


def _deformed(
    network: Any,
    linear: LinearTransform,
    fixed: RegistrationImage,
    moving: RegistrationImage,
    box: tuple[FloatArray, FloatArray],
) -> FieldTransform:
    """The linear transform with the network's u in mm: fixed(p) ~ moving(linear(p + u))."""
    import torch

    identity = network.identity_map
    grid = _grid(box, tuple(identity.shape[2:]))
    tensors = [
        torch.from_numpy(_resampled(grid, scan, transform))[None, None].to(identity.device)
        for scan, transform in ((moving, linear), (fixed, LinearTransform.identity()))
    ]
    with torch.no_grad():
        network(*tensors)
        # Its maps go from the second image to the first; each axis runs from 0 to 1 between voxel centres.
        shift = (network.phi_AB_vectorfield - identity)[0].float().cpu().numpy()
    sides_mm = np.subtract(grid.size_xyz, 1) * grid.spacing_xyz
    u = np.ascontiguousarray(np.moveaxis(shift[::-1], 0, -1) * sides_mm, np.float32)
    if not np.isfinite(u).all():
        raise ValueError("the network's displacements are not all finite")
    fine = FieldTransform(LinearTransform.identity(), u, grid)
    coarse = sample_on_grid(fine, coarser_grid(grid, _FIELD_MM), LinearTransform.identity())
    return FieldTransform(linear, coarse.displacement_mm, coarse.geometry)


def _grid(box: tuple[FloatArray, FloatArray], shape_zyx: tuple[int, ...]) -> Geometry:
    """The network's voxel grid over a box."""
    nz, ny, nx = shape_zyx
    low, high = box
    sx, sy, sz = (float(side) for side in (high - low) / (nx, ny, nz))
    x, y, z = (float(value) for value in low + np.asarray([sx, sy, sz]) / 2)
    return Geometry((nx, ny, nz), (sx, sy, sz), (x, y, z))


def _resampled(grid: Geometry, scan: RegistrationImage, linear: LinearTransform) -> FloatVolume:
    """A scan on the network's grid, (z, y, x) float32, 0 ... 1."""
    hu = np.nan_to_num(np.asarray(scan.array, np.float32), nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)
    itk = sitk.AffineTransform(linear.matrix.ravel().tolist(), linear.offset_mm.tolist())
    target = to_image(np.empty(grid.shape_zyx, np.uint8), grid)
    source = to_image(np.clip(hu, _LOW_HU, _HIGH_HU), scan.geometry)
    values = sitk.Resample(source, target, itk, sitk.sitkLinear, _LOW_HU, sitk.sitkFloat32)
    return np.asarray((sitk.GetArrayFromImage(values) - _LOW_HU) / (_HIGH_HU - _LOW_HU), np.float32)
