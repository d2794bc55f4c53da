"""Rigid and affine registration with SimpleITK, from any start.

The overlap is found first by correlation over all shifts (other fields of view, other couch positions); the
best few shifts and the alignment by the headers then compete as starts of a multi-resolution optimisation.
The winner is chosen by the correlation of HU inside the body, not by the optimiser's own metric. Its local
similarity and the overlap of the bodies decide if it is an alignment at all; otherwise half turns of the
patient are tried.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ...case.geometry import FloatArray
from ...errors import one_line
from . import Registration, RegistrationImage
from .grids import AIR_HU, Level, Mask, pyramid
from .linear import LinearTransform
from .search import alignment_evidence, candidate_translations, turned_starts
from .similarity import POOR_SIMILARITY, correlation, level_local_similarity

_Pair = tuple[Level, Level]
"""The follow-up (fixed) and the baseline (moving) at one resolution."""

log = logging.getLogger(__name__)

# The first is used only for the search over all shifts, which takes the most memory.
_SPACINGS_MM = (10.0, 8.0, 5.0, 3.0)
# Bounds the time per step; known transforms are recovered within a few tenths of a mm.
_SAMPLES, _COARSE_SAMPLES = 60_000, 15_000
_SEED = 20_250_704
_ITERATIONS = 200
# First steps as a share of a level's spacing. Larger ones throw the affine matrix out of its basin.
_COARSE_STEP, _STEP = 0.5, 0.125
_STARTS_TO_POLISH = 2
_TURNS_TO_TRY = 2

# Breathing and posture stretch a trunk by a tenth or so; more is a failed fit.
_VOLUME_LIMITS = (0.75, 1.33)
_STRETCH_LIMITS = (0.8, 1.25)
# A slab thinner than this does not determine the stretch along its normal.
_MIN_AFFINE_EXTENT_MM = 60.0

_TOO_SMALL_MM = 30.0
# Local similarity at 8 mm: 0.8 and more in true alignments of one patient, also of a tenth of the body, with
# noise or with metal; 0.2 and less in wrong ones and between patients.
_USELESS_LOCAL_SIMILARITY = 0.3
_POOR_LOCAL_SIMILARITY = 0.45
# Scans without anything in common are drawn to each other until slivers of this size overlap.
_CHANCE_OVERLAP, _CHANCE_EXTENT_MM = 0.08, 20.0
# A small overlap is matched well by chance more easily: 0.4 to 0.77 were seen.
_SMALL_OVERLAP, _SMALL_OVERLAP_LOCAL_SIMILARITY = 0.15, 0.78
_MIN_VOXELS = 50


@dataclass(frozen=True, eq=False)
class _Fit:
    """A transform with the quality of its fit.

    Attributes:
        similarity: correlation of HU inside the bodies; NaN if nothing can be compared.
        overlap: share of the smaller body that lies in the other body.
        extent_mm: shortest side of the part of the bodies that both scans cover.
        local_similarity: see `level_local_similarity`; NaN if it was not measured.
    """

    transform: LinearTransform
    similarity: float
    overlap: float
    extent_mm: float
    local_similarity: float = float("nan")

    @property
    def score(self) -> float:
        is_sliver = self.overlap < _CHANCE_OVERLAP or self.extent_mm < _CHANCE_EXTENT_MM
        if is_sliver or not np.isfinite(self.similarity):
            return -np.inf
        return float(alignment_evidence(self.similarity, self.overlap))

    @property
    def is_poor(self) -> bool:
        """The fit may be a wrong one."""
        return not (self.score > -np.inf and self.local_similarity >= _POOR_LOCAL_SIMILARITY)

    @property
    def is_useless(self) -> bool:
        """The fit is a match by chance."""
        is_small = self.overlap < _SMALL_OVERLAP
        least = _SMALL_OVERLAP_LOCAL_SIMILARITY if is_small else _USELESS_LOCAL_SIMILARITY
        return not (self.score > -np.inf and self.local_similarity >= least)


class LinearBackend:
    """Multi-resolution rigid registration, followed by an affine one if requested and if it is better."""

    def __init__(self, affine: bool = True) -> None:
        self._affine = affine

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        reason = _too_small(fixed, "follow-up") or _too_small(moving, "baseline")
        if reason:
            return _by_headers(reason)
        try:
            levels = zip(pyramid(fixed, _SPACINGS_MM), pyramid(moving, _SPACINGS_MM), strict=True)
            search, *others = levels
            starts, is_turned = candidate_translations(*search), False
            fit = self._fit(starts, *others)
            if fit.is_poor and (turns := _better_turns(search, starts)):
                turned = self._fit(turns, *others)
                if not turned.is_poor:
                    fit, is_turned = turned, True
            if fit.is_useless or (fit.is_poor and _are_apart(others[0])):
                return _by_headers("the two scans could not be aligned", fit.similarity)
            return _with_warnings(fit, is_turned)
        except RuntimeError as error:  # any failure of ITK with these images
            log.warning("registration failed: %s", one_line(error))
            return _by_headers("the registration of the two scans failed")

    def _fit(self, starts: list[LinearTransform], coarse: _Pair, middle: _Pair, fine: _Pair) -> _Fit:
        """Compare starts at the coarse level, refine the best at the middle one, then at the fine one."""
        usable = [start for start in starts if np.isfinite(_measured(coarse, start).similarity)]
        rough = [_optimised(coarse, start, False, _COARSE_STEP, _COARSE_SAMPLES) for start in usable]
        rough = rough or [LinearTransform.identity()]
        ranked = sorted((_measured(middle, start) for start in rough), key=lambda fit: -fit.score)
        polished = [_optimised(middle, fit.transform, False) for fit in ranked[:_STARTS_TO_POLISH]]
        best = max([*(_measured(middle, fit) for fit in polished), ranked[0]], key=lambda fit: fit.score)
        may_stretch = self._affine and best.extent_mm >= _MIN_AFFINE_EXTENT_MM
        if may_stretch:
            best = _better(middle, best.transform, _optimised(middle, best.transform, True))
        best = _better(fine, best.transform, _optimised(fine, best.transform, may_stretch))
        return replace(best, local_similarity=level_local_similarity(best.transform, *coarse))


def _better_turns(levels: _Pair, starts: list[LinearTransform]) -> list[LinearTransform]:
    """The best starts with half a turn that fit better than all starts without."""
    upright = max(_measured(levels, start).score for start in starts)
    scored = [(_measured(levels, start).score, start) for start in turned_starts(*levels)]
    better = sorted((entry for entry in scored if entry[0] > upright), key=lambda entry: -entry[0])
    return [start for _, start in better[:_TURNS_TO_TRY]]


def _optimised(
    levels: _Pair, start: LinearTransform, affine: bool, step: float = _STEP, samples: int = _SAMPLES
) -> LinearTransform:
    """The local optimum near the start, or the start itself if the optimiser fails.

    ``step`` is the first step in voxels of the level, ``samples`` the number of voxels to compare.
    """
    fixed, moving = levels
    method = _method(fixed, moving, samples)
    spacing_mm = fixed.image.GetSpacing()[0]
    method.SetOptimizerAsRegularStepGradientDescent(step * spacing_mm, spacing_mm / 200, _ITERATIONS)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = _itk_transform(start, _body_centre_mm(fixed), affine)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed.image, moving.image)
    except RuntimeError as error:  # nothing in common, or images without any contrast
        log.debug("start skipped: %s", one_line(error))
        return start
    optimum = _linear(transform)
    return optimum if np.isfinite(optimum.matrix).all() and np.isfinite(optimum.offset_mm).all() else start


def _method(fixed: Level, moving: Level, samples: int) -> sitk.ImageRegistrationMethod:
    """Registration method with the metric: correlation (both scans are CT) inside the follow-up's body."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(fixed.body)
    method.SetMetricMovingMask(moving.seen)
    method.SetInterpolator(sitk.sitkLinear)
    # Gradients at the samples only: those of whole images would be the largest arrays.
    method.MetricUseFixedImageGradientFilterOff()
    method.MetricUseMovingImageGradientFilterOff()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, samples / max(1, _count(fixed.body))), _SEED)
    return method


