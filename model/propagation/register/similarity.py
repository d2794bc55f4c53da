"""How alike two scans are under any transform, for back ends that were given theirs."""

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

_SPACING_MM = 8.0
_MIN_VOXELS = 50
# Two dates of one patient gave 0.89 and more, scans of other patients or parts 0.37 to 0.88. So this finds
# gross failures only; a wrong patient can pass.
POOR_SIMILARITY = 0.6
_FINE_MM = 4.0
# More of the grid than this inside out is no deformation of a body.
FOLDING_LIMIT = 0.001

log = logging.getLogger(__name__)


def given_registration(
    transform: Transform, fixed: RegistrationImage, moving: RegistrationImage, warnings: tuple[str, ...] = ()
) -> Registration:
    """A transform that is not searched for but known, with a word of warning where the scans deny it."""
    found = similarity(transform, fixed, moving)
    if found < POOR_SIMILARITY:
        doubt = (
            f"the two scans match poorly under the given transform (similarity {found:.2f}); "
            "propagated points may be far off"
        )
        warnings = (*warnings, doubt)
    return Registration(transform, found, not warnings, warnings)


def accept_if_better(
    start: Registration, found: FieldTransform | None, fixed: RegistrationImage, moving: RegistrationImage
) -> Registration:
    """The deformation where it does not fold and makes the scans more alike, else the start.

    ``start`` is the linear registration before it. Where the deformable step failed (None), or what it
    found is no deformation of a body, the answer is the start with a word of warning.
    """
    if found is None or folding_share(found) > FOLDING_LIMIT:
        reason = "failed" if found is None else "found nothing plausible"
        warning = f"the deformable registration {reason}; points are carried over by the affine one alone"
        return replace(start, is_reliable=False, warnings=(*start.warnings, warning))
    levels = [pyramid(scan, (_FINE_MM,))[0] for scan in (fixed, moving)]
    before, after = (level_similarity(each, levels[0], levels[1]) for each in (start.transform, found))
    if not after > before:
        log.info("the deformation makes the scans no more alike than the affine registration")
        return start
    return replace(start, transform=found, similarity=after)


def similarity(transform: Transform, fixed: RegistrationImage, moving: RegistrationImage) -> float:
    """Correlation of HU inside either body where both scans see it, -1 to 1; NaN if there is too little."""
    try:
        levels = [pyramid(scan, (_SPACING_MM,))[0] for scan in (fixed, moving)]
    except RuntimeError as error:  # images of a few voxels, for which ITK's filters are no use
        log.debug("similarity cannot be measured: %s", one_line(error))
        return float("nan")
    return level_similarity(transform, levels[0], levels[1])


def level_similarity(transform: Transform, fixed: Level, moving: Level) -> float:
    """As `similarity`, of copies that are made already."""
    places = moving_voxels(transform, fixed, moving)
    fixed_seen, fixed_body = (sitk.GetArrayViewFromImage(m).ravel() > 0 for m in (fixed.seen, fixed.body))
    seen, body = (_at(mask, places, 0) > 0 for mask in (moving.seen, moving.body))
    common = (fixed_body | body) & fixed_seen & seen
    hu = _at(moving.image, places[:, common], 1)
    return correlation(sitk.GetArrayViewFromImage(fixed.image).ravel()[common], hu)


def moving_voxels(transform: Transform, fixed: Level, moving: Level) -> FloatArray:
    """Where each fixed voxel lies in the moving image, voxel indices (3, z * y * x)."""
    places_mm = transform.fixed_to_moving(voxel_centres_mm(image_geometry(fixed.image)))
    return np.ascontiguousarray(image_geometry(moving.image).world_to_voxel(places_mm)[:, ::-1].T)


def image_geometry(image: sitk.Image) -> Geometry:
    return Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _at(image: sitk.Image, places: FloatArray, order: int) -> FloatArray:
    """Values at voxel indices, 0 outside."""
    return map_coordinates(
        sitk.GetArrayViewFromImage(image), places, np.float64, order=order, mode="constant"
    )


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Pearson's r of two lists of HU; NaN of too few, or of an image without contrast."""
    if len(first) < _MIN_VOXELS:
        return float("nan")
    one, other = (values - values.mean(dtype=np.float64) for values in (first, second))
    spread = float(one.std() * other.std())
    return float(np.mean(one * other)) / spread if spread >= 1.0 else float("nan")
