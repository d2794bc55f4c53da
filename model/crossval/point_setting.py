"""How a network is asked: which point of the follow-up it gets, and how far that is off."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..case.geometry import Geometry, Vector, flip_order
from ..data.dataset import RawLesion
from ..data.prepared_grid import prepared_grid
from ..errors import InputError
from ..network.plan import Plan
from .pairs import EvaluationPair

Points = Literal["propagated", "given"]

# A moved point stays clear of the faces of its network voxel: rounding must not carry it over one.
_CLEAR = 1e-3


@dataclass(frozen=True, slots=True)
class PointSetting:
    """``points``: propagated (where missing the true one) or given (the true one; a lesion that is absent,
    and has none, keeps its propagated one).

    ``noise_voxels``: each follow-up point is moved by a whole number of network voxels, uniform in -n ... n
    along each axis, drawn for each seed, pair and lesion alone; it stays inside the scan.
    """

    points: Points = "propagated"
    noise_voxels: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points not in ("propagated", "given"):
            raise InputError(f"points: is {self.points!r}; expected propagated or given")
        if self.noise_voxels < 0 or self.seed < 0:
            raise InputError(f"noise {self.noise_voxels}, seed {self.seed}: expected numbers from 0 on")

    @property
    def name(self) -> str:
        """Such as "propagated", "given", "propagated-noise4", "given-noise2-seed1"; names a folder."""
        noise = f"-noise{self.noise_voxels}" if self.noise_voxels else ""
        return self.points + noise + (f"-seed{self.seed}" if noise and self.seed else "")

    def point_xyz(self, pair: EvaluationPair, lesion: RawLesion, geometry: Geometry, plan: Plan) -> Vector:
        """The follow-up point of a lesion, a voxel index (x, y, z) of the follow-up's file.

        Args:
            geometry: of the follow-up's file.
            plan: of the network that is asked.
        """
        known = (lesion.propagated_point_xyz, lesion.followup_point_xyz)
        point = next(p for p in (known if self.points == "propagated" else known[::-1]) if p is not None)
        if not self.noise_voxels:
            return point
        return _moved(point, self._offset(pair, lesion), geometry, plan)

    def _offset(self, pair: EvaluationPair, lesion: RawLesion) -> Vector:
        random = np.random.default_rng([self.seed, zlib.crc32(pair.name.encode()), lesion.lesion_id])
        z, y, x = random.integers(-self.noise_voxels, self.noise_voxels, 3, endpoint=True).tolist()
        return (z, y, x)


def _moved(point_xyz: Vector, offset_zyx: Vector, geometry: Geometry, plan: Plan) -> Vector:
    """A point moved by whole voxels of the network grid, and kept inside of it."""
    grid = prepared_grid(geometry, geometry, plan)
    axial = geometry.axial_map()
    point = grid.axes.point(axial.point(flip_order(point_xyz), geometry.shape_zyx), grid.axial_shape_zyx)
    moved = [
        min(_step(p * source / target, step, n) * target / source, last - 1.0)
        for p, source, target, step, n, last in zip(
            point,
            grid.source_spacing_mm,
            grid.target_spacing_mm,
            offset_zyx,
            grid.shape,
            grid.source_shape,
            strict=True,
        )
    ]
    back = grid.axes.inverse().point(moved, grid.source_shape)
    z, y, x = axial.inverse().point(back, grid.axial_shape_zyx)
    return (x, y, z)


def _step(position: float, step: float, size: int) -> float:
    """A network coordinate some voxels further, within the image and clear of the faces of its voxel."""
    voxel = min(max(int(position), 0), size - 1)
    part = min(max(position - voxel, _CLEAR), 1 - _CLEAR)
    return min(max(voxel + step, 0), size - 1) + part
