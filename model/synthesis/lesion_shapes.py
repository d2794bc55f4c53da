"""Shapes of new lesions with partial volume: rough or spiculated ellipsoids with a rim and a core."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ..case.geometry import Array, FloatArray, Geometry, Vector
from .displacement import Mask, Volume
from .draw_types import NewStyleDraw

_WAVES = 10
_SAMPLES = 3  # per axis and voxel
_SPICULE_WIDTH = (0.006, 0.02)  # of 1 - cosine of the angle to its axis


@dataclass(frozen=True, eq=False)
class LesionShape:
    """Shares (z, y, x), from 0 to 1, of each voxel that lie in the lesion, in its rim, and in its core."""

    inside: Volume
    rim: Volume
    core: Volume

    @property
    def mask(self) -> Mask:
        """Voxels (z, y, x) that are filled by half, or the fullest one."""
        return np.asarray(self.inside >= min(0.5, float(self.inside.max())))


def draw_shape(radii_mm: Vector, style: NewStyleDraw, seed: int, geometry: Geometry) -> LesionShape:
    """Make the shape of a lesion, in the middle of a box with a margin of ``style.clearance_mm``.

    Args:
        radii_mm: half axes (z, y, x) in mm.
        style: roughness, spicules, rim and core.
        seed: seed of the surface.
        geometry: grid of the scan.

    Returns:
        Shares of voxels in a box of odd sizes.
    """
    spacing, radii = np.asarray(geometry.spacing_zyx), np.asarray(radii_mm)
    largest = 1 + 2.5 * style.roughness + (style.spicule_length if style.spicules else 0.0)
    half = np.ceil((largest * radii + style.clearance_mm + 1.0) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"))
    parts = [np.zeros(grid.shape[1:], np.float32) for _ in range(3)]
    surface = _Surface(style, seed)
    mean_mm = float(radii.mean())
    for steps in product((np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5, repeat=3):
        position = (grid + np.reshape(steps, (3, 1, 1, 1))) * (spacing / radii).reshape(3, 1, 1, 1)
        distance = np.linalg.norm(position, axis=0)
        depth = distance / np.maximum(surface.radius(position / np.maximum(distance, 1e-6)), 0.2)
        parts[0] += depth <= 1
        parts[1] += (depth <= 1) & (depth > 1 - style.rim_mm / mean_mm)
        parts[2] += depth <= style.core_share
    inside, rim, core = (np.asarray(part / _SAMPLES**3, np.float32) for part in parts)
    return LesionShape(inside, rim, core)


class _Surface:
    """Radius of a surface in each direction, about 1: smooth waves and thin cones."""

    def __init__(self, style: NewStyleDraw, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._waves = rng.normal(0, 2.5, (_WAVES, 3))
        self._phases = rng.uniform(0, 2 * np.pi, _WAVES)
        self._height = style.roughness * np.sqrt(2 / _WAVES)
        axes = rng.normal(0, 1, (style.spicules, 3))
        self._axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        self._widths = rng.uniform(*_SPICULE_WIDTH, style.spicules)
        self._lengths = style.spicule_length * rng.uniform(0.4, 1.0, style.spicules)

    def radius(self, direction: FloatArray) -> Array:
        """Compute the radius for unit vectors (3, z, y, x)."""
        radius = np.ones(direction.shape[1:])
        if self._height:
            for wave, phase in zip(self._waves, self._phases, strict=True):
                radius += self._height * np.cos(np.tensordot(wave, direction, 1) + phase)
        for axis, width, length in zip(self._axes, self._widths, self._lengths, strict=True):
            radius += length * np.exp((np.tensordot(axis, direction, 1) - 1) / width)
        return radius
