"""Points of one scan on another scan's grid, and which follow-up scan answers a lesion."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ..case.geometry import FloatArray, Geometry
from ..errors import one_line
from .register import Registration, Transform

log = logging.getLogger(__name__)

CLIP_LIMIT_MM = 5.0
"""A point at most this far outside of a scan is moved to its border; further out the scan misses it."""

SHARED_LIMIT_MM = 10.0
"""Scans whose depths differ by less both answer a lesion (interface, odd input)."""


class Direction(StrEnum):
    """From which time point to which."""

    TO_FOLLOWUP = "to-followup"
    TO_BASELINE = "to-baseline"


def propagate_points(
    points_zyx: npt.ArrayLike,
    source: Geometry,
    target: Geometry,
    transform: Transform,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> FloatArray:
    """Voxel indices (N, 3), z, y, x, on the source's grid -> the same places on the target's grid.

    The source is the baseline when going TO_FOLLOWUP, else the follow-up. The answer (N, 3) is in
    fractions of voxels and may lie outside of the target: see `choose_scans` and ``Geometry.depth_mm``.
    """
    points = np.asarray(points_zyx, np.float64).reshape(-1, 3)
    world_mm = source.voxel_to_world(points[:, ::-1])
    if direction is Direction.TO_FOLLOWUP:
        moved_mm = transform.moving_to_fixed(world_mm)
    else:
        moved_mm = transform.fixed_to_moving(world_mm)
    return np.ascontiguousarray(target.world_to_voxel(moved_mm)[:, ::-1])


def refine_near(
    points_zyx: npt.ArrayLike,
    source: Geometry,
    target: Geometry,
    registration: Registration,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> Registration:
    """The registration with the transform to use round the given points of the source, see `near`.

    Points (N, 3) are voxel indices, z, y, x. The answer has no ``refine`` left: it can be asked for other
    things (boxes, masks, perturbed points) near the same points without a second closer look. Where the
    back end fails at that, or no point lies in the follow-up, it is the registration as it was.
    """
    if registration.refine is None:
        return registration
    points = np.asarray(points_zyx, np.float64).reshape(-1, 3)
    fixed = source
    if direction is Direction.TO_FOLLOWUP:
        points, fixed = propagate_points(points, source, target, registration.transform, direction), target
    depths_mm = np.asarray([fixed.depth_mm(point) for point in points.tolist()])
    seen = points[depths_mm >= -CLIP_LIMIT_MM]  # a depth of NaN is not
    coarse = replace(registration, refine=None)
    if len(seen) == 0:
        return coarse
    try:
        return replace(coarse, transform=registration.near(fixed.voxel_to_world(seen[:, ::-1])))
    except Exception as error:  # the whole is known well enough, so that no lesion is lost for this
        log.warning(
            "the closer look round the lesions failed, the whole scan's is used (%s)", one_line(error)
        )
        log.debug("", exc_info=error)
        return coarse


def choose_scans(depths_mm: Sequence[float]) -> tuple[int, ...]:
    """Indices of the follow-up scans that answer a lesion, the deepest first, none when out of view.

    ``depths_mm`` holds ``Geometry.depth_mm`` of the lesion's point in each follow-up scan, the primary's
    first. Scans that the point misses by more than 5 mm are never chosen (nor is a depth of NaN). Of the
    others the deepest answers, with each that is less than 10 mm shallower; the primary leads on a tie.
    """
    seen = [index for index, depth in enumerate(depths_mm) if depth >= -CLIP_LIMIT_MM]
    if not seen:
        return ()
    deepest = max(depths_mm[index] for index in seen)
    near = [index for index in seen if deepest - depths_mm[index] < SHARED_LIMIT_MM]
    return tuple(sorted(near, key=lambda index: (-depths_mm[index], index)))
