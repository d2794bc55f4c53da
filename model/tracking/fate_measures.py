"""Measurements on which the fate of a lesion is based: volume and pieces."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

from ..case.case import LesionResult, MaskPrompt
from ..case.connected_components import label_components
from ..case.geometry import Box, FloatArray, Vector
from ..inference.components import BoolArray


def lesion_volume_ml(result: LesionResult) -> float:
    """Volume of a result's lesion in ml."""
    return int(np.count_nonzero(result.mask)) * result.prompt.followup.geometry.voxel_volume_ml


def piece_volumes_ml(
    result: LesionResult,
    expected: MaskPrompt | None,
    min_piece_ml: float,
    min_piece_share: float,
    reach_mm: float | None,
) -> list[float]:
    """Volumes of a lesion's pieces (26-connected components), largest first; parameters as in `FateOptions`.

    Args:
        expected: expected lesion on the grid of the result; None if unknown.

    Returns:
        Volumes in ml of the pieces that are large enough and near enough to the expected lesion.
    """
    labels, count = label_components(result.mask)
    voxel_ml = result.prompt.followup.geometry.voxel_volume_ml
    volumes_ml = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml
    volumes_ml[0] = 0.0
    min_ml = max(min_piece_ml, min_piece_share * float(volumes_ml.sum()))
    large = [int(label) for label in np.flatnonzero(volumes_ml >= min_ml) if label]
    if len(large) > 1 and expected is not None and reach_mm is not None and expected.voxels.any():
        spacing = result.prompt.followup.geometry.spacing_zyx
        target = KDTree(_surface_mm(expected.voxels, expected.box, spacing))
        large = [
            label
            for label in large
            if _is_near(labels == label, result.box, expected, target, spacing, reach_mm)
        ]
    return sorted((float(volumes_ml[label]) for label in large), reverse=True)


def _is_near(
    piece: BoolArray, box: Box, expected: MaskPrompt, target: KDTree, spacing_zyx: Vector, reach_mm: float
) -> bool:
    """True if a piece overlaps the expected mask or comes within reach of it."""
    common = box.intersection(expected.box)
    if not common.is_empty:
        overlap = piece[common.relative_to(box).slices]
        if (overlap & expected.voxels[common.relative_to(expected.box).slices]).any():
            return True
    distances, _ = target.query(_surface_mm(piece, box, spacing_zyx), distance_upper_bound=2 * reach_mm + 1)
    return bool(np.min(distances) <= reach_mm)


def _surface_mm(mask: BoolArray, box: Box, spacing_zyx: Vector) -> FloatArray:
    """The voxels at a mask's surface, (N, 3), in mm along the axes of the grid."""
    padded = np.pad(mask, 1)
    surface = np.argwhere((padded & ~binary_erosion(padded))[1:-1, 1:-1, 1:-1])
    return np.asarray((surface + np.asarray(box.start_zyx)) * np.asarray(spacing_zyx), np.float64)
