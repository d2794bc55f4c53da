"""Registrations of pairs of scans: each pair is registered once, for all lesions and time points."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy.typing as npt

from ..case.case import Scan
from ..case.geometry import Array, FloatArray, Geometry, Vector
from ..errors import one_line
from ..progress import report_progress
from .confidence import ConfidenceOptions
from .points import Direction, refine_near
from .register import Backend, Registration, RegistrationImage, Transform, backend

if TYPE_CHECKING:
    from .register.local_match import LocalMatch

log = logging.getLogger(__name__)


class RegistrableScan(Protocol):
    """The part of a scan that registration uses (``model.case.case.Scan`` implements it)."""

    @property
    def ct(self) -> Array:
        """HU, (z, y, x)."""
        ...

    @property
    def geometry(self) -> Geometry:
        """Grid of ``ct``."""
        ...

    @property
    def name(self) -> str:
        """Name by which back ends that read files look up the scan."""
        ...


@dataclass(frozen=True, slots=True)
class RegistrationRecord:
    """Entry of a run report for one registration; ``similarity`` as in `Registration`."""

    followup: str
    baseline: str
    seconds: float
    similarity: float
    is_reliable: bool
    warnings: tuple[str, ...]


class RegistrationCache:
    """One registration per pair of scans, computed on first use and shared by all lesions.

    Thread-safe: a second thread that needs the same pair waits for the first one. Scans are distinguished by
    identity and are kept alive as long as the cache.
    """

    def __init__(self, method: Backend | None = None) -> None:
        self._backend = method or backend()
        self._lock = Lock()
        self._pending: dict[tuple[int, int], Future[Registration]] = {}
        self._scans: dict[int, RegistrableScan] = {}
        self._records: list[RegistrationRecord] = []

    def get(self, followup: RegistrableScan, baseline: RegistrableScan) -> Registration:
        """Return the registration of the baseline (moving) to the follow-up (fixed).

        An error of the back end is raised again on each request for that pair.
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
        """One record per completed registration, in order of completion."""
        with self._lock:
            return tuple(self._records)

    def _run(
        self, future: Future[Registration], followup: RegistrableScan, baseline: RegistrableScan
    ) -> None:
        start = time.perf_counter()
        report_progress("registration", 0, 1)
        try:
            fixed, moving = (
                RegistrationImage(scan.ct, scan.geometry, scan.name) for scan in (followup, baseline)
            )
            registration = with_ambiguity(self._backend.register(fixed, moving), fixed, moving)
        except BaseException as error:
            future.set_exception(error)
            return
        report_progress("registration", 1, 1)
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


def with_ambiguity(
    registration: Registration, fixed: RegistrationImage, moving: RegistrationImage
) -> Registration:
    """Add `Registration.ambiguity`, which compares the scans on its first use."""

    @cache
    def match() -> LocalMatch:
        from .register.local_match import LocalMatch  # imports SimpleITK

        return LocalMatch.of(fixed, moving)

    def ambiguity(points_mm: npt.ArrayLike, transform: Transform) -> FloatArray:
        return match().ambiguity_mm(points_mm, transform)

    return replace(registration, ambiguity=ambiguity)


class PairError(Exception):
    """Two scans could not be registered with each other."""


@dataclass
class PairRegistrations:
    """Registrations between scans of several time points, refined once near all points of a pair.

    Announce the points to be propagated with `expect` before the first call of `get`, so that a back end
    that refines near lesions does it once for all lesions of the pair.

    Attributes:
        cache: registrations made so far; may be shared.
        position: position in time of a scan. The later scan of a pair is the fixed one.
        there_and_back: register each pair in the opposite direction as well, see `reverse`.
        options: parameters of the confidence estimates.
        allow_incomparable: accept the fall-back transform of a pair of which nothing could be compared
            (similarity is NaN); otherwise such a pair fails.
    """

    cache: RegistrationCache
    position: Callable[[Scan], int]
    there_and_back: bool = False
    options: ConfidenceOptions = field(default_factory=ConfidenceOptions)
    allow_incomparable: bool = False
    _expected: defaultdict[tuple[int, int], list[Vector]] = field(init=False)
    _refined: dict[tuple[int, int], Registration] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._expected = defaultdict(list)

    @property
    def records(self) -> tuple[RegistrationRecord, ...]:
        """One record per completed registration, in order of completion."""
        return self.cache.records

    def expect(self, source: Scan, target: Scan, points_zyx: Iterable[Vector]) -> None:
        """Announce points that may be propagated from one scan to another.

        Args:
            source: scan on which the points lie.
            target: the other scan.
            points_zyx: voxel indices z, y, x on the source.
        """
        self._expected[id(source), id(target)] += points_zyx

    def get(self, source: Scan, target: Scan) -> tuple[Registration, Direction]:
        """Return the registration of two scans, refined near the expected points, and the direction.

        Raises:
            PairError: the back end failed, or nothing could be compared (see ``allow_incomparable``).
        """
        registration, direction = self.unrefined(source, target)
        key = id(source), id(target)
        if key not in self._refined:
            self._refined[key] = refine_near(
                self._expected[key], source.geometry, target.geometry, registration, direction
            )
        return self._refined[key], direction

    def unrefined(self, source: Scan, target: Scan) -> tuple[Registration, Direction]:
        """Return the registration as it came from the back end, and the direction; raises as `get`."""
        later, earlier = self._in_time(source, target)
        direction = Direction.TO_FOLLOWUP if later is target else Direction.TO_BASELINE
        return self._registered(later, earlier), direction

    def reverse(self, source: Scan, target: Scan) -> Registration | None:
        """Return the independent registration of the pair with the earlier scan as the fixed one.

        None if ``there_and_back`` is off or that registration fails.
        """
        later, earlier = self._in_time(source, target)
        if not self.there_and_back:
            return None
        try:
            return self._registered(earlier, later)
        except PairError as error:
            log.warning("%s; inverse consistency is not measured", error)
            return None

    def _in_time(self, source: Scan, target: Scan) -> tuple[Scan, Scan]:
        """The later and the earlier scan."""
        is_forward = self.position(source) < self.position(target)
        return (target, source) if is_forward else (source, target)

    def _registered(self, fixed: Scan, moving: Scan) -> Registration:
        done = len(self.records)
        try:
            registration = self.cache.get(fixed, moving)
        except Exception as error:
            log.debug("", exc_info=error)
            raise PairError(_unregistered(fixed, moving, one_line(error))) from error
        for record in self.records[done:]:
            log.info(
                "%s and %s: registered in %.1f s, similarity %.2f",
                record.followup,
                record.baseline,
                record.seconds,
                record.similarity,
            )
        is_incomparable = not registration.is_reliable and not math.isfinite(registration.similarity)
        if is_incomparable and not self.allow_incomparable:
            # The first clause of a warning is the finding; the next one describes the fall-back, unused here.
            findings = [warning.split(";")[0] for warning in registration.warnings]
            raise PairError(_unregistered(fixed, moving, "; ".join(findings) or "nothing could be compared"))
        return registration


def _unregistered(fixed: Scan, moving: Scan, reason: str) -> str:
    return f"{fixed.name} could not be registered with {moving.name}: {reason}"
