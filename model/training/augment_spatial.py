"""Spatial augmentation: the same rotation, scaling and mirroring for both patches, their masks and points.

A transform is drawn first and applied later, so that exactly the part of an image is read that it needs and a
rotated patch has no empty border. See docs/model_recipe.md, Augmentation.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import grid_sample

from ..case.geometry import Box, Index, Vector
from ..network.resample import FloatVolume
from .config import TrainingConfig

# Flatter patches are rotated in their plane only, by any angle, and scaled only there (nnU-Net's rule).
_FLAT = 3


@dataclass(frozen=True, eq=False)
class SpatialTransform:
    """Maps voxels (z, y, x) of the transformed patch to voxels of the drawn patch.

    Attributes:
        matrix: float64 (3, 3), takes offsets from the pivot in the result to offsets in the source.
        pivot: voxel (z, y, x) that rotation and scaling leave in place.
        mirrored: axes (z, y, x) that are reversed after rotation and scaling.
        shape: (z, y, x) of the patch.
    """

    matrix: npt.NDArray[np.float64]
    pivot: Vector
    mirrored: tuple[bool, bool, bool]
    shape: Index

    @property
    def is_rigid_copy(self) -> bool:
        """True if the transform at most mirrors: every voxel falls on a voxel."""
        return bool(np.array_equal(self.matrix, np.eye(3)))

    def transform_points(self, source_zyx: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Transform points.

        Args:
            source_zyx: float64 (N, 3), voxels (z, y, x) of the drawn patch.

        Returns:
            float64 (N, 3), voxels (z, y, x) of the transformed patch.
        """
        turned = self.pivot + (source_zyx - self.pivot) @ np.linalg.inv(self.matrix).T
        return np.where(self.mirrored, np.asarray(self.shape) - 1 - turned, turned)

    def source_box(self) -> Box:
        """Compute the part of the source that the transformed patch shows.

        Returns:
            A box in voxels (z, y, x) of the drawn patch; it may reach beyond it.
        """
        if self.is_rigid_copy:
            return Box.of_shape(self.shape)
        corners = np.array(list(itertools.product(*((0, n - 1) for n in self.shape))), np.float64)
        reach = self.pivot + (corners - self.pivot) @ self.matrix.T
        low, high = np.floor(reach.min(0)).astype(int), np.ceil(reach.max(0)).astype(int) + 1
        return Box.of_shape((high - low).tolist(), low.tolist())

    def transform_volumes(self, source: FloatVolume, nearest: bool = False) -> FloatVolume:
        """Resample volumes trilinearly, or labels to their nearest voxel.

        Args:
            source: float32 [N, z, y, x] of the shape of `source_box`.
            nearest: take the nearest voxel instead.

        Returns:
            float32 [N, z, y, x] of the patch's shape.
        """
        if self.is_rigid_copy:
            turned = source
        else:
            grid = torch.from_numpy(self._grid(source.shape[1:]))[None]
            values = torch.from_numpy(np.ascontiguousarray(source))[None]
            mode = "nearest" if nearest else "bilinear"
            sampled = grid_sample(values, grid, mode, padding_mode="border", align_corners=True)
            turned = sampled[0].numpy()
        axes = tuple(axis + 1 for axis in range(3) if self.mirrored[axis])
        return np.ascontiguousarray(np.flip(turned, axes) if axes else turned)

    def _grid(self, source_shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The source position of each voxel for `grid_sample`: -1 to 1 over the source, (x, y, z)."""
        start = np.asarray(self.source_box().start_zyx)
        z, y, x = (np.arange(n) - p for n, p in zip(self.shape, self.pivot, strict=True))
        grid = np.empty((*self.shape, 3), np.float32)
        for axis in range(3):
            row = self.matrix[axis]
            position = row[0] * z[:, None, None] + row[1] * y[:, None] + row[2] * x
            position += self.pivot[axis] - start[axis]
            grid[..., 2 - axis] = position * (2 / max(source_shape[axis] - 1, 1)) - 1
        return grid


def identity_transform(shape: Index) -> SpatialTransform:
    """Return the transform that changes nothing, as for validation.

    Args:
        shape: (z, y, x) of the patch.
    """
    return SpatialTransform(np.eye(3), (0.0, 0.0, 0.0), (False, False, False), shape)


def is_flat(shape: Index) -> bool:
    """Return True if a patch has so few slices that it is transformed in its plane only.

    Args:
        shape: (z, y, x) of the patch.
    """
    return max(shape) / shape[0] > _FLAT


def draw_spatial(
    config: TrainingConfig, shape: Index, pivot: Index, rng: np.random.Generator
) -> SpatialTransform:
    """Draw rotation, scaling (one factor for all axes) and mirroring, each with its probability.

    nnU-Net rotates around the middle of the patch; here patches rotate around the prompt's point, so that the
    point never leaves the patch and stays on a voxel. As the patch lies anywhere around its point, both show
    the same distribution.

    Args:
        config: probabilities and ranges.
        shape: (z, y, x) of the patch.
        pivot: voxel (z, y, x) of the prompt's point in the patch.
        rng: source of the draw.
    """
    flat = is_flat(shape)
    rotates, scales = rng.random(2) < (config.rotation_probability, config.scaling_probability)
    limit = np.deg2rad(config.rotation_degrees)
    angles = rng.uniform(-limit, limit, 3)
    if flat:
        angles = np.array([rng.uniform(-np.pi, np.pi), 0, 0])
    factor = rng.uniform(config.scaling_low, config.scaling_high)
    matrix = rotation_matrix(angles) if rotates else np.eye(3)
    if scales:
        matrix = matrix @ np.diag([1 if flat else factor, factor, factor])
    a, b, c = (bool(mirrors) and config.mirror for mirrors in rng.random(3) < 0.5)
    z, y, x = pivot
    return SpatialTransform(matrix, (float(z), float(y), float(x)), (a, b, c), shape)


def rotation_matrix(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compose the rotations about the axes z, y and x.

    Args:
        angles: float64 (3,), radians about each axis (z, y, x).

    Returns:
        float64 (3, 3), takes offsets (z, y, x) to turned ones.
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
