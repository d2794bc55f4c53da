"""Growth and shrinkage of a lesion by anatomy-informed fields ([Rokuss2025], equation 5 and section 7.1).

V = grad(G_sigma * S) · A with the lesion S. The image after growth at a position q is the image before at
q + V(q): the gradient points into the lesion, so A > 0 moves its surface outwards, and the tissue around it
gives way.

Where the publication leaves room, it is read as follows:

- *Modulation.* A(x) = A0 · (G * r) with r ~ U(-3.5, 3.5) has mean zero and would change next to nothing.
  The smoothed r is taken as a factor about one, A(x) = A0 · (1 + gain · (G * r)(x)), kept within 0 to 2 so
  that A keeps the sign of A0. Gain 1 is the literal formula (a standard deviation of 0.06); the default is 4.
- *Stages.* Each stage moves the lesion's surface by A0 · |grad|, limited in both directions to a share of the
  lesion's inner radius, so that small lesions survive and large ones do change. Stages are applied until the
  drawn volume ratio is reached; the last one is damped to land on it.
- *Folding.* A stage is damped until its smallest Jacobian determinant is high enough.
- *Units.* sigma in mm, A0 in mm² (mm of displacement for a gradient in 1/mm): a published voxel is 1 mm.

All is computed on a grid around the lesion alone, in mm (see `growth_region`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import LocalField, Mask, Volume, jacobian, min_jacobian
from .draw_types import GrowthDraw
from .growth_region import REACH_SIGMAS, GrowthRegion, blur_sigma_mm, build_region
from .scan_lesions import LabelledLesion, equivalent_radius_mm
from .settings import GrowthSettings

_DAMPING = 0.7
_MAX_DAMPINGS = 20
_LANDING_STEPS = 12
# The search for the target stops within this share of the tolerance.
_LANDING_SHARE = 0.3
# All stages together must not compress any position below this share of its volume.
_MIN_TOTAL_JACOBIAN = 0.02


@dataclass(frozen=True, slots=True)
class GrowthStage:
    """One applied stage: ``amplitude_mm2`` is the effective A0, ``surface_mm`` the mean shift of the surface.

    ``largest_mm`` is the largest displacement, ``ratio`` the volume ratio reached after this stage.
    """

    sigma_mm: float
    amplitude_mm2: float
    surface_mm: float
    largest_mm: float
    min_jacobian: float
    dampings: int
    ratio: float


@dataclass(frozen=True, eq=False)
class GrowthResult:
    """The field of all stages together, the stages, and the volume ratio (continuous, in mm³).

    ``is_reached``: this growth alone reached its target, before other lesions and the patient move.
    """

    field: LocalField
    stages: tuple[GrowthStage, ...]
    ratio: float
    is_reached: bool
    min_jacobian: float


def grow_lesion(
    labels: Array,
    spacing_zyx: Vector,
    lesion: LabelledLesion,
    earlier: Sequence[LocalField],
    draw: GrowthDraw,
    settings: GrowthSettings,
    voxel_mm: float = 1.0,
) -> GrowthResult:
    """Grow or shrink a lesion of a labelmap that earlier fields have changed already.

    Args:
        labels: lesion ids (z, y, x) before any growth.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        lesion: the lesion in ``labels``.
        earlier: fields of the lesions that grew before this one.
        draw: the drawn values of this lesion.
        settings: parameters of growth.
        voxel_mm: mm per voxel of the published parameters.
    """
    sigma = blur_sigma_mm(lesion.radius_mm, settings, voxel_mm)
    region = build_region(labels, spacing_zyx, lesion, earlier, draw, settings, sigma, voxel_mm)
    u = np.zeros((3, *region.lesion.shape), np.float32)
    whole = float(region.lesion.sum(dtype=np.float64))
    stages: list[GrowthStage] = []
    ratio, reached = 1.0, False  # also if others have crowded the lesion out of the scan
    while whole and not reached and len(stages) < settings.max_stages:
        v, stage = _compute_stage(region, region.warp_lesion(u), draw.amplitude_mm2, sigma, settings)
        tried, tried_ratio, share = _land_on_target(region, u, v, whole, draw, settings.ratio_tolerance)
        u_min = min_jacobian(tried, (region.spacing_mm,) * 3)
        if u_min < _MIN_TOTAL_JACOBIAN or tried_ratio == ratio:
            break
        u, ratio = tried, tried_ratio
        stages.append(_scale_stage(stage, share, v, region, ratio))
        reached = abs(ratio / draw.target_ratio - 1) <= settings.ratio_tolerance
    spacing = (region.spacing_mm,) * 3
    return GrowthResult(
        LocalField(region.start_mm, spacing, u), tuple(stages), ratio, reached, min_jacobian(u, spacing)
    )


def _compute_stage(
    region: GrowthRegion, lesion: Volume, amplitude_mm2: float, sigma: float, settings: GrowthSettings
) -> tuple[Volume, GrowthStage]:
    """Compute one moderate field that does not fold."""
    h = region.spacing_mm
    blurred = ndimage.gaussian_filter(lesion, sigma / h, mode="constant", truncate=REACH_SIGMAS)
    slope = np.stack(np.gradient(blurred, h)).astype(np.float32)
    surface_slope = float(np.linalg.norm(slope[:, _surface(lesion)], axis=0).mean())
    inner = _inner_radius_mm(lesion, h)
    shift_mm = float(
        np.clip(abs(amplitude_mm2) * surface_slope, settings.step[0] * inner, settings.step[1] * inner)
    )
    amplitude = float(np.copysign(shift_mm / max(surface_slope, 1e-12), amplitude_mm2))
    v = np.asarray(slope * region.factor * np.float32(amplitude), np.float32)
    dampings = 0
    while (smallest := float(jacobian(v, (h, h, h)).min())) < settings.min_jacobian:
        if dampings == _MAX_DAMPINGS:
            v *= 0
            break
        v *= np.float32(_DAMPING)
        dampings += 1
    share = _DAMPING**dampings
    stage = GrowthStage(sigma, amplitude * share, shift_mm * share, _largest(v), smallest, dampings, 1.0)
    return v, stage


def _land_on_target(
    region: GrowthRegion, u: Volume, v: Volume, whole: float, draw: GrowthDraw, tolerance: float
) -> tuple[Volume, float, float]:
    """Apply a stage, or the share of it that lands on the target; returns field, ratio and share."""

    def apply_share(share: float) -> tuple[Volume, float]:
        field = region.chain(u, v * np.float32(share))
        return field, float(region.warp_lesion(field).sum(dtype=np.float64)) / whole

    field, ratio = apply_share(1.0)
    grows = draw.amplitude_mm2 > 0
    if (ratio < draw.target_ratio) == grows:
        return field, ratio, 1.0
    low, high, share = 0.0, 1.0, 1.0
    for _ in range(_LANDING_STEPS):
        if abs(ratio / draw.target_ratio - 1) <= _LANDING_SHARE * tolerance:
            break
        share = (low + high) / 2
        field, ratio = apply_share(share)
        if (ratio < draw.target_ratio) == grows:
            low = share
        else:
            high = share
    return field, ratio, share


def _scale_stage(
    stage: GrowthStage, share: float, v: Volume, region: GrowthRegion, ratio: float
) -> GrowthStage:
    h = region.spacing_mm
    smallest = stage.min_jacobian if share == 1 else min_jacobian(v * np.float32(share), (h, h, h))
    return GrowthStage(
        stage.sigma_mm,
        stage.amplitude_mm2 * share,
        stage.surface_mm * share,
        stage.largest_mm * share,
        smallest,
        stage.dampings,
        ratio,
    )


def _surface(lesion: Volume) -> Mask:
    """Mark the outermost nodes of the lesion; all of them if it is that small."""
    inside = lesion > 0.5
    if not inside.any():
        inside = lesion >= lesion.max()
    border = inside & ~ndimage.binary_erosion(inside)
    return np.asarray(border)


def _inner_radius_mm(lesion: Volume, h: float) -> float:
    """Depth in mm of the lesion's deepest node, at most the radius of the ball of its volume."""
    depth = float(ndimage.distance_transform_edt(lesion > 0.5).max()) * h
    ball = equivalent_radius_mm(float(lesion.sum(dtype=np.float64)) * h**3 / 1000.0)
    return max(min(depth, ball), h / 2)


def _largest(v: Volume) -> float:
    return float(np.sqrt((v**2).sum(axis=0).max()))