def _itk_transform(
    start: LinearTransform, centre_mm: FloatArray, affine: bool
) -> sitk.Euler3DTransform | sitk.AffineTransform:
    """The start as an ITK transform that rotates and stretches around the centre."""
    transform = sitk.AffineTransform(3) if affine else sitk.Euler3DTransform()
    transform.SetCenter(centre_mm.tolist())
    transform.SetMatrix(start.matrix.ravel().tolist())
    transform.SetTranslation((start.offset_mm + (start.matrix - np.eye(3)) @ centre_mm).tolist())
    return transform


def _linear(transform: sitk.Euler3DTransform | sitk.AffineTransform) -> LinearTransform:
    matrix = np.asarray(transform.GetMatrix(), np.float64).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    return LinearTransform(matrix, np.asarray(transform.GetTranslation()) + centre - matrix @ centre)


def _count(mask: sitk.Image) -> int:
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))


def _body_centre_mm(level: Level) -> FloatArray:
    """Centre of rotations: the body's centre of gravity, or the image's centre if there is no body."""
    voxels = np.argwhere(sitk.GetArrayViewFromImage(level.body))
    if len(voxels) == 0:
        voxels = np.subtract(level.image.GetSize()[::-1], 1)[None] / 2
    return np.asarray(level.image.TransformContinuousIndexToPhysicalPoint(voxels.mean(axis=0)[::-1].tolist()))


