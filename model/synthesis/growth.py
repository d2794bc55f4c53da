"""Growth and shrinkage of a lesion by anatomy-informed fields ([Rokuss2025], equation 5 and its section 7.1).

V = grad(G_sigma * S) · A with S the lesion. The grown image at a place q is the image before at q + V(q): the
gradient points into the lesion, so A > 0 takes its surface outwards, and what lies round it gives way.

Read by us, as the paper leaves it open:

- *Modulation.* A(x) = A0 · (G * r) with r ~ U(-3.5, 3.5) has mean zero and would change next to nothing.
  The smoothed r counts as a factor round one, A(x) = A0 · (1 + gain · (G * r)(x)), kept within 0 to 2 so
  that the sign is that of A0. Gain 1 is the formula at its word (a standard deviation of 0.06); we take 4.
- *Stages.* Each moves the lesion's surface by A0 · |grad|, but at most and at least by a share of the
  lesion's inner radius, so that the small are not destroyed and the large do change. They go on until the
  drawn volume ratio is reached; the last one is damped so that it lands on it.
- *Folding.* A stage whose smallest Jacobian determinant is too low is damped until it is not.
- *Units.* sigma in mm, A0 in mm² (mm of displacement for 1/mm of slope): a voxel of the paper is 1 mm.

All is computed on a grid round the lesion alone, in mm. Where the scan's voxels are finer than that grid can
be (the field reaches 4 sigma, whatever the lesion's size), its nodes hold the lesion's share of the tissue
round them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import LocalField, Mask, Volume, grid_positions, jacobian, min_jacobian, pull_back
from .label_warp import nearest_ids
from .random_draws import GrowthDraw
from .scan_lesions import LabelledLesion, equivalent_radius_mm
from .settings import GrowthSettings

# Spacing of the working grid: a share of the lesion's radius within these limits.
_FINEST_MM, _COARSEST_MM = 0.5, 1.5
_MAX_NODES = 4_000_000
# Below this voxel spacing a node may miss a lesion that lies between it and the next one.
_FINE_VOXEL_MM = 0.8
_NEAR_NODES = 3
# The blurred lesion ends within so many sigma, and the field is faded over the last of them.
_REACH_SIGMAS = 4.0
_DAMPING = 0.7
_MAX_DAMPINGS = 20
_LANDING_STEPS = 12
# Landing ends as near to the target as this share of the tolerance.
_LANDING_SHARE = 0.3
# The whole of the stages may squeeze a place to this share of its volume, not further.
_MIN_TOTAL_JACOBIAN = 0.02


@dataclass(frozen=True, slots=True)
class GrowthStage:
    """``amplitude_mm2`` is what A0 became in this stage; ``surface_mm`` the mean shift of the surface."""

    sigma_mm: float
    amplitude_mm2: float
    surface_mm: float
    largest_mm: float
    min_jacobian: float
    dampings: int
    ratio: float


@dataclass(frozen=True, eq=False)
class GrowthResult:
    """The field of all stages together, what they did, and the ratio of volumes (continuous, in mm³).

    ``is_reached`` is of this growth alone, before other lesions and the patient move.
    """

    field: LocalField
    stages: tuple[GrowthStage, ...]
    ratio: float
    is_reached: bool
    min_jacobian: float


@dataclass(frozen=True, eq=False)
class _Region:
    """The working grid: the lesion before any stage (0 to 1), the factor of A0, and the fading."""

    start_mm: Vector
    spacing_mm: float
    lesion: Volume
    factor: Volume

    def seen(self, u_mm: Volume) -> Volume:
        """The lesion as a field changes it."""
        nodes = np.indices(self.lesion.shape, np.float32)
        return np.asarray(
            ndimage.map_coordinates(self.lesion, nodes + u_mm / self.spacing_mm, order=1, mode="constant"),
            np.float32,
        )

    def then(self, u_mm: Volume, v_mm: Volume) -> Volume:
        """The displacement of a further stage v, applied to an image that u has changed."""
        nodes = np.indices(self.lesion.shape, np.float32) + v_mm / self.spacing_mm
        carried = [ndimage.map_coordinates(u, nodes, order=1, mode="nearest") for u in u_mm]
        return np.asarray(np.stack(carried) + v_mm, np.float32)


def blur_sigma_mm(radius_mm: float, settings: GrowthSettings, voxel_mm: float = 1.0) -> float:
    """Sigma of the blurred lesion: the paper's 4 for small lesions, 5.5 for large ones, linear between."""
    sigma = np.interp(radius_mm, settings.sigma_radii_mm, settings.sigma_mm)
    return float(sigma) * voxel_mm


