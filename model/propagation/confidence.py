"""Estimated errors of propagated points in mm, and flags for points that should be checked.

The error of a patient's point is unknown. It is estimated from

- inverse consistency: how far the point ends from its origin if an independent registration of the same
  scans in the opposite direction takes it back;
- regularity of the mapping: neighbours of the point, a few mm away, must keep their relative positions
  (LinGuinE, [Garibli2025], perturbs prompts in this way);
- ambiguity: how far around the point the scans match as well as at the point itself;
- similarity of the aligned scans.

Weights are such that nine of ten errors of the default back end are below its estimates, whether these are
small or large (`test.benchmark.robustness`). A rigid or affine transform cannot follow the deformation of the
body, which none of the terms sees: its estimates have a factor of their own, by the same measurement.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.geometry import FloatArray, Geometry, Vector
from ..errors import one_line
from .points import Direction, propagate_points, refine_near
from .register import Registration
from .register.linear import LinearTransform

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfidenceOptions:
    """Parameters of the estimated error ``confidence_mm``: a factor times the root of five squares' sum.

    Attributes:
        perturbation_mm: distance of the perturbed points from the point.
        floor_mm: first term, an error below which no registration is.
        spread_weight: factor of the second term, the spread of the perturbed points in mm.
        inconsistency_weight: factor of the third term, the inverse inconsistency in mm.
        dissimilarity_mm: factor of the fourth term, the root of 1 - correlation of the aligned scans (the
            correlation falls with the square of a displacement).
        ambiguity_weight: factor of the fifth term, the ambiguity in mm, see `Registration.ambiguity`.
        linear_factor: of estimates by a rigid or affine transform, also one that a deformable back end falls
            back to; 1 for all others.
        unseen_ambiguity_mm: ambiguity of points around which too little is in both scans.
        flag_mm: points with a larger ``confidence_mm`` are flagged.
    """

    perturbation_mm: float = 5.0
    floor_mm: float = 1.0
    spread_weight: float = 3.0
    inconsistency_weight: float = 1.0
    dissimilarity_mm: float = 10.0
    ambiguity_weight: float = 0.5
    linear_factor: float = 1.8
    unseen_ambiguity_mm: float = 16.0
    flag_mm: float = 10.0


# These take the transform from the user: in the opposite direction they agree with themselves, or fail.
_GIVEN = frozenset({"identity", "landmarks", "landmarks-rigid", "transform"})


def is_estimated(backend_name: str) -> bool:
    """Check if the back end of this name (see `backend`) estimates its transform from the images.

    Only then is a registration in the opposite direction independent of the first one.
    """
    return backend_name.partition(":")[0] not in _GIVEN


@dataclass(frozen=True, slots=True)
class PropagatedPoint:
    """A propagated point with its estimated error.

    Attributes:
        point_zyx: voxel index z, y, x on the target, possibly outside of it; NaN if the mapping loses it.
        confidence_mm: estimated error; infinite if the mapping loses the point or its neighbours.
        in_view: the point lies in the target's field of view (depth of 0 mm or more).
        is_flagged: the point should be checked, as it is out of view, its estimated error is large, or the
            registration is only a fall-back.
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
    """Propagate points and estimate their errors, each independently of the others.

    Args:
        points_zyx: (N, 3) voxel indices z, y, x on the source.
        source: grid of the scan to propagate from.
        target: grid of the scan to propagate to.
        registration: of the pair, the follow-up as the fixed scan for either ``direction``.
        direction: from which of the two scans to which.
        reverse: independent registration of the pair with the baseline as the fixed scan. None leaves out
            inverse consistency, as the exact inverse of a transform always agrees with it. If it is only a
            fall-back, it adds no mm but flags the points.
        options: parameters of the estimate.

    Returns:
        The propagated points, in order.
    """
    options = options or ConfidenceOptions()
    points = np.asarray(points_zyx, np.float64).reshape(-1, 3)
    mapping = _Mapping(
        source, target, refine_near(points, source, target, registration, direction), direction
    )
    propagated = mapping.propagate(points)
    spread_mm = _spread_mm(points, propagated, mapping, options)
    squares = options.floor_mm**2 + (options.spread_weight * spread_mm) ** 2
    if np.isfinite(registration.similarity):
        squares += options.dissimilarity_mm**2 * max(0.0, 1.0 - registration.similarity)
    squares += (options.ambiguity_weight * _ambiguity_mm(points, propagated, mapping, options)) ** 2
    is_doubtful = not registration.is_reliable
    if is_doubtful and not np.isfinite(registration.similarity):
        squares += np.inf  # nothing could be compared: the error is unknown
    if reverse is not None and reverse.is_reliable:
        # In the reverse registration the baseline takes the role of the follow-up, so that propagating from
        # the target back to the source has the same direction.
        refined = refine_near(propagated, target, source, reverse, direction)
        back = _Mapping(target, source, refined, direction).propagate(propagated)
        inconsistency_mm = np.linalg.norm(_world(back, source) - _world(points, source), axis=1)
        squares += (options.inconsistency_weight * inconsistency_mm) ** 2
    elif reverse is not None:
        is_doubtful = True
    factor = options.linear_factor if isinstance(registration.transform, LinearTransform) else 1.0
    confidence = np.where(np.isfinite(squares), factor * np.sqrt(squares), np.inf)
    return [
        _flagged(point, float(error_mm), target, is_doubtful, options.flag_mm)
        for point, error_mm in zip(propagated.tolist(), confidence, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Mapping:
    """Mapping from the grid of one scan to that of another."""

    source: Geometry
    target: Geometry
    registration: Registration
    direction: Direction

    def propagate(self, points: FloatArray) -> FloatArray:
        """`propagate_points` for finite points; the others stay NaN and never reach a back end's code."""
        propagated = np.full(points.shape, np.nan)
        finite = np.isfinite(points).all(axis=1)
        propagated[finite] = propagate_points(
            points[finite], self.source, self.target, self.registration.transform, self.direction
        )
        return propagated


def _flagged(
    point: Sequence[float], confidence_mm: float, target: Geometry, is_doubtful: bool, flag_mm: float
) -> PropagatedPoint:
    z, y, x = point
    if not np.isfinite(point).all():
        return PropagatedPoint((np.nan,) * 3, np.inf, in_view=False, is_flagged=True)
    in_view = target.depth_mm((z, y, x)) >= 0
    is_flagged = is_doubtful or not in_view or confidence_mm > flag_mm
    return PropagatedPoint((z, y, x), confidence_mm, in_view, is_flagged)


def _spread_mm(
    points: FloatArray, propagated: FloatArray, mapping: _Mapping, options: ConfidenceOptions
) -> FloatArray:
    """Deviation of the mapping from a rigid one near each point: root mean square, (N,) mm.

    Points at ``perturbation_mm`` in twelve directions are propagated and compared with the best-fitting
    rotation of them. Rotation is no sign of error; stretching, bending, tearing and folding are.
    """
    steps = options.perturbation_mm * _DIRECTIONS
    perturbed_mm = _world(points, mapping.source)[:, None] + steps
    arrived = mapping.propagate(mapping.source.world_to_voxel(perturbed_mm.reshape(-1, 3))[:, ::-1])
    centres_mm = _world(propagated, mapping.target)[:, None]
    apart = _world(arrived, mapping.target).reshape(-1, len(steps), 3) - centres_mm
    spread = np.full(len(points), np.nan)
    finite = np.isfinite(apart).all(axis=(1, 2))
    residuals = apart[finite] - steps @ _rotations(steps, apart[finite]).transpose(0, 2, 1)
    spread[finite] = np.sqrt(np.mean(np.sum(residuals**2, axis=2), axis=1))
    return spread


def _ambiguity_mm(
    points: FloatArray, propagated: FloatArray, mapping: _Mapping, options: ConfidenceOptions
) -> FloatArray:
    """Ambiguity of the registration at each point, (N,) mm; 0 if the registration cannot measure it."""
    result = np.zeros(len(points))
    registration = mapping.registration
    if registration.ambiguity is None:
        return result
    is_forward = mapping.direction is Direction.TO_FOLLOWUP
    fixed_mm = _world(propagated, mapping.target) if is_forward else _world(points, mapping.source)
    known = np.isfinite(fixed_mm).all(axis=1)
    result[known] = options.unseen_ambiguity_mm
    try:
        measured = registration.ambiguity(fixed_mm[known], registration.transform)
    except Exception as error:  # places around a point that the back end cannot map do not lose the point
        log.warning("the scans could not be compared near the lesions (%s)", one_line(error))
        log.debug("", exc_info=error)
        return result
    result[known] = np.where(np.isfinite(measured), measured, options.unseen_ambiguity_mm)
    return result


def _rotations(steps: FloatArray, apart: FloatArray) -> FloatArray:
    """Rotations (N, 3, 3) that take the steps (K, 3) as near as possible to the propagated ones (N, K, 3).

    Least squares (Kabsch): the proper rotation nearest to the local linear map.
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
    units: FloatArray = np.asarray(corners) / np.hypot(1, golden)
    return units


_DIRECTIONS = _icosahedron()
