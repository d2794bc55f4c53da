"""Propagation of points between scans, and the choice of the follow-up scans that show a lesion."""

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
"""A point at most this far outside of a scan is moved to its border; further out it is out of view."""

SHARED_LIMIT_MM = 10.0
"""If the depths of a lesion in two scans differ by less, it is segmented in both."""


class Direction(StrEnum):
    """Direction of propagation in time."""

    TO_FOLLOWUP = "to-followup"
    TO_BASELINE = "to-baseline"


def propagate_points(
    points_zyx: npt.ArrayLike,
    source: Geometry,
    target: Geometry,
    transform: Transform,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> FloatArray:
    """Propagate points from the grid of one scan to the grid of another.

    Args:
        points_zyx: (N, 3) voxel indices z, y, x on the source, fractions allowed.
        source: grid of the baseline if ``direction`` is TO_FOLLOWUP, otherwise of the follow-up.
        target: grid of the other scan.
        transform: follow-up (fixed) to baseline (moving), in world coordinates, LPS mm.
        direction: from which of the two scans to which.

    Returns:
        (N, 3) voxel indices z, y, x on the target, fractional and possibly outside of it; see `choose_scans`
        and ``Geometry.depth_mm``.
    """
    points = np.asarray(points_zyx, np.float64).reshape(-1, 3)
    world_mm = source.voxel_to_world(points[:, ::-1])
    if direction is Direction.TO_FOLLOWUP:
        propagated_mm = transform.moving_to_fixed(world_mm)
    else:
        propagated_mm = transform.fixed_to_moving(world_mm)
    return np.ascontiguousarray(target.world_to_voxel(propagated_mm)[:, ::-1])


def refine_near(
    points_zyx: npt.ArrayLike,
    source: Geometry,
    target: Geometry,
    registration: Registration,
    direction: Direction = Direction.TO_FOLLOWUP,
) -> Registration:
    """Refine a registration near the given points, see `Registration.near`.

    Args:
        points_zyx: (N, 3) voxel indices z, y, x on the source.
        source: grid of the scan to propagate from.
        target: grid of the scan to propagate to.
        registration: of the pair, the follow-up as the fixed scan.
        direction: from which of the two scans to which.

    Returns:
        The registration with the refined transform and without ``refine``, so that boxes, masks and
        perturbed points near the same points use it without refining again. If the back end fails to refine,
        or no point lies in the follow-up, the transform is the unrefined one.
    """
    if registration.refine is None:
        return registration
    points = np.asarray(points_zyx, np.float64).reshape(-1, 3)
    fixed = source
    if direction is Direction.TO_FOLLOWUP:
        points, fixed = propagate_points(points, source, target, registration.transform, direction), target
    depths_mm = np.asarray([fixed.depth_mm(point) for point in points.tolist()])
    visible = points[depths_mm >= -CLIP_LIMIT_MM]  # excludes depths of NaN
    coarse = replace(registration, refine=None)
    if len(visible) == 0:
        return coarse
    try:
        return replace(coarse, transform=registration.near(fixed.voxel_to_world(visible[:, ::-1])))
    except Exception as error:  # the unrefined registration is good enough to lose no lesion
        log.warning(
            "refining near the lesions failed, the registration of the whole scan is used (%s)",
            one_line(error),
        )
        log.debug("", exc_info=error)
        return coarse


def choose_scans(depths_mm: Sequence[float]) -> tuple[int, ...]:
    """Choose the follow-up scans in which to segment a lesion.

    Scans that miss the point by more than 5 mm (or whose depth is NaN) are never chosen. Of the others the
    deepest is, with each that is less than 10 mm shallower.

    Args:
        depths_mm: ``Geometry.depth_mm`` of the lesion's point in each follow-up scan, the primary first.

    Returns:
        Indices of the scans, the deepest first, the primary on a tie; empty if the lesion is out of view.
    """
    visible = [index for index, depth in enumerate(depths_mm) if depth >= -CLIP_LIMIT_MM]
    if not visible:
        return ()
    deepest = max(depths_mm[index] for index in visible)
    near = [index for index in visible if deepest - depths_mm[index] < SHARED_LIMIT_MM]
    return tuple(sorted(near, key=lambda index: (-depths_mm[index], index)))
