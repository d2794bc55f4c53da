"""How far a propagated point may be off, in mm, and whether anybody should look at it.

Nobody knows the error of a point for which there is no truth; three things tell of it. How far the point
comes back from where it began when another registration of the same scans, the other way round, takes it
back (inverse consistency). How irregular the mapping is round the point: points moved by a few mm must
arrive moved likewise ([Garibli2025] perturbs prompts so). And how alike the scans are once aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.geometry import FloatArray, Geometry, Vector
from .points import Direction, propagate_points, refine_near
from .register import Registration


@dataclass(frozen=True, slots=True)
class ConfidenceOptions:
    """What goes into the estimate, and from where on a point is flagged.

    ``confidence_mm`` is the root of the sum of four squares: ``floor_mm``, which no registration beats;
    ``spread_weight`` times the spread of points ``perturbation_mm`` away; ``inconsistency_weight`` times the
    way missing there and back; and ``dissimilarity_mm`` times the root of what the correlation of the
    aligned scans lacks of 1, as that falls with the square of a displacement. Of rigid, affine and B-spline
    registrations of two pairs of CTs of the lung, 1 to 7 mm off their landmarks at correlations of 0.82 to
    0.99, the default estimates are 0.5 to 2.5 times the mean error. Beyond ``flag_mm`` a point is
    flagged.
    """

    perturbation_mm: float = 5.0
    floor_mm: float = 1.0
    spread_weight: float = 1.0
    inconsistency_weight: float = 1.0
    dissimilarity_mm: float = 20.0
    flag_mm: float = 10.0


# These believe what they are given: the other way round they would agree with themselves, or not work.
_GIVEN = frozenset({"identity", "landmarks", "landmarks-rigid", "transform"})


def is_estimated(backend_name: str) -> bool:
    """Whether a back end of this name (see `backend`) finds its transform in the images.

    Only then does registering the pair the other way round tell anything new.
    """
    return backend_name.partition(":")[0] not in _GIVEN


@dataclass(frozen=True, slots=True)
class PropagatedPoint:
    """A point on the target's grid (voxel index z, y, x, perhaps outside of it) and what to think of it.

    ``confidence_mm`` estimates its error, infinite where the mapping loses the point (which then is NaN) or
    those round it. ``in_view`` says whether it lies in the target's field of view (depth of 0 mm or more).
    ``is_flagged`` marks points to look at: out of view, badly known, or by a registration that says itself
    that it is a fall-back.
    """

    point_zyx: Vector
    confidence_mm: float
    in_view: bool
    is_flagged: bool


def propagate_with_confidence(
    points_zyx: npt.ArrayLike,
    source: Geometry,
    target: Geometry,
    registration: Registration,
    direction: Direction = Direction.TO_FOLLOWUP,
    reverse: Registration | None = None,
    options: ConfidenceOptions | None = None,
) -> list[PropagatedPoint]:
    """Voxel indices (N, 3), z, y, x, on the source's grid -> their places on the target's, in their order.

    ``registration`` has the follow-up as fixed, whatever the ``direction``. ``reverse`` has the baseline as
    fixed and was estimated on its own; without it inverse consistency is left out, as the exact inverse of
    the same transform would always agree. A ``reverse`` that is only a fall-back says nothing about mm, and
    flags the points. No point, however odd, spoils another.
    """
    options = options or ConfidenceOptions()
    points = np.asarray(points_zyx, np.float64).reshape(-1, 3)
    way = _Way(source, target, refine_near(points, source, target, registration, direction), direction)
    moved = way.moved(points)
    squares = options.floor_mm**2 + (options.spread_weight * _spread_mm(points, moved, way, options)) ** 2
    if np.isfinite(registration.similarity):
        squares += options.dissimilarity_mm**2 * max(0.0, 1.0 - registration.similarity)
    is_doubtful = not registration.is_reliable
    if is_doubtful and not np.isfinite(registration.similarity):
        squares += np.inf  # nothing could be compared: the point may be anywhere
    if reverse is not None and reverse.is_reliable:
        # Seen by the reverse registration the baseline is the follow-up: its way back from the target to
        # the source has the same name as the way there.
        back = _Way(target, source, refine_near(moved, target, source, reverse, direction), direction)
        missing_mm = np.linalg.norm(_world(back.moved(moved), source) - _world(points, source), axis=1)
        squares += (options.inconsistency_weight * missing_mm) ** 2
    elif reverse is not None:
        is_doubtful = True
    confidence = np.where(np.isfinite(squares), np.sqrt(squares), np.inf)
    return [
        _judged(point, float(error_mm), target, is_doubtful, options.flag_mm)
        for point, error_mm in zip(moved.tolist(), confidence, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Way:
    """From the grid of one scan to that of another."""

    source: Geometry
    target: Geometry
    registration: Registration
    direction: Direction

    def moved(self, points: FloatArray) -> FloatArray:
        """`propagate_points` of the finite ones; the others are NaN, and never reach a back end's code."""
        moved = np.full(points.shape, np.nan)
        finite = np.isfinite(points).all(axis=1)
        moved[finite] = propagate_points(
            points[finite], self.source, self.target, self.registration.transform, self.direction
        )
        return moved


