"""Misalignment of the CT against the PET, as by breathing and movement between both scans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...case.geometry import Index
from ..augment_spatial import SpatialTransform, is_flat, rotation_matrix
from ..interactive_settings import InteractiveSettings


def draw_misalignment(
    transform: SpatialTransform, settings: InteractiveSettings, rng: np.random.Generator
) -> tuple[SpatialTransform, Index]:
    """Draw a misalignment of the CT against the PET: rotated, then shifted in the plane.

    The CT goes through the misalignment first and the sample's transform afterwards. Both are one transform
    here, so that it is interpolated once.

    Args:
        transform: of the sample, with which PET and labels are transformed.
        settings: probability and ranges.
        rng: source of the draw.

    Returns:
        The transform of the CT, and by how many voxels (z, y, x) of the prepared grid its source is moved.
    """
    turns, moves = rng.random(2) < settings.misalignment_probability
    limit, reach = np.deg2rad(settings.misalignment_degrees), settings.misalignment_voxels
    angles = rng.uniform(-limit, limit, 3)
    y, x = rng.integers(-reach, reach + 1, 2).tolist()
    if is_flat(transform.shape):
        angles[1:] = 0
    ct = replace(transform, matrix=rotation_matrix(angles) @ transform.matrix) if turns else transform
    return ct, (0, y, x) if moves else (0, 0, 0)
