"""Deformable registration with SimpleITK: affine, then B-splines from coarse to fine.

Each stage is ITK's B-spline transform, optimised by L-BFGS-B on random samples of the body (fixed seed) on
top of the previous stages. The metric is the mean square of locally normalised images, i.e. one minus local
correlation, which is insensitive to changes of lung density with breathing and, unlike ITK's own local
correlation, can be evaluated on samples.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from ...case.geometry import Geometry
from ...errors import one_line
from . import Registration, RegistrationImage
from .affine import LinearBackend
from .field import FieldTransform, coarser_grid
from .grids import AIR_HU, Level, pyramid
from .itk import from_field
from .linear import LinearTransform
from .similarity import accept_if_better, image_geometry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Stage:
    """Distance of the control points, number of samples and largest number of optimiser steps."""

    control_mm: float
    samples: int
    iterations: int


_STAGES = (_Stage(60.0, 15_000, 40), _Stage(40.0, 24_000, 30))
_SPACING_MM = 2.5
# Bounds time and memory: for larger scans voxels and control point distances grow in proportion.
_VOXELS = 2_000_000
_SEED = 20_250_704
# Neighbourhood of the local normalisation: sigma of a Gaussian, in voxels.
_SIGMA = 3.0
# Lower contrast is noise: it gets little weight ...
_NOISE_HU = 40.0
# ... or is not sampled at all.
_CONTRAST_HU = 50.0
_CONTRAST_RADIUS = 2
# The moving image is resampled so far beyond the fixed one's grid; nearer than the second value to its own
# border neighbourhoods are cut off.
_MARGIN_VOXELS = 8
_BORDER_VOXELS = 4
_MIN_SAMPLES = 1000
_CORRECTIONS = 8
_FIELD_MM = 4.0


class BSplineBackend:
    """Affine, then B-splines with control points 60 and 40 mm apart if they increase the similarity."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        start = LinearBackend(affine=True).register(fixed, moving)
        if not isinstance(start.transform, LinearTransform) or not np.isfinite(start.similarity):
            return start
        try:
            deformed = _deformed(start.transform, fixed, moving)
        except RuntimeError as error:  # any failure of ITK with these images
            log.warning("deformable registration failed: %s", one_line(error))
            return accept_if_better(start, None, fixed, moving)
        return accept_if_better(start, deformed, fixed, moving)


def _deformed(linear: LinearTransform, fixed: RegistrationImage, moving: RegistrationImage) -> FieldTransform:
    """The field of all stages, on a grid over the fixed scan."""
    scale = _scale(fixed.geometry)
    fixed_level, moving_level = (pyramid(scan, (_SPACING_MM * scale,))[0] for scan in (fixed, moving))
    itk = sitk.AffineTransform(linear.matrix.ravel().tolist(), linear.offset_mm.tolist())
    # ITK applies the last transform of a list first: points go through the newest stage first.
    splines: list[sitk.Transform] = []
    for stage in _STAGES:
        previous = sitk.CompositeTransform([itk, *splines])
        spline = _optimised(fixed_level, moving_level, previous, stage, scale)
        if spline is None:
            break
        splines.append(spline)
    grid = coarser_grid(image_geometry(fixed_level.image), _FIELD_MM)
    u = sitk.TransformToDisplacementField(
        sitk.CompositeTransform(splines or [sitk.Transform(3, sitk.sitkIdentity)]),
        sitk.sitkVectorFloat32,
        grid.size_xyz,
        grid.origin_xyz,
        grid.spacing_xyz,
        grid.direction,
    )
    return FieldTransform(linear, from_field(u).displacement_mm, grid)


def _scale(geometry: Geometry) -> float:
    volume_mm3 = float(np.prod(np.multiply(geometry.size_xyz, geometry.spacing_xyz)))
    return max(1.0, float((volume_mm3 / _VOXELS) ** (1 / 3)) / _SPACING_MM)


def _optimised(
    fixed: Level, moving: Level, previous: sitk.Transform, stage: _Stage, scale: float
) -> sitk.Transform | None:
    """The B-spline b that aligns fixed(p) with moving(previous(b(p))); None if too few samples."""
    margin = [_MARGIN_VOXELS] * 3
    grid = sitk.ConstantPad(fixed.image, margin, margin, AIR_HU)
    image = sitk.Resample(moving.image, grid, previous, sitk.sitkLinear, AIR_HU)
    seen = sitk.Resample(moving.seen, grid, previous, sitk.sitkNearestNeighbor, 0)
    mask = _worth_sampling(fixed, seen)
    count = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
    if count < _MIN_SAMPLES:
        return None
    sides_mm = np.multiply(grid.GetSize(), grid.GetSpacing())
    cells = [max(1, int(np.ceil(side / (stage.control_mm * scale)))) for side in sides_mm]
    transform: sitk.Transform = sitk.BSplineTransformInitializer(grid, cells, 3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricFixedMask(mask)
    # The moving image gets no mask: samples outside of a mask are ignored, and the optimiser would drive all
    # samples out of it.
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, stage.samples / count), _SEED)
    method.MetricUseFixedImageGradientFilterOff()
    method.MetricUseMovingImageGradientFilterOff()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-8,
        numberOfIterations=stage.iterations,
        maximumNumberOfCorrections=_CORRECTIONS,
        maximumNumberOfFunctionEvaluations=round(1.2 * stage.iterations),
        costFunctionConvergenceFactor=1e5,
    )
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(_normalised(fixed.image, fixed.seen), _normalised(image, seen))
    return transform


def _worth_sampling(fixed: Level, seen: sitk.Image) -> sitk.Image:
    """Mask of the follow-up's body where it has contrast and the baseline covers the neighbourhood."""
    contrast = sitk.Noise(fixed.image, [_CONTRAST_RADIUS] * 3) > _CONTRAST_HU
    inner = sitk.BinaryErode(seen, [_BORDER_VOXELS] * 3, sitk.sitkBall, 0, 1, False)
    inner = sitk.Resample(inner, fixed.image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    mask: sitk.Image = sitk.And(sitk.And(fixed.body, contrast), inner)
    return mask


def _normalised(image: sitk.Image, seen: sitk.Image) -> sitk.Image:
    """(HU - local mean) / local spread; 0 where nothing was measured."""
    hu = sitk.GetArrayFromImage(image)
    weight = (sitk.GetArrayViewFromImage(seen) > 0).astype(np.float32)
    share = np.maximum(gaussian_filter(weight, _SIGMA, mode="constant"), 0.02)
    mean = gaussian_filter(hu * weight, _SIGMA, mode="constant") / share
    square = gaussian_filter(hu * hu * weight, _SIGMA, mode="constant") / share
    spread = np.sqrt(np.maximum(square - mean * mean, 0) + np.float32(_NOISE_HU**2))
    result = sitk.GetImageFromArray(((hu - mean) * weight / spread).astype(np.float32))
    result.CopyInformation(image)
    return result
