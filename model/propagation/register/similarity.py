"""Similarity of two scans under a transform, and the checks of registrations that use it."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from ...case.geometry import FloatArray, Geometry
from ...errors import one_line
from . import Registration, RegistrationImage, Transform
from .field import FieldTransform, folding_share, voxel_centres_mm
from .grids import Level, pyramid
from .warp import normalise_locally

_SPACING_MM = 8.0
_MIN_VOXELS = 50
# Two dates of one patient gave 0.89 and more, scans of different patients or body parts 0.37 to 0.88: this
# detects gross failures only, and a wrong patient can pass.
POOR_SIMILARITY = 0.6
_FINE_MM = 4.0
_NEIGHBOURHOOD_MM = 12.0
# A larger share of folded voxels is no deformation of a body.
FOLDING_LIMIT = 0.001

log = logging.getLogger(__name__)


def given_registration(
    transform: Transform, fixed: RegistrationImage, moving: RegistrationImage, warnings: tuple[str, ...] = ()
) -> Registration:
    """Build the registration of a given (not estimated) transform; warns if the scans contradict it."""
    measured = similarity(transform, fixed, moving)
    if measured < POOR_SIMILARITY:
        doubt = (
            f"the two scans match poorly under the given transform (similarity {measured:.2f}); "
            "propagated points may be far off"
        )
        warnings = (*warnings, doubt)
    return Registration(transform, measured, not warnings, warnings)


def accept_if_better(
    start: Registration, deformed: FieldTransform | None, fixed: RegistrationImage, moving: RegistrationImage
) -> Registration:
    """Accept a deformation if it does not fold and increases the similarity.

    Args:
        start: the linear registration.
        deformed: the deformation with that start, None if the deformable step failed.
        fixed: the follow-up.
        moving: the baseline.

    Returns:
        The registration with the deformation; otherwise ``start``, with a warning if the deformable step
        failed or folds.
    """
    if deformed is None or folding_share(deformed) > FOLDING_LIMIT:
        reason = "failed" if deformed is None else "found nothing plausible"
        warning = f"the deformable registration {reason}; points are propagated by the affine one alone"
        return replace(start, is_reliable=False, warnings=(*start.warnings, warning))
    levels = [pyramid(scan, (_FINE_MM,))[0] for scan in (fixed, moving)]
    before, after = (level_similarity(each, levels[0], levels[1]) for each in (start.transform, deformed))
    if not after > before:
        log.info("the deformation does not make the scans more similar than the affine registration")
        return start
    return replace(start, transform=deformed, similarity=after)


def similarity(transform: Transform, fixed: RegistrationImage, moving: RegistrationImage) -> float:
    """Correlation of HU inside either body where both scans cover it, -1 to 1; NaN if there is too little."""
    try:
        levels = [pyramid(scan, (_SPACING_MM,))[0] for scan in (fixed, moving)]
    except RuntimeError as error:  # images of a few voxels, on which ITK's filters fail
        log.debug("similarity cannot be measured: %s", one_line(error))
        return float("nan")
    return level_similarity(transform, levels[0], levels[1])


def level_similarity(transform: Transform, fixed: Level, moving: Level) -> float:
    """As `similarity`, for existing levels."""
    voxels = moving_voxels(transform, fixed, moving)
    fixed_seen, fixed_body = (sitk.GetArrayViewFromImage(m).ravel() > 0 for m in (fixed.seen, fixed.body))
    seen, body = (_at(mask, voxels, 0) > 0 for mask in (moving.seen, moving.body))
    common = (fixed_body | body) & fixed_seen & seen
    hu = _at(moving.image, voxels[:, common], 1)
    return correlation(sitk.GetArrayViewFromImage(fixed.image).ravel()[common], hu)


def level_local_similarity(transform: Transform, fixed: Level, moving: Level) -> float:
    """Correlation of the locally normalised scans inside both bodies, -1 to 1; NaN if there is too little.

    Other than `level_similarity` it compares organs and bones rather than outlines and lungs, which resemble
    each other in wrong alignments too.
    """
    spacing_mm = fixed.image.GetSpacing()[0]
    voxels = moving_voxels(transform, fixed, moving)
    shape = sitk.GetArrayViewFromImage(fixed.image).shape
    fixed_seen, fixed_body = (sitk.GetArrayFromImage(mask) > 0 for mask in (fixed.seen, fixed.body))
    seen, body = (_at(mask, voxels, 0).reshape(shape) > 0 for mask in (moving.seen, moving.body))
    hu = _at(moving.image, voxels, 1).reshape(shape).astype(np.float32)
    sigma = _NEIGHBOURHOOD_MM / spacing_mm
    one = normalise_locally(sitk.GetArrayFromImage(fixed.image), fixed_seen, sigma)
    other = normalise_locally(hu, seen, sigma)
    common = fixed_body & body & fixed_seen & seen
    # A contrast of 1 counts as none for HU, of which these are multiples of the local spread.
    return correlation(100.0 * one[common].astype(np.float64), 100.0 * other[common].astype(np.float64))


def moving_voxels(transform: Transform, fixed: Level, moving: Level) -> FloatArray:
    """Map the voxels of the fixed level to the moving one.

    Returns:
        Voxel indices z, y, x in the moving level, (3, number of fixed voxels).
    """
    points_mm = transform.fixed_to_moving(voxel_centres_mm(image_geometry(fixed.image)))
    return np.ascontiguousarray(image_geometry(moving.image).world_to_voxel(points_mm)[:, ::-1].T)


def image_geometry(image: sitk.Image) -> Geometry:
    """Grid of a SimpleITK image."""
    return Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _at(image: sitk.Image, voxels: FloatArray, order: int) -> FloatArray:
    """Values at voxel indices (3, N), 0 outside."""
    view = sitk.GetArrayViewFromImage(image)
    values: FloatArray = map_coordinates(view, voxels, np.float64, order=order, mode="constant")
    return values


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Pearson correlation of two samples of HU.

    Args:
        first: (N,) HU.
        second: (N,) HU at the same positions of the other scan.

    Returns:
        -1 to 1; NaN if there are too few voxels or no contrast.
    """
    if len(first) < _MIN_VOXELS:
        return float("nan")
    one, other = (values - values.mean(dtype=np.float64) for values in (first, second))
    spread = float(one.std() * other.std())
    return float(np.mean(one * other)) / spread if spread >= 1.0 else float("nan")