def grow_lesion(
    labels: Array,
    spacing_zyx: Vector,
    lesion: LabelledLesion,
    earlier: Sequence[LocalField],
    draw: GrowthDraw,
    settings: GrowthSettings,
    voxel_mm: float = 1.0,
) -> GrowthResult:
    """Grow or shrink a lesion of a labelmap (z, y, x) that the ``earlier`` fields have changed already."""
    sigma = blur_sigma_mm(lesion.radius_mm, settings, voxel_mm)
    region = _region(labels, spacing_zyx, lesion, earlier, draw, settings, sigma, voxel_mm)
    u = np.zeros((3, *region.lesion.shape), np.float32)
    whole = float(region.lesion.sum(dtype=np.float64))
    stages: list[GrowthStage] = []
    ratio, reached = 1.0, False  # also where nothing of it is seen: others have crowded it out of the scan
    while whole and not reached and len(stages) < settings.max_stages:
        v, stage = _stage(region, region.seen(u), draw.amplitude_mm2, sigma, settings)
        tried, tried_ratio, share = _landed(region, u, v, whole, draw, settings.ratio_tolerance)
        u_min = min_jacobian(tried, (region.spacing_mm,) * 3)
        if u_min < _MIN_TOTAL_JACOBIAN or tried_ratio == ratio:
            break
        u, ratio = tried, tried_ratio
        stages.append(_scaled(stage, share, v, region, ratio))
        reached = abs(ratio / draw.target_ratio - 1) <= settings.ratio_tolerance
    spacing = (region.spacing_mm,) * 3
    return GrowthResult(
        LocalField(region.start_mm, spacing, u), tuple(stages), ratio, reached, min_jacobian(u, spacing)
    )


def _region(
    labels: Array,
    spacing_zyx: Vector,
    lesion: LabelledLesion,
    earlier: Sequence[LocalField],
    draw: GrowthDraw,
    settings: GrowthSettings,
    sigma: float,
    voxel_mm: float,
) -> _Region:
    margin = _REACH_SIGMAS * sigma + lesion.radius_mm * max(0.0, draw.target_ratio ** (1 / 3) - 1) + 2.0
    spacing = np.asarray(spacing_zyx)
    low = (np.asarray(lesion.box.start_zyx) - 0.5) * spacing - margin
    high = (np.asarray(lesion.box.stop_zyx) - 0.5) * spacing + margin
    step = float(np.clip(lesion.radius_mm / 3, _FINEST_MM, _COARSEST_MM))
    step = max(step, float((np.prod(high - low) / _MAX_NODES) ** (1 / 3)))
    shape = tuple(int(n) for n in np.ceil((high - low) / step) + 1)
    start = (float(low[0]), float(low[1]), float(low[2]))
    return _Region(
        start,
        step,
        _indicator(labels, spacing_zyx, lesion, earlier, start, step, shape),
        _factor(shape, step, draw.modulation_seed, settings, voxel_mm) * _fading(shape, step, sigma),
    )


def _indicator(
    labels: Array,
    spacing_zyx: Vector,
    lesion: LabelledLesion,
    earlier: Sequence[LocalField],
    start: Vector,
    step: float,
    shape: tuple[int, ...],
) -> Volume:
    """Whether each node lies in a voxel of the lesion, slice by slice; its share where voxels are finer."""
    samples = 1 if min(spacing_zyx) >= _FINE_VOXEL_MM else int(np.ceil(step / min(spacing_zyx)))
    offsets = grid_positions(
        (-step * (samples - 1) / (2 * samples),) * 3, (step / samples,) * 3, (samples,) * 3
    )
    low = (np.asarray(lesion.box.start_zyx) - 0.5) * spacing_zyx - _NEAR_NODES * step
    high = (np.asarray(lesion.box.stop_zyx) - 0.5) * spacing_zyx + _NEAR_NODES * step
    found = np.zeros((shape[0], shape[1] * shape[2]), np.float32)
    for z in range(shape[0]):
        places = grid_positions((start[0] + z * step, *start[1:]), (step,) * 3, (1, *shape[1:]))
        before = pull_back(places, earlier)
        near = np.flatnonzero(((before >= low[:, None]) & (before <= high[:, None])).all(axis=0))
        if not near.size:
            continue
        for offset in offsets.T:
            origin = pull_back(places[:, near] + offset[:, None], earlier) if samples > 1 else before[:, near]
            found[z, near] += nearest_ids(labels, origin, spacing_zyx) == lesion.lesion_id
    found /= samples**3
    return _spread(found.reshape(shape)) if samples > 1 else found.reshape(shape)


def _spread(shares: Volume) -> Volume:
    """A lesion that fills no node by half, as a blob of a few nodes: the field is linear over so little."""
    if not 0 < shares.max() <= 0.5:
        return shares
    blob = ndimage.gaussian_filter(shares, 1.0, mode="constant")
    return np.asarray(blob / blob.max(), np.float32)


