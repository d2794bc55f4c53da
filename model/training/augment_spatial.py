"""Rotation, scaling and mirroring of both patches of a sample alike: images, masks and points (facts A3).

A transform is drawn first and applied later, so that just as much of an image is read as it needs: a
rotated patch has no border.
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

# Patches so flat are rotated in their plane alone, by any angle, and scaled there (nnU-Net's rule).
_FLAT = 3


@dataclass(frozen=True, eq=False)
class Spatial:
    """Voxels of a transformed patch from voxels of the patch as it was drawn.

    ``matrix`` (3, 3) takes offsets from the pivot in the result to offsets in the source. The pivot keeps
    its place, then the axes of ``mirrored`` are turned round.
    """

    matrix: npt.NDArray[np.float64]
    pivot: Vector
    mirrored: tuple[bool, bool, bool]
    shape: Index

    @property
    def is_rigid_copy(self) -> bool:
        """Nothing but mirroring: voxels fall on voxels."""
        return bool(np.array_equal(self.matrix, np.eye(3)))

    def points(self, source_zyx: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where points (N, 3) of the drawn patch lie in the transformed one."""
        moved = self.pivot + (source_zyx - self.pivot) @ np.linalg.inv(self.matrix).T
        return np.where(self.mirrored, np.asarray(self.shape) - 1 - moved, moved)

    def source_box(self) -> Box:
        """What of the source the transformed patch shows, in voxels of the drawn patch."""
        if self.is_rigid_copy:
            return Box.of_shape(self.shape)
        corners = np.array(list(itertools.product(*((0, n - 1) for n in self.shape))), np.float64)
        reach = self.pivot + (corners - self.pivot) @ self.matrix.T
        low, high = np.floor(reach.min(0)).astype(int), np.ceil(reach.max(0)).astype(int) + 1
        return Box.of_shape((high - low).tolist(), low.tolist())

    def volumes(self, source: FloatVolume) -> FloatVolume:
        """Volumes [N, *source_box] as float32 [N, *shape], trilinear."""
        if self.is_rigid_copy:
            moved = source
        else:
            grid = torch.from_numpy(self._grid(source.shape[1:]))[None]
            values = torch.from_numpy(np.ascontiguousarray(source))[None]
            moved = grid_sample(values, grid, padding_mode="border", align_corners=True)[0].numpy()
        axes = tuple(axis + 1 for axis in range(3) if self.mirrored[axis])
        return np.ascontiguousarray(np.flip(moved, axes) if axes else moved)

    def _grid(self, source_shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Where each voxel comes from, from -1 to 1 over the source, in the order x, y, z of torch."""
        start = np.asarray(self.source_box().start_zyx)
        z, y, x = (np.arange(n) - p for n, p in zip(self.shape, self.pivot, strict=True))
        grid = np.empty((*self.shape, 3), np.float32)
        for axis in range(3):
            row = self.matrix[axis]
            place = row[0] * z[:, None, None] + row[1] * y[:, None] + row[2] * x
            place += self.pivot[axis] - start[axis]
            grid[..., 2 - axis] = place * (2 / max(source_shape[axis] - 1, 1)) - 1
        return grid


def identity(shape: Index) -> Spatial:
    """No transform, as for validation."""
    return Spatial(np.eye(3), (0.0, 0.0, 0.0), (False, False, False), shape)


def is_flat(shape: Index) -> bool:
    """Whether a patch has so few slices that it is transformed in its plane alone."""
    return max(shape) / shape[0] > _FLAT


def draw_spatial(config: TrainingConfig, shape: Index, pivot: Index, rng: np.random.Generator) -> Spatial:
    """Draw rotation, scaling (one factor for all axes) and mirroring, each with its probability.

    They turn about the prompt's point, where nnU-Net turns about the middle of the patch: a point cannot
    leave the patch then, and stays on a voxel. As patches lie anywhere round their points, both show the
    same.
    """
    flat = is_flat(shape)
    rotates, scales = rng.random(2) < (config.rotation_probability, config.scaling_probability)
    limit = np.deg2rad(config.rotation_degrees)
    angles = rng.uniform(-limit, limit, 3)
    if flat:
        angles = np.array([rng.uniform(-np.pi, np.pi), 0, 0])
    factor = rng.uniform(config.scaling_low, config.scaling_high)
    matrix = _rotation(angles) if rotates else np.eye(3)
    if scales:
        matrix = matrix @ np.diag([1 if flat else factor, factor, factor])
    a, b, c = (bool(turned) and config.mirror for turned in rng.random(3) < 0.5)
    z, y, x = pivot
    return Spatial(matrix, (float(z), float(y), float(x)), (a, b, c), shape)


def _rotation(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation by an angle (radians) about each of the axes z, y, x."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
