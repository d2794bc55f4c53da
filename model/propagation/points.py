"""Points of one scan on another scan's grid, and which follow-up scan answers a lesion."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..case.geometry import Array, FloatArray, Geometry
from ..errors import one_line
from .register import Backend, Registration, RegistrationImage, Transform, backend

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


def refined_near(
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


class RegistrableScan(Protocol):
    """What registration needs of a scan (``model.case.case.Scan`` has it)."""

    @property
    def ct(self) -> Array: ...

    @property
    def geometry(self) -> Geometry: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RegistrationRecord:
    """What a run says of one registration."""

    followup: str
    baseline: str
    seconds: float
    similarity: float
    is_reliable: bool
    warnings: tuple[str, ...]


class RegistrationCache:
    """One registration per pair of scans, computed when first asked for and used by all lesions.

    Safe to ask from several threads: the second to ask for a pair waits for the first. Scans are told
    apart by identity, and are kept alive as long as the cache.
    """

    def __init__(self, method: Backend | None = None) -> None:
        self._backend = method or backend()
        self._lock = Lock()
        self._pending: dict[tuple[int, int], Future[Registration]] = {}
        self._scans: dict[int, RegistrableScan] = {}
        self._records: list[RegistrationRecord] = []

    def get(self, followup: RegistrableScan, baseline: RegistrableScan) -> Registration:
        """The registration of the baseline (moving) to the follow-up (fixed).

        An error of the back end is raised to everyone who asks for that pair.
        """
        key = (id(followup), id(baseline))
        with self._lock:
            future = self._pending.get(key)
            is_first = future is None
            if future is None:
                future = self._pending[key] = Future()
                self._scans |= {id(followup): followup, id(baseline): baseline}
        if is_first:
            self._run(future, followup, baseline)
        return future.result()

    @property
    def records(self) -> tuple[RegistrationRecord, ...]:
        """Of each registration done so far, in the order in which they ended."""
        with self._lock:
            return tuple(self._records)

    def _run(
        self, future: Future[Registration], followup: RegistrableScan, baseline: RegistrableScan
    ) -> None:
        start = time.perf_counter()
        try:
            registration = self._backend.register(
                RegistrationImage(followup.ct, followup.geometry, followup.name),
                RegistrationImage(baseline.ct, baseline.geometry, baseline.name),
            )
        except BaseException as error:
            future.set_exception(error)
            return
        record = RegistrationRecord(
            followup.name,
            baseline.name,
            time.perf_counter() - start,
            registration.similarity,
            registration.is_reliable,
            registration.warnings,
        )
        with self._lock:
            self._records.append(record)
        future.set_result(registration)
