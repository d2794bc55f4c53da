"""Deformable registration, the default: affine, ConvexAdam and demons, then refinement near points.

1. `affine`.
2. ConvexAdam ([Siebert2024]) on the overlap of the scans: a discrete search of displacements with convex
   optimisation on MIND features, then Adam.
3. ITK's demons, as those features are two voxels wide.
4. Near the ends of the overlap the field is extrapolated from inside (`border`), after steps 2 and 3.
5. `refine`: boxes at finer spacing near the points that are propagated.

The figures by which parts and parameters were chosen are in ``docs/propagation.md``.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from ...case.geometry import FloatArray, Geometry
from ...errors import one_line
from ...progress import report_progress
from . import Registration, RegistrationImage
from .affine import LinearBackend
from .border import extrapolate_border
from .convex import Search, convex_adam, torch_device
from .field import FieldTransform, FloatField, folding_share
from .grids import body_box_mm, to_image
from .linear import LinearTransform
from .refine import Refiner
from .similarity import FOLDING_LIMIT, accept_if_better
from .warp import PairOnGrid, SmoothedScan, normalise_locally

log = logging.getLogger(__name__)

# The working spacing fits the overlap into this many voxels, so that each pair takes about the same time.
_VOXELS = 2_500_000
_LEVELS = 4  # that are reported: affine, convex and Adam, demons, checked
_FINEST_MM = 1.5
# The grid's sides are multiples of this, as the search pools voxels in steps.
_MULTIPLE = 12
_MIN_SIDE = 24
# The ends of the overlap are only known from the affine registration, and the search must reach beyond them.
_MARGIN_MM = 15.0
_SEARCH = Search(step=6, reach=4)

_DEMONS_ITERATIONS = 50
_DEMONS_SMOOTHING_MM = 3.0
_NEIGHBOURHOOD_MM = 5.0
# A field that folds is smoothed with the first of these widths that is enough.
_UNFOLDING_MM = (4.0, 8.0, 16.0)


class DeformableBackend:
    """Affine, ConvexAdam and demons, with refinement near points.

    Args:
        device: device of the search: auto, cpu, cuda or cuda:N.
        refine: offer `Registration.refine`.
        voxels: of the grid of displacements; fewer than the default `_VOXELS` take less time.

    Raises:
        InputError: the GPU does not exist.
    """

    def __init__(self, device: str = "auto", refine: bool = True, voxels: int | None = None) -> None:
        self._device = torch_device(device)
        self._refine = refine
        self._voxels = _VOXELS if voxels is None else voxels

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        start = LinearBackend(affine=True).register(fixed, moving)
        report_progress("registration", 1, _LEVELS)
        if not isinstance(start.transform, LinearTransform) or not np.isfinite(start.similarity):
            return start
        try:
            grid = working_grid(fixed, moving, start.transform, self._voxels)
            if grid is None:
                log.info("the scans overlap too little to be deformed; the affine registration is kept")
                return start
            deformed = unfolded(_deformed(fixed, moving, start.transform, grid, self._device))
            report_progress("registration", 3, _LEVELS)
            registration = accept_if_better(start, deformed, fixed, moving)
        except (RuntimeError, MemoryError) as error:  # any failure of torch or ITK with these images
            log.warning("deformable registration failed: %s", one_line(error))
            return accept_if_better(start, None, fixed, moving)
        if not self._refine or registration.transform is not deformed:
            return registration
        refiner = Refiner(fixed, moving, deformed, grid.spacing_xyz[0], self._device)
        return replace(registration, refine=refiner.near)


def working_grid(
    fixed: RegistrationImage, moving: RegistrationImage, linear: LinearTransform, voxels: int
) -> Geometry | None:
    """Isotropic grid along the world axes over the part of the follow-up's body that both scans cover."""
    low, high = body_box_mm(fixed)
    corners_voxel = np.array(list(np.ndindex(2, 2, 2))) * moving.geometry.size_xyz - 0.5
    seen = linear.moving_to_fixed(moving.geometry.voxel_to_world(corners_voxel))
    low, high = np.maximum(low, seen.min(axis=0)), np.minimum(high, seen.max(axis=0))
    sides_mm = high - low
    if not (sides_mm > 0).all():
        return None
    wide_mm = sides_mm + 2 * _MARGIN_MM
    spacing_mm = max(_FINEST_MM, float(np.prod(wide_mm) / voxels) ** (1 / 3))
    if (sides_mm / spacing_mm < _MIN_SIDE).any():
        return None
    return _grid_over((low + high) / 2, wide_mm, spacing_mm)


def _grid_over(centre_mm: FloatArray, sides_mm: FloatArray, spacing_mm: float) -> Geometry:
    nx, ny, nz = (int(np.ceil(side / spacing_mm / _MULTIPLE)) * _MULTIPLE for side in sides_mm)
    ox, oy, oz = (float(v) for v in centre_mm - (np.array((nx, ny, nz)) - 1) / 2 * spacing_mm)
    return Geometry((nx, ny, nz), (spacing_mm, spacing_mm, spacing_mm), (ox, oy, oz))


def _deformed(
    fixed: RegistrationImage, moving: RegistrationImage, linear: LinearTransform, grid: Geometry, device: str
) -> FieldTransform:
    spacing_mm = grid.spacing_xyz[0]
    pair = PairOnGrid.of(
        grid, SmoothedScan.of(fixed, spacing_mm), SmoothedScan.of(moving, spacing_mm), linear
    )
    log.info("deformable registration at %.1f mm, %.1f million voxels", spacing_mm, pair.fixed.size / 1e6)
    field = extrapolate_border(convex_adam(pair.fixed, pair.moving, spacing_mm, _SEARCH, device), pair)
    report_progress("registration", 2, _LEVELS)
    return FieldTransform(linear, extrapolate_border(_demons(pair, field), pair), grid)


def unfolded(transform: FieldTransform) -> FieldTransform:
    """Smooth the displacements as far as needed for a mapping without folds, which e.g. metal causes.

    Args:
        transform: any field.

    Returns:
        The field itself if it hardly folds, or the least smooth one that does not, if there is one.
    """
    result = transform
    for width_mm in _UNFOLDING_MM:
        if folding_share(result) <= FOLDING_LIMIT:
            break
        log.info("the deformation folds; smoothing it within %.0f mm", width_mm)
        sigma = width_mm / transform.geometry.spacing_xyz[0]
        smooth = gaussian_filter(transform.displacement_mm, (sigma, sigma, sigma, 0), mode="nearest")
        result = replace(transform, displacement_mm=smooth)
    return result


def _demons(pair: PairOnGrid, field: FloatField) -> FloatField:
    """Demons, starting from a field, on locally normalised images.

    The density of the lung changes with breathing; with plain HU that would distort its vessels.
    """
    spacing_mm = pair.grid.spacing_xyz[0]
    sigma = _NEIGHBOURHOOD_MM / spacing_mm
    fixed, moving = (
        to_image(normalise_locally(hu, seen, sigma), pair.grid)
        for hu, seen in ((pair.fixed, pair.fixed_seen), (pair.moving, pair.moving_seen))
    )
    start = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    start.CopyInformation(fixed)
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(_DEMONS_ITERATIONS)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(_DEMONS_SMOOTHING_MM / spacing_mm)
    polished = demons.Execute(fixed, moving, start)
    return np.asarray(sitk.GetArrayFromImage(polished), np.float32)