def _factor(
    shape: tuple[int, ...], step: float, seed: int, settings: GrowthSettings, voxel_mm: float
) -> Volume:
    """1 + gain · (G * r): r per voxel of the paper, whatever the working grid is."""
    rng = np.random.default_rng(seed)
    noise = rng.random(shape, np.float32) - np.float32(0.5)
    sigma_nodes = settings.modulation_sigma_mm * voxel_mm / step
    smooth = ndimage.gaussian_filter(noise, sigma_nodes, mode="wrap")
    low, high = settings.modulation
    # Smoothing N voxels' worth of uniform numbers leaves this standard deviation in the paper's grid.
    deviation = (high - low) / np.sqrt(12) * (2 * np.sqrt(np.pi) * settings.modulation_sigma_mm) ** -1.5
    smooth *= settings.modulation_gain * deviation / max(float(smooth.std()), 1e-12)
    return np.asarray(np.clip(1 + (low + high) / 2 + smooth, 0, 2), np.float32)


def _fading(shape: tuple[int, ...], step: float, sigma: float) -> Volume:
    """One, and down to zero at the grid's border within a sigma."""
    fading = np.ones(shape, np.float32)
    for axis, n in enumerate(shape):
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) * step
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / sigma, 0, 1))
        fading *= ramp.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return fading


def _stage(
    region: _Region, lesion: Volume, amplitude_mm2: float, sigma: float, settings: GrowthSettings
) -> tuple[Volume, GrowthStage]:
    """One moderate field that does not fold."""
    h = region.spacing_mm
    blurred = ndimage.gaussian_filter(lesion, sigma / h, mode="constant", truncate=_REACH_SIGMAS)
    slope = np.stack(np.gradient(blurred, h)).astype(np.float32)
    surface_slope = float(np.linalg.norm(slope[:, _surface(lesion)], axis=0).mean())
    inner = _inner_radius_mm(lesion, h)
    wanted = float(
        np.clip(abs(amplitude_mm2) * surface_slope, settings.step[0] * inner, settings.step[1] * inner)
    )
    amplitude = float(np.copysign(wanted / max(surface_slope, 1e-12), amplitude_mm2))
    v = np.asarray(slope * region.factor * np.float32(amplitude), np.float32)
    dampings = 0
    while (smallest := float(jacobian(v, (h, h, h)).min())) < settings.min_jacobian:
        if dampings == _MAX_DAMPINGS:
            v *= 0
            break
        v *= np.float32(_DAMPING)
        dampings += 1
    share = _DAMPING**dampings
    stage = GrowthStage(sigma, amplitude * share, wanted * share, _largest(v), smallest, dampings, 1.0)
    return v, stage


def _landed(
    region: _Region, u: Volume, v: Volume, whole: float, draw: GrowthDraw, tolerance: float
) -> tuple[Volume, float, float]:
    """The stage, or the share of it that reaches the target and not more: field, ratio, share."""

    def at(share: float) -> tuple[Volume, float]:
        field = region.then(u, v * np.float32(share))
        return field, float(region.seen(field).sum(dtype=np.float64)) / whole

    field, ratio = at(1.0)
    grows = draw.amplitude_mm2 > 0
    if (ratio < draw.target_ratio) == grows:
        return field, ratio, 1.0
    low, high, share = 0.0, 1.0, 1.0
    for _ in range(_LANDING_STEPS):
        if abs(ratio / draw.target_ratio - 1) <= _LANDING_SHARE * tolerance:
            break
        share = (low + high) / 2
        field, ratio = at(share)
        if (ratio < draw.target_ratio) == grows:
            low = share
        else:
            high = share
    return field, ratio, share


def _scaled(stage: GrowthStage, share: float, v: Volume, region: _Region, ratio: float) -> GrowthStage:
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
    """The outermost nodes of the lesion; all of them where it is that small."""
    inside = lesion > 0.5
    if not inside.any():
        inside = lesion >= lesion.max()
    border = inside & ~ndimage.binary_erosion(inside)
    return np.asarray(border)


def _inner_radius_mm(lesion: Volume, h: float) -> float:
    """How deep the lesion is at its deepest place, at most the radius of the ball of its volume."""
    depth = float(ndimage.distance_transform_edt(lesion > 0.5).max()) * h
    ball = equivalent_radius_mm(float(lesion.sum(dtype=np.float64)) * h**3 / 1000.0)
    return max(min(depth, ball), h / 2)


def _largest(v: Volume) -> float:
    return float(np.sqrt((v**2).sum(axis=0).max()))
