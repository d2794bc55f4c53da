"""Refinement of a registration near points: small boxes at finer spacing, composed one after the other."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import numpy.typing as npt

from ...case.geometry import Box, FloatArray, Geometry
from ...errors import one_line
from . import RegistrationImage, Transform
from .convex import Search, convex_adam
from .field import FieldTransform, compose_transforms, folding_share, voxel_centres_mm
from .linear import LinearTransform
from .similarity import FOLDING_LIMIT
from .warp import PairOnGrid, SmoothedScan, normalise_locally

log = logging.getLogger(__name__)

_SIDE_VOXELS = 60
_FINEST_MM = 1.5
# The displacements of a box fade to zero over this share of its sides.
_FADE = 0.2
# A point in the middle half of a box needs no other box.
_CORE = 0.5
_SEARCH = Search(step=4, reach=2)
# A box is worth its time if its voxels are smaller than those of the registration by this factor.
_WORTH = 1.2
# Margin around a box in both scans, for neighbourhoods and displacements.
_MARGIN_MM = 20.0
_NEIGHBOURHOOD_MM = 10.0


@dataclass
class Refiner:
    """Adds boxes to a transform as needed for points, each registered on top of the previous ones.

    Thread-safe.

    Attributes:
        fixed: the follow-up.
        moving: the baseline.
        start: the transform to refine.
        working_mm: spacing at which ``start`` was estimated.
        device: cpu, cuda or cuda:N.
    """

    fixed: RegistrationImage
    moving: RegistrationImage
    start: Transform
    working_mm: float
    device: str
    _transform: Transform = field(init=False)
    _tried: list[FloatArray] = field(init=False, default_factory=list)
    _lock: Lock = field(init=False, default_factory=Lock)

    def __post_init__(self) -> None:
        self._transform = self.start

    @property
    def spacing_mm(self) -> float:
        """Spacing of the boxes: the finer axes of both scans, at least 1.5 mm."""
        return max(_FINEST_MM, *(min(scan.geometry.spacing_xyz) for scan in (self.fixed, self.moving)))

    @property
    def is_worth_it(self) -> bool:
        """Boxes are sufficiently finer than the registration."""
        return self.working_mm >= _WORTH * self.spacing_mm

    def near(self, points_mm: npt.ArrayLike) -> Transform:
        """Return the transform with boxes around all points (N, 3) of the follow-up, LPS mm."""
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        with self._lock:
            if self.is_worth_it:
                for point in points[np.isfinite(points).all(axis=1)]:
                    if not self._is_covered(point):
                        self._tried.append(point)
                        log.info(
                            "refining near a point at %.1f mm (box %d)", self.spacing_mm, len(self._tried)
                        )
                        self._add(point)
            return self._transform

    def _is_covered(self, point: FloatArray) -> bool:
        half_mm = _CORE * _SIDE_VOXELS * self.spacing_mm / 2
        return any((np.abs(point - centre) <= half_mm).all() for centre in self._tried)

    def _add(self, centre_mm: FloatArray) -> None:
        try:
            field = self._register_box(centre_mm)
        except (RuntimeError, MemoryError) as error:  # the transform so far remains valid
            log.warning("the registration could not be refined near a point: %s", one_line(error))
            return
        if field is not None:
            self._transform = compose_transforms(field, self._transform)

    def _register_box(self, centre_mm: FloatArray) -> FieldTransform | None:
        """Displacements of one box, to be applied before the transform so far; None if that is no better."""
        grid = _box_grid(centre_mm, self.spacing_mm)
        centres_mm = voxel_centres_mm(grid)
        scans = [
            _cut(scan, points_mm, self.spacing_mm)
            for scan, points_mm in (
                (self.fixed, centres_mm),
                (self.moving, self._transform.fixed_to_moving(centres_mm)),
            )
        ]
        if scans[0] is None or scans[1] is None:
            return None
        pair = PairOnGrid.of(grid, scans[0], scans[1], self._transform)
        if not (pair.fixed_seen & pair.moving_seen).any():
            return None
        u = convex_adam(pair.fixed, pair.moving, self.spacing_mm, _SEARCH, self.device)
        field = FieldTransform(LinearTransform.identity(), u * _taper(grid)[..., None], grid)
        after = PairOnGrid.of(grid, scans[0], scans[1], compose_transforms(field, self._transform))
        if folding_share(field) > FOLDING_LIMIT or not _likeness(after) > _likeness(pair):
            log.debug("a box at %s does not improve the registration", np.round(centre_mm))
            return None
        return field


def _box_grid(centre_mm: FloatArray, spacing_mm: float) -> Geometry:
    ox, oy, oz = (float(v) for v in centre_mm - (_SIDE_VOXELS - 1) / 2 * spacing_mm)
    sides = (_SIDE_VOXELS, _SIDE_VOXELS, _SIDE_VOXELS)
    return Geometry(sides, (spacing_mm, spacing_mm, spacing_mm), (ox, oy, oz))


def _cut(scan: RegistrationImage, points_mm: FloatArray, spacing_mm: float) -> SmoothedScan | None:
    """The part of a scan around points, smoothed; None if they all lie outside."""
    geometry = scan.geometry
    voxels = geometry.world_to_voxel(points_mm)[:, ::-1]
    margin = _MARGIN_MM / np.asarray(geometry.spacing_zyx)
    low, high = np.floor(voxels.min(axis=0) - margin), np.ceil(voxels.max(axis=0) + margin) + 1
    z0, y0, x0 = (int(v) for v in low)
    z1, y1, x1 = (int(v) for v in high)
    box = Box((z0, y0, x0), (z1, y1, x1)).intersection(Box.of_shape(geometry.shape_zyx))
    if box.is_empty:
        return None
    return SmoothedScan.of(RegistrationImage(scan.array[box.slices], geometry.cropped(box)), spacing_mm)


def _taper(grid: Geometry) -> npt.NDArray[np.float32]:
    """Weights (z, y, x): 1 in the middle, falling smoothly to 0 at the border."""
    sides = []
    for n in grid.shape_zyx:
        depth = np.minimum(np.arange(n), np.arange(n)[::-1]) / (_FADE * n)
        sides.append(np.sin(np.clip(depth, 0, 1) * np.pi / 2) ** 2)
    z, y, x = sides
    return np.asarray(z[:, None, None] * y[:, None] * x, np.float32)


def _likeness(pair: PairOnGrid) -> float:
    """Minus the mean squared difference of the normalised scans where both were measured."""
    seen, sigma = pair.fixed_seen & pair.moving_seen, _NEIGHBOURHOOD_MM / pair.grid.spacing_xyz[0]
    fixed, moving = (normalise_locally(hu, seen, sigma)[seen] for hu in (pair.fixed, pair.moving))
    return -float(np.mean((fixed - moving) ** 2)) if seen.any() else -np.inf