def _judged(
    point: Sequence[float], confidence_mm: float, target: Geometry, is_doubtful: bool, flag_mm: float
) -> PropagatedPoint:
    z, y, x = point
    if not np.isfinite(point).all():
        return PropagatedPoint((np.nan,) * 3, np.inf, in_view=False, is_flagged=True)
    in_view = target.depth_mm((z, y, x)) >= 0
    is_flagged = is_doubtful or not in_view or confidence_mm > flag_mm
    return PropagatedPoint((z, y, x), confidence_mm, in_view, is_flagged)


def _spread_mm(points: FloatArray, moved: FloatArray, way: _Way, options: ConfidenceOptions) -> FloatArray:
    """How far from rigid the mapping is round each point: root mean square, (N,) mm.

    Points moved by ``perturbation_mm`` in twelve directions are propagated, and the move is undone by the
    rotation that fits best. Turning is no sign of error; stretching, bending, tearing and folding are.
    """
    steps = options.perturbation_mm * _DIRECTIONS
    around_mm = _world(points, way.source)[:, None] + steps
    arrived = way.moved(way.source.world_to_voxel(around_mm.reshape(-1, 3))[:, ::-1])
    apart = _world(arrived, way.target).reshape(-1, len(steps), 3) - _world(moved, way.target)[:, None]
    spread = np.full(len(points), np.nan)
    finite = np.isfinite(apart).all(axis=(1, 2))
    left = apart[finite] - steps @ _rotations(steps, apart[finite]).transpose(0, 2, 1)
    spread[finite] = np.sqrt(np.mean(np.sum(left**2, axis=2), axis=1))
    return spread


def _rotations(steps: FloatArray, apart: FloatArray) -> FloatArray:
    """For each point the rotation (N, 3, 3) that best takes the steps (K, 3) to what they became (N, K, 3).

    Kabsch's least squares: the proper rotation nearest to the local linear map.
    """
    u, _, vt = np.linalg.svd(np.einsum("nki,kj->nij", apart, steps))
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    rotations: FloatArray = u @ vt
    return rotations


def _world(points_zyx: FloatArray, geometry: Geometry) -> FloatArray:
    return geometry.voxel_to_world(points_zyx[:, ::-1])


def _icosahedron() -> FloatArray:
    """Twelve unit vectors, spread evenly and in opposite pairs, (12, 3)."""
    golden = (1 + 5**0.5) / 2
    flat = [(0.0, one, other) for one in (-1.0, 1.0) for other in (-golden, golden)]
    corners = [np.roll(corner, turn) for corner in flat for turn in range(3)]
    return np.asarray(corners) / np.hypot(1, golden)


_DIRECTIONS = _icosahedron()
