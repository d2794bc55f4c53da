"""The follow-up points that lesions are prompted with in an evaluation, and the noise added to them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..case.case import PointSource
from ..case.geometry import Geometry, Vector, flip_order
from ..case.raw_lesion import RawLesion
from ..data.prepared_grid import prepared_grid
from ..errors import InputError
from ..network.plan import Plan
from .pairs import EvaluationPair

Points = Literal["propagated", "given"]

# A shifted point keeps this distance (voxels) from the faces of its network voxel, so that rounding cannot
# move it into the next one.
_CLEARANCE = 1e-3


@dataclass(frozen=True, slots=True)
class PointSetting:
    """The choice of follow-up points.

    A point counts as given (clicked) or propagated by its own origin, as in `segment`: the network is boosted
    only at propagated ones. Noise does not change that: a shifted true point is an imprecise click, a shifted
    propagated point an imprecise registration.

    Attributes:
        points: "propagated" prefers the propagated point and takes the true one if it is missing; "given"
            prefers the true one. A lesion that vanished has no true point.
        noise_voxels: each point is shifted by a whole number of network voxels, uniform in -n ... n along
            each axis, drawn for each seed, pair and lesion; it stays inside the scan.
        seed: of the noise.
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
        """Name of its folder, e.g. "propagated", "given", "propagated-noise4" or "given-noise2-seed1"."""
        noise = f"-noise{self.noise_voxels}" if self.noise_voxels else ""
        return self.points + noise + (f"-seed{self.seed}" if noise and self.seed else "")

    def source_of(self, lesion: RawLesion) -> PointSource:
        """Return whether the lesion's follow-up point at this setting is a given or a propagated one."""
        if self.points == "propagated":
            is_propagated = lesion.propagated_point_xyz is not None
        else:
            is_propagated = lesion.followup_point_xyz is None
        return PointSource.PROPAGATED if is_propagated else PointSource.GIVEN

    def point_xyz(self, pair: EvaluationPair, lesion: RawLesion, geometry: Geometry, plan: Plan) -> Vector:
        """Return the follow-up point that a lesion is prompted with.

        Args:
            pair: the pair that the lesion belongs to.
            lesion: with a true or a propagated follow-up point.
            geometry: of the follow-up's file.
            plan: of the network, whose voxels the noise is counted in.

        Returns:
            Voxel index (x, y, z) of the follow-up's file.
        """
        is_propagated = self.source_of(lesion) is PointSource.PROPAGATED
        point = lesion.propagated_point_xyz if is_propagated else lesion.followup_point_xyz
        assert point is not None, "lesions of evaluation pairs have a follow-up point"
        if not self.noise_voxels:
            return point
        return _shifted(point, self._offset(pair, lesion), geometry, plan)

    def _offset(self, pair: EvaluationPair, lesion: RawLesion) -> Vector:
        random = np.random.default_rng([self.seed, zlib.crc32(pair.name.encode()), lesion.lesion_id])
        z, y, x = random.integers(-self.noise_voxels, self.noise_voxels, 3, endpoint=True).tolist()
        return (z, y, x)


def _shifted(point_xyz: Vector, offset_zyx: Vector, geometry: Geometry, plan: Plan) -> Vector:
    """A point shifted by whole voxels of the network grid, and kept inside of it."""
    grid = prepared_grid(geometry, geometry, plan)
    axial = geometry.axial_map()
    point = grid.axes.point(axial.point(flip_order(point_xyz), geometry.shape_zyx), grid.axial_shape_zyx)
    shifted = [
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
    back = grid.axes.inverse().point(shifted, grid.source_shape)
    z, y, x = axial.inverse().point(back, grid.axial_shape_zyx)
    return (x, y, z)


def _step(position: float, step: float, size: int) -> float:
    """A network coordinate shifted by whole voxels, within the image and clear of the faces of its voxel."""
    voxel = min(max(int(position), 0), size - 1)
    fraction = min(max(position - voxel, _CLEARANCE), 1 - _CLEARANCE)
    return min(max(voxel + step, 0), size - 1) + fraction
