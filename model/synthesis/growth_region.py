"""Working grid of one lesion's growth: the lesion, the modulation of A0 and the fading at the border.

If the voxels of the scan are finer than the grid can be (the field reaches 4 sigma, whatever the size of the
lesion), the nodes hold the lesion's share of the tissue around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Vector
from .displacement import LocalField, Volume, grid_positions, pull_back
from .draw_types import GrowthDraw
from .label_warp import nearest_ids
from .scan_lesions import LabelledLesion
from .settings import GrowthSettings

# Spacing of the working grid: a share of the lesion's radius within these limits.
_FINEST_MM, _COARSEST_MM = 0.5, 1.5
_MAX_NODES = 4_000_000
# Below this voxel spacing a node may miss a lesion that lies between it and the next one.
_FINE_VOXEL_MM = 0.8
_NEAR_NODES = 3
# The blurred lesion ends within this many sigma, and the field is faded over the last of them.
REACH_SIGMAS = 4.0


@dataclass(frozen=True, eq=False)
class GrowthRegion:
    """Isotropic working grid around a lesion.

    ``start_mm`` is the position (z, y, x) of the first node in axis mm. ``lesion`` (z, y, x) is the lesion
    before any stage, from 0 to 1; ``factor`` (z, y, x) is the modulation of A0 times the fading.
    """

    start_mm: Vector
    spacing_mm: float
    lesion: Volume
    factor: Volume

    def warp_lesion(self, u_mm: Volume) -> Volume:
        """Warp the lesion by a field.

        Args:
            u_mm: displacements (3, nz, ny, nx) in mm (z, y, x).

        Returns:
            Warped lesion (z, y, x), from 0 to 1, float32.
        """
        nodes = np.indices(self.lesion.shape, np.float32)
        return np.asarray(
            ndimage.map_coordinates(self.lesion, nodes + u_mm / self.spacing_mm, order=1, mode="constant"),
            np.float32,
        )

    def chain(self, u_mm: Volume, v_mm: Volume) -> Volume:
        """Chain a further stage to an earlier field.

        Args:
            u_mm: displacements (3, nz, ny, nx) in mm (z, y, x) applied first.
            v_mm: displacements (3, nz, ny, nx) of the further stage.

        Returns:
            Displacements (3, nz, ny, nx) of both together, float32.
        """
        nodes = np.indices(self.lesion.shape, np.float32) + v_mm / self.spacing_mm
        warped = [ndimage.map_coordinates(u, nodes, order=1, mode="nearest") for u in u_mm]
        return np.asarray(np.stack(warped) + v_mm, np.float32)


def blur_sigma_mm(radius_mm: float, settings: GrowthSettings, voxel_mm: float = 1.0) -> float:
    """Compute the sigma in mm that blurs a lesion: 4 for small ones, 5.5 for large ones, linear in between.

    The range is that of [Rokuss2025], its dependence on the radius is ours.
    """
    sigma = np.interp(radius_mm, settings.sigma_radii_mm, settings.sigma_mm)
    return float(sigma) * voxel_mm


def build_region(
    labels: Array,
    spacing_zyx: Vector,
    lesion: LabelledLesion,
    earlier: Sequence[LocalField],
    draw: GrowthDraw,
    settings: GrowthSettings,
    sigma: float,
    voxel_mm: float,
) -> GrowthRegion:
    """Build the working grid of a lesion.

    Args:
        labels: lesion ids (z, y, x) before any growth.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        lesion: the lesion in ``labels``.
        earlier: fields of the lesions that grew before this one.
        draw: the drawn values of this lesion.
        settings: parameters of growth.
        sigma: blur of the lesion in mm, from `blur_sigma_mm`.
        voxel_mm: mm per voxel of the published parameters.
    """
    margin = REACH_SIGMAS * sigma + lesion.radius_mm * max(0.0, draw.target_ratio ** (1 / 3) - 1) + 2.0
    spacing = np.asarray(spacing_zyx)
    low = (np.asarray(lesion.box.start_zyx) - 0.5) * spacing - margin
    high = (np.asarray(lesion.box.stop_zyx) - 0.5) * spacing + margin
    step = float(np.clip(lesion.radius_mm / 3, _FINEST_MM, _COARSEST_MM))
    step = max(step, float((np.prod(high - low) / _MAX_NODES) ** (1 / 3)))
    shape = tuple(int(n) for n in np.ceil((high - low) / step) + 1)
    start = (float(low[0]), float(low[1]), float(low[2]))
    return GrowthRegion(
        start,
        step,
        _lesion_shares(labels, spacing_zyx, lesion, earlier, start, step, shape),
        modulation_factor(shape, step, draw.modulation_seed, settings, voxel_mm)
        * _fading(shape, step, sigma),
    )


def _lesion_shares(
    labels: Array,
    spacing_zyx: Vector,
    lesion: LabelledLesion,
    earlier: Sequence[LocalField],
    start: Vector,
    step: float,
    shape: tuple[int, ...],
) -> Volume:
    """Mark the nodes in voxels of the lesion, slice by slice; by shares if voxels are finer than the grid."""
    samples = 1 if min(spacing_zyx) >= _FINE_VOXEL_MM else int(np.ceil(step / min(spacing_zyx)))
    offsets = grid_positions(
        (-step * (samples - 1) / (2 * samples),) * 3, (step / samples,) * 3, (samples,) * 3
    )
    low = (np.asarray(lesion.box.start_zyx) - 0.5) * spacing_zyx - _NEAR_NODES * step
    high = (np.asarray(lesion.box.stop_zyx) - 0.5) * spacing_zyx + _NEAR_NODES * step
    shares = np.zeros((shape[0], shape[1] * shape[2]), np.float32)
    for z in range(shape[0]):
        positions = grid_positions((start[0] + z * step, *start[1:]), (step,) * 3, (1, *shape[1:]))
        before = pull_back(positions, earlier)
        near = np.flatnonzero(((before >= low[:, None]) & (before <= high[:, None])).all(axis=0))
        if not near.size:
            continue
        for offset in offsets.T:
            origin = (
                pull_back(positions[:, near] + offset[:, None], earlier) if samples > 1 else before[:, near]
            )
            shares[z, near] += nearest_ids(labels, origin, spacing_zyx) == lesion.lesion_id
    shares /= samples**3
    return _as_blob(shares.reshape(shape)) if samples > 1 else shares.reshape(shape)


def _as_blob(shares: Volume) -> Volume:
    """Replace a lesion that fills no node by half with a blob of a few nodes; the field is linear there."""
    if not 0 < shares.max() <= 0.5:
        return shares
    blob = ndimage.gaussian_filter(shares, 1.0, mode="constant")
    return np.asarray(blob / blob.max(), np.float32)


def modulation_factor(
    shape: tuple[int, ...], step: float, seed: int, settings: GrowthSettings, voxel_mm: float
) -> Volume:
    """Compute the modulation 1 + gain · (G * r), with r per published voxel, whatever the working grid.

    Args:
        shape: number of nodes along z, y, x.
        step: spacing of the nodes in mm.
        seed: seed of r.
        settings: range, smoothing and gain of the modulation.
        voxel_mm: mm per voxel of the published parameters.

    Returns:
        Factors (z, y, x) from 0 to 2, float32.
    """
    rng = np.random.default_rng(seed)
    noise = rng.random(shape, np.float32) - np.float32(0.5)
    sigma_nodes = settings.modulation_sigma_mm * voxel_mm / step
    smooth = ndimage.gaussian_filter(noise, sigma_nodes, mode="wrap")
    low, high = settings.modulation
    # Standard deviation of uniform numbers, one per published voxel, after smoothing.
    deviation = (high - low) / np.sqrt(12) * (2 * np.sqrt(np.pi) * settings.modulation_sigma_mm) ** -1.5
    smooth *= settings.modulation_gain * deviation / max(float(smooth.std()), 1e-12)
    return np.asarray(np.clip(1 + (low + high) / 2 + smooth, 0, 2), np.float32)


def _fading(shape: tuple[int, ...], step: float, sigma: float) -> Volume:
    """One inside, falling to zero within a sigma of the grid's border."""
    fading = np.ones(shape, np.float32)
    for axis, n in enumerate(shape):
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) * step
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / sigma, 0, 1))
        fading *= ramp.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return fading
