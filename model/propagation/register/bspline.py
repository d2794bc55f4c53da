"""Deformable registration by SimpleITK: the affine, then a field smoothed by B-splines, coarse to fine.

The field is ITK's displacement field whose updates are fitted by cubic B-splines (Tustison et al., Frontiers
in Neuroinformatics 2013), driven by local correlation, as the density of a lung changes with each breath.
Measured on two dates of one lung, ITK's B-spline transform with few parameters was slower (each sample
visits each control point) and, without a penalty on bending, less exact for any of its metrics.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ...case.geometry import Geometry
from ...errors import one_line
from . import Registration, RegistrationImage
from .affine import LinearBackend
from .field import FieldTransform, grid_over, sampled
from .grids import AIR_HU, Level, pyramid
from .linear import LinearTransform
from .similarity import better_of, geometry_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Stage:
    """Spacing of the images and the field, distance of the control points, steps of the optimiser."""

    spacing_mm: float
    control_mm: float
    iterations: int


_STAGES = (_Stage(8.0, 60.0, 20), _Stage(5.0, 30.0, 20), _Stage(3.5, 20.0, 15))
# Bounds time and memory: larger scans get all of these distances in proportion.
_VOXELS = 500_000
# No voxel moves further in one step, in voxels. Larger steps run off, smaller ones do not arrive.
_STEP = 0.3
_SPLINE_ORDER = 3
_WINDOW_RADIUS = 2  # voxels of the neighbourhood that is compared
# Where less than this varies round a voxel there is only noise to align, which local correlation amplifies.
_CONTRAST_HU = 50.0
# The moving image reaches so far beyond the fixed one's grid.
_MARGIN_VOXELS = 8
_FLAT_STEPS, _FLATNESS = 10, 1e-6
_MIN_VOXELS = 500
_FIELD_MM = 4.0


class BSplineBackend:
    """Affine, then a field of B-splines with control points 60 to 20 mm apart, where that is better."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        start = LinearBackend(affine=True).register(fixed, moving)
        if not isinstance(start.transform, LinearTransform) or not np.isfinite(start.similarity):
            return start
        try:
            found = _deformed(start.transform, fixed, moving)
        except RuntimeError as error:  # whatever ITK could not do with these images
            log.warning("deformable registration failed: %s", one_line(error))
            return better_of(start, None, fixed, moving)
        return better_of(start, found, fixed, moving)


def _deformed(linear: LinearTransform, fixed: RegistrationImage, moving: RegistrationImage) -> FieldTransform:
    """The field of the finest stage, on a grid over the fixed scan."""
    stages = _stages(fixed.geometry)
    spacings = tuple(stage.spacing_mm for stage in stages)
    levels = list(zip(pyramid(fixed, spacings), pyramid(moving, spacings), strict=True))
    field = _still(levels[0][0].image)
    for stage, (fixed_level, moving_level) in zip(stages, levels, strict=True):
        begin = sitk.Resample(
            field, fixed_level.image, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64
        )
        field = _optimised(fixed_level, moving_level, linear, begin, stage)
    u = sitk.GetArrayFromImage(field).astype(np.float32)
    found = FieldTransform(LinearTransform.identity(), np.nan_to_num(u), geometry_of(field))
    coarse = sampled(found, grid_over(geometry_of(field), _FIELD_MM), LinearTransform.identity())
    return FieldTransform(linear, coarse.displacement_mm, coarse.geometry)


def _stages(geometry: Geometry) -> list[_Stage]:
    volume_mm3 = float(np.prod(np.multiply(geometry.size_xyz, geometry.spacing_xyz)))
    scale = max(1.0, (volume_mm3 / _VOXELS) ** (1 / 3) / _STAGES[-1].spacing_mm)
    return [_Stage(stage.spacing_mm * scale, stage.control_mm * scale, stage.iterations) for stage in _STAGES]


def _still(grid: sitk.Image) -> sitk.Image:
    """A field without any displacement."""
    field = sitk.Image(grid.GetSize(), sitk.sitkVectorFloat64, 3)
    field.CopyInformation(grid)
    return field


def _optimised(
    fixed: Level, moving: Level, linear: LinearTransform, begin: sitk.Image, stage: _Stage
) -> sitk.Image:
    """The field u that makes fixed(p) like moving(linear(p + u)), begun with another one; mm."""
    itk = sitk.AffineTransform(linear.matrix.ravel().tolist(), linear.offset_mm.tolist())
    grid = sitk.ConstantPad(fixed.image, [_MARGIN_VOXELS] * 3, [_MARGIN_VOXELS] * 3, AIR_HU)
    image = sitk.Resample(moving.image, grid, itk, sitk.sitkLinear, AIR_HU)
    seen = sitk.Resample(moving.seen, grid, itk, sitk.sitkNearestNeighbor, 0)
    mask = sitk.And(fixed.body, sitk.Noise(fixed.image, [_WINDOW_RADIUS] * 3) > _CONTRAST_HU)
    common = sitk.And(mask, sitk.Resample(seen, mask, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    if np.count_nonzero(sitk.GetArrayViewFromImage(common)) < _MIN_VOXELS:
        return begin
    transform = _smoothed_transform(begin, stage.control_mm)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsANTSNeighborhoodCorrelation(_WINDOW_RADIUS)
    method.SetMetricFixedMask(mask)
    method.SetMetricMovingMask(seen)
    method.MetricUseFixedImageGradientFilterOff()
    method.MetricUseMovingImageGradientFilterOff()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(
        1.0, stage.iterations, _FLATNESS, _FLAT_STEPS, method.EachIteration, _STEP * stage.spacing_mm
    )
    method.SetOptimizerScalesFromJacobian()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed.image, image)
    return transform.GetDisplacementField()


def _smoothed_transform(field: sitk.Image, control_mm: float) -> sitk.DisplacementFieldTransform:
    """ITK's transform of a field (which it takes over), its updates smoothed; its total is left alone."""
    sides_mm = np.multiply(field.GetSize(), field.GetSpacing())
    controls = [max(1, int(np.ceil(side / control_mm))) + _SPLINE_ORDER for side in sides_mm]
    transform = sitk.DisplacementFieldTransform(sitk.Image(field))
    transform.SetSmoothingBSplineOnUpdate(controls, [0, 0, 0], False, _SPLINE_ORDER)
    return transform
