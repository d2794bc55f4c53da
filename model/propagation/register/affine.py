"""Rigid and affine registration with SimpleITK, from any start.

The overlap is searched first by correlation over all shifts (scans of other parts, other tables); the best
few shifts and the headers as they are then compete as starts of a multi-resolution optimisation. What wins
is judged by the correlation of HU inside the body, not by the optimiser's own metric.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ...case.geometry import FloatArray
from . import Registration, RegistrationImage
from .grids import AIR_HU, Level, pyramid
from .linear import LinearTransform
from .search import evidence, translations

log = logging.getLogger(__name__)

_SPACINGS_MM = (8.0, 5.0, 3.0)
# Enough for metrics of 12 parameters to be smooth; more costs time and changes points by < 0.1 mm.
_SAMPLES = 60_000
_SEED = 20_250_704
_STARTS_TO_POLISH = 2

# Breathing and posture stretch a trunk by a tenth; more is a failed fit.
_VOLUME_LIMITS = (0.75, 1.33)
_STRETCH_LIMITS = (0.8, 1.25)
# A slab thinner than this says nothing of stretching along its normal.
_MIN_AFFINE_EXTENT_MM = 60.0

_TOO_SMALL_MM = 30.0
_POOR_SIMILARITY = 0.5
_USELESS_SIMILARITY = 0.3
_SMALL_OVERLAP = 0.15


@dataclass(frozen=True, eq=False)
class _Fit:
    """A transform with how well it fits: correlation inside the body, share of the smaller body seen."""

    transform: LinearTransform
    similarity: float
    overlap: float

    @property
    def score(self) -> float:
        return float(evidence(self.similarity, self.overlap)) if np.isfinite(self.similarity) else -np.inf


class LinearBackend:
    """Multi-resolution rigid registration, then affine where asked for and where it helps."""

    def __init__(self, affine: bool = True) -> None:
        self._affine = affine

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        reason = _unusable(fixed, "follow-up") or _unusable(moving, "baseline")
        if reason:
            return _as_headers_say(reason)
        try:
            fit = self._fit(fixed, moving)
        except RuntimeError as error:  # what ITK raises when an image gives its optimiser nothing
            log.debug("registration failed: %s", error)
            return _as_headers_say("the registration of the two scans failed")
        return _judged(fit, fixed, moving)

    def _fit(self, fixed: RegistrationImage, moving: RegistrationImage) -> _Fit:
        """Compete at the coarse level, polish at the middle one, stretch down to the fine one."""
        levels = zip(pyramid(fixed, _SPACINGS_MM), pyramid(moving, _SPACINGS_MM), strict=True)
        coarse, middle, fine = levels
        starts = [_measured(middle, _optimised(coarse, start, False)) for start in translations(*coarse)]
        starts.sort(key=lambda fit: -fit.score)
        tried = starts + [
            _measured(middle, _optimised(middle, fit.transform, False)) for fit in starts[:_STARTS_TO_POLISH]
        ]
        best = max(tried, key=lambda fit: fit.score)
        if not self._affine:
            return _better(fine, best.transform, _optimised(fine, best.transform, False))
        stretched = _optimised(middle, best.transform, True)
        if not _is_plausible(stretched):
            return _better(fine, best.transform, _optimised(fine, best.transform, False))
        best = _better(middle, best.transform, stretched)
        finest = _optimised(fine, best.transform, True)
        return _better(fine, best.transform, finest if _is_plausible(finest) else best.transform)


def _optimised(levels: tuple[Level, Level], start: LinearTransform, affine: bool) -> LinearTransform:
    """The local optimum near the start, or the start itself where the optimiser finds nothing to go by."""
    fixed, moving = levels
    spacing = fixed.image.GetSpacing()[0]
    transform = _itk_transform(start, _body_centre_mm(fixed), affine)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    voxels = max(1.0, float(sitk.GetArrayViewFromImage(fixed.body).sum()))
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / voxels), _SEED)
    method.SetMetricFixedMask(fixed.body)
    method.SetMetricMovingMask(moving.seen)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(spacing / 2, spacing / 200, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed.image, moving.image)
    except RuntimeError as error:  # no overlap of the masks, or images without any contrast
        log.debug("start given up: %s", error)
        return start
    return _linear(transform)


def _itk_transform(
    start: LinearTransform, centre_mm: FloatArray, affine: bool
) -> sitk.Euler3DTransform | sitk.AffineTransform:
    transform = sitk.AffineTransform(3) if affine else sitk.Euler3DTransform()
    transform.SetCenter(centre_mm.tolist())
    transform.SetMatrix(start.matrix.ravel().tolist())
    transform.SetTranslation((start.offset_mm + (start.matrix - np.eye(3)) @ centre_mm).tolist())
    return transform


def _linear(transform: sitk.Euler3DTransform | sitk.AffineTransform) -> LinearTransform:
    matrix = np.asarray(transform.GetMatrix(), np.float64).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    return LinearTransform(matrix, np.asarray(transform.GetTranslation()) + centre - matrix @ centre)


def _body_centre_mm(level: Level) -> FloatArray:
    """Where rotations turn: the body's centre of gravity, else the image's middle."""
    places = np.argwhere(sitk.GetArrayViewFromImage(level.body) > 0)
    if len(places) == 0:
        places = np.subtract(level.image.GetSize()[::-1], 1)[None] / 2
    return np.asarray(level.image.TransformContinuousIndexToPhysicalPoint(places.mean(axis=0)[::-1].tolist()))


def _measured(levels: tuple[Level, Level], transform: LinearTransform) -> _Fit:
    """Correlation of HU over both bodies where both scans see; needs no optimiser, so it can judge one."""
    fixed, moving = levels
    itk = _itk_transform(transform, np.zeros(3), True)
    resample = sitk.Resample
    image = resample(moving.image, fixed.image, itk, sitk.sitkLinear, AIR_HU, sitk.sitkFloat32)
    seen, body = (
        sitk.GetArrayFromImage(resample(mask, fixed.image, itk, sitk.sitkNearestNeighbor, 0)) > 0
        for mask in (moving.seen, moving.body)
    )
    fixed_seen, fixed_body = (sitk.GetArrayViewFromImage(mask) > 0 for mask in (fixed.seen, fixed.body))
    smaller = min(int(sitk.GetArrayViewFromImage(level.body).sum()) for level in levels)
    # Either body, so that a body on the other's air counts against the alignment.
    common = (fixed_body | body) & fixed_seen & seen
    overlap = float((fixed_body & body).sum()) / max(1, smaller)
    pairs = np.stack([sitk.GetArrayViewFromImage(fixed.image)[common], sitk.GetArrayFromImage(image)[common]])
    if pairs.shape[1] < 50 or np.any(pairs.std(axis=1) < 1.0):
        return _Fit(transform, float("nan"), overlap)
    return _Fit(transform, float(np.corrcoef(pairs)[0, 1]), min(1.0, overlap))


def _better(levels: tuple[Level, Level], old: LinearTransform, new: LinearTransform) -> _Fit:
    """The new transform only where it fits better."""
    before, after = _measured(levels, old), _measured(levels, new)
    return after if after.score > before.score else before


def _is_plausible(transform: LinearTransform) -> bool:
    low, high = _VOLUME_LIMITS
    shortest, longest = _STRETCH_LIMITS
    stretches = transform.stretches
    return low <= transform.determinant <= high and stretches[-1] >= shortest and stretches[0] <= longest


def _extent_mm(scan: RegistrationImage) -> float:
    """The shortest side of the field of view."""
    sizes = zip(scan.geometry.size_xyz, scan.geometry.spacing_xyz, strict=True)
    return min(n * s for n, s in sizes)


def _unusable(scan: RegistrationImage, name: str) -> str | None:
    if _extent_mm(scan) < _TOO_SMALL_MM:
        return f"the {name} is too small to be registered ({_extent_mm(scan):.0f} mm on its shortest side)"
    return None


def _as_headers_say(reason: str) -> Registration:
    warning = f"{reason}; points are carried over by the scans' headers alone"
    return Registration(LinearTransform.identity(), float("nan"), False, (warning,))


def _judged(fit: _Fit, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
    return Registration(fit.transform, fit.similarity)
