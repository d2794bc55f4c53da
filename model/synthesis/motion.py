"""Motion of the patient: elastic deformation, then rotation, scaling and translation.

As in batchgeneratorsv2, after which the settings are named, all are applied to the positions at which the
scan is resampled: baseline position = centre + scaling · R · (position + elastic - centre) + translation.
Hence a scaling above one makes things smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..case.geometry import FloatArray, Geometry, Vector
from .displacement import LocalField, min_jacobian
from .draw_types import MotionDraw
from .settings import MotionSettings

# Nodes per smoothing length of the elastic field.
_NODES = 4
_MAX_NODES_PER_AXIS = 160


@dataclass(frozen=True, eq=False)
class Motion:
    """Maps follow-up positions to baseline positions in axis mm.

    ``matrix`` is (3, 3), ``centre_mm`` and ``translation_mm`` are (3, 1), all in the order z, y, x.
    ``elastic_share`` is the share of the drawn elastic deformation that was applied.
    """

    matrix: FloatArray
    centre_mm: FloatArray
    translation_mm: FloatArray
    elastic: LocalField | None
    min_jacobian: float
    elastic_share: float = field(default=1.0)

    def pull_back(self, positions_mm: FloatArray) -> FloatArray:
        """Map positions of the follow-up to the baseline.

        Args:
            positions_mm: positions (3, N) in axis mm (z, y, x).

        Returns:
            Positions (3, N) in axis mm (z, y, x).
        """
        if self.elastic is not None:
            positions_mm = positions_mm + self.elastic.displacement(positions_mm)
        return self.matrix @ (positions_mm - self.centre_mm) + self.centre_mm + self.translation_mm


def build_motion(draw: MotionDraw, geometry: Geometry, settings: MotionSettings) -> Motion:
    """Build the drawn motion; an elastic part that would fold is halved until it does not.

    Args:
        draw: the drawn values.
        geometry: grid of the scan.
        settings: the smallest Jacobian determinant to accept.
    """
    extent = np.multiply(geometry.shape_zyx, geometry.spacing_zyx)
    centre = (np.subtract(geometry.shape_zyx, 1) * geometry.spacing_zyx / 2).reshape(3, 1)
    matrix = draw.scaling * _rotation(draw.angles_deg)
    elastic = _elastic(draw, extent)
    smallest, share = 1.0, 1.0
    while elastic is not None:
        smallest = min_jacobian(elastic.u_mm, elastic.spacing_mm)
        if smallest >= settings.min_jacobian:
            break
        share /= 2
        elastic = LocalField(
            elastic.start_mm, elastic.spacing_mm, elastic.u_mm * np.float32(0.5), reaches_on=True
        )
    return Motion(
        matrix,
        centre,
        np.reshape(draw.translation_mm, (3, 1)),
        elastic,
        smallest * float(np.linalg.det(matrix)),
        share,
    )


def _rotation(angles_deg: Vector) -> FloatArray:
    """Matrix of rotations about z, y and x, in turn, for columns (z, y, x)."""
    total = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        a, b = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        total = turn @ total
    return total


def _elastic(draw: MotionDraw, extent_mm: FloatArray) -> LocalField | None:
    """Smooth white noise and scale it to its largest displacement, separately for each component."""
    sigmas = np.asarray(draw.elastic_scale) * extent_mm
    largest = np.asarray(draw.elastic_magnitude) * sigmas
    if not (largest > 0).any():
        return None
    counts = np.clip(np.ceil(extent_mm / sigmas * _NODES), 2, _MAX_NODES_PER_AXIS).astype(int) + 1
    spacing = extent_mm / (counts - 1)
    rng = np.random.default_rng(draw.elastic_seed)
    u = np.zeros((3, *counts), np.float32)
    for axis in range(3):
        noise = rng.standard_normal(tuple(counts), np.float32)
        # One smoothing length for all directions of a component, as in batchgeneratorsv2.
        smooth = ndimage.gaussian_filter(noise, sigmas[axis] / spacing, mode="wrap")
        u[axis] = smooth * (largest[axis] / max(float(np.abs(smooth).max()), 1e-12))
    z, y, x = (float(value) for value in spacing)
    return LocalField((0.0, 0.0, 0.0), (z, y, x), u, reaches_on=True)