def _measured(levels: _Pair, transform: LinearTransform) -> _Fit:
    """Measure the fit of a transform, independently of the optimiser."""
    fixed, moving = levels
    itk = _itk_transform(transform, np.zeros(3), True)
    image = sitk.Resample(moving.image, fixed.image, itk, sitk.sitkLinear, AIR_HU)
    seen, body = (
        sitk.GetArrayFromImage(sitk.Resample(mask, fixed.image, itk, sitk.sitkNearestNeighbor, 0)) > 0
        for mask in (moving.seen, moving.body)
    )
    fixed_seen, fixed_body = (sitk.GetArrayFromImage(mask) > 0 for mask in (fixed.seen, fixed.body))
    # Inside either body, so that a body over the other's air lowers the correlation.
    common = (fixed_body | body) & fixed_seen & seen
    smaller = max(1, min(_count(fixed.body), _count(moving.body)))
    overlap = min(1.0, np.count_nonzero(fixed_body & body) / smaller)
    values = [sitk.GetArrayViewFromImage(source)[common] for source in (fixed.image, image)]
    extent_mm = _shortest_side(common) * fixed.image.GetSpacing()[0]
    return _Fit(transform, correlation(*values), overlap, extent_mm)


def _shortest_side(mask: Mask) -> int:
    """Voxels along the shortest side of a mask's bounding box; 0 for an empty mask."""
    sides = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    return min(int(indices[-1] - indices[0] + 1) if len(indices) else 0 for indices in sides)


def _better(levels: _Pair, old: LinearTransform, new: LinearTransform) -> _Fit:
    """The new transform if it is plausible and fits better, otherwise the old one."""
    before = _measured(levels, old)
    if not _is_plausible(new):
        return before
    after = _measured(levels, new)
    return after if after.score > before.score else before


def _is_plausible(transform: LinearTransform) -> bool:
    low, high = _VOLUME_LIMITS
    shortest, longest = _STRETCH_LIMITS
    stretches = transform.stretches
    volume = transform.determinant
    return bool(low <= volume <= high and stretches[-1] >= shortest and stretches[0] <= longest)


def _too_small(scan: RegistrationImage, name: str) -> str | None:
    """Reason why a scan is too small (a few centimetres of a body have no unique position), or None."""
    sizes = zip(scan.geometry.size_xyz, scan.geometry.spacing_xyz, strict=True)
    side_mm = min(n * spacing for n, spacing in sizes)
    if side_mm >= _TOO_SMALL_MM:
        return None
    return f"the {name} scan is too small to be registered ({side_mm:.0f} mm on its shortest side)"


def _are_apart(levels: _Pair) -> bool:
    """Check if the bodies have nothing in common according to the headers."""
    return _measured(levels, LinearTransform.identity()).score == -np.inf


def _by_headers(reason: str, similarity: float = float("nan")) -> Registration:
    warning = f"{reason}; points are propagated by the scans' headers alone"
    return Registration(LinearTransform.identity(), similarity, False, (warning,))


def _with_warnings(fit: _Fit, is_turned: bool) -> Registration:
    """The fit with its warnings."""
    warnings = []
    if fit.is_poor or not fit.similarity >= POOR_SIMILARITY:
        warnings.append(
            f"the two scans match poorly after registration (similarity {fit.similarity:.2f}); "
            "propagated points may be far off"
        )
    if is_turned:
        warnings.append("the patient's position differs by half a turn from what the scans' headers say")
    if fit.overlap < _SMALL_OVERLAP:
        warnings.append(f"the two scans have only {fit.overlap:.0%} of the smaller one's body in common")
    return Registration(fit.transform, fit.similarity, not warnings, tuple(warnings))
