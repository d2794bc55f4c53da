"""Points, boxes and masks of lesions into the scans of another time point: one registration per pair."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..case.case import MaskPrompt, PromptPoint, Scan
from ..case.geometry import Box, Vector
from ..errors import one_line
from ..inference.components import point_voxel
from .confidence import ConfidenceOptions, PropagatedPoint, propagate_with_confidence
from .points import Direction, RegistrationCache, RegistrationRecord, propagate_points, refined_near
from .register import Backend, Registration
from .shapes import box_anchors, propagate_box, propagate_mask

log = logging.getLogger(__name__)

_NEAR_MM = ConfidenceOptions().flag_mm


@dataclass(frozen=True, eq=False)
class LesionState:
    """What is known of a lesion in a scan that has been answered, for those that come after it.

    ``scan`` is as it was read: registrations are told apart by it. ``context`` is the scan that the network
    sees as the baseline, whose mask shows the lesion where ``has_mask``; ``context_point`` lies on it.
    All others lie on ``scan``: ``mask`` and ``box`` where they are to be carried, ``others`` are further
    points of the lesion. ``doubt_mm`` is how far off the point itself may be.
    """

    scan: Scan
    point: PromptPoint
    context: Scan
    context_point: PromptPoint
    has_mask: bool
    mask: MaskPrompt | None = None
    box: Box | None = None
    others: tuple[Vector, ...] = ()
    doubt_mm: float = 0.0

    @property
    def has_shapes(self) -> bool:
        return self.box is not None or self.mask is not None or bool(self.others)

    def anchors(self) -> list[Vector]:
        """Points of all that may be carried, for a registration to look closer round."""
        boxes = [shape for shape in (self.box, self.mask.box if self.mask is not None else None) if shape]
        around = {anchor for box in boxes for anchor in box_anchors(box, self.scan.geometry)}
        return [self.point.point_zyx, *self.others, *sorted(around)]


@dataclass(frozen=True, eq=False)
class TransferRequest:
    """A lesion whose point is to be carried into a scan."""

    lesion_id: int
    known: LesionState
    target: Scan


@dataclass(frozen=True, eq=False)
class TransferredPoint:
    """A wish's answer: the point on the target's grid, which may lie outside of it, or why there is none.

    ``confidence_mm`` counts the whole way from where the point was last known by itself. ``is_reliable`` is
    the registration's own word.
    """

    wish: TransferRequest
    point: PropagatedPoint | None
    confidence_mm: float | None = None
    is_flagged: bool = False
    is_reliable: bool = True
    error: str = ""

    @property
    def depth_mm(self) -> float:
        """How deep in the target's field of view; NaN without a point."""
        if self.point is None:
            return math.nan
        return self.wish.target.geometry.depth_mm(self.point.point_zyx)


@dataclass(frozen=True, eq=False)
class TransferredShapes:
    """A lesion's box, mask and further points on the target's grid, where they could be carried there."""

    box: Box | None = None
    mask: MaskPrompt | None = None
    others: tuple[Vector, ...] = ()
    warnings: tuple[str, ...] = ()

    def near(self, point_zyx: Vector, spacing_zyx: Vector) -> TransferredShapes:
        """The same beside a point that somebody gave and that knows better: nothing where it is elsewhere.

        What lies within 10 mm is where a registration that is not flagged may put it.
        """
        z, y, x = (math.ceil(_NEAR_MM / spacing) for spacing in spacing_zyx)
        pz, py, px = point_voxel(point_zyx)
        here = Box((pz - z, py - y, px - x), (pz + z + 1, py + y + 1, px + x + 1))
        boxes = [self.box, self.mask.box if self.mask is not None else None]
        if all(box is None or not box.intersection(here).is_empty for box in boxes):
            return self
        text = "its box and mask are not carried over: they lie beside the point that was given"
        return TransferredShapes(warnings=(*self.warnings, text))


class PairError(Exception):
    """Two scans that say nothing of each other."""


@dataclass
class PairRegistrations:
    """The registrations that one time point asks for.

    ``times`` holds the place in time of each name. What lesions will be carried from a scan to another is
    told beforehand by `expect`, so that a back end that looks closer round lesions does it once for all.
    """

    backend: Backend
    times: Mapping[str, int]
    there_and_back: bool = False
    options: ConfidenceOptions = field(default_factory=ConfidenceOptions)
    _cache: RegistrationCache = field(init=False)
    _expected: defaultdict[tuple[int, int], list[Vector]] = field(init=False)
    _refined: dict[tuple[int, int], Registration] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._cache = RegistrationCache(self.backend)
        self._expected = defaultdict(list)

    @property
    def records(self) -> tuple[RegistrationRecord, ...]:
        return self._cache.records

    def expect(self, source: Scan, target: Scan, points_zyx: Iterable[Vector]) -> None:
        """Tell of points on the source's grid that may be carried to the target."""
        self._expected[id(source), id(target)] += points_zyx

    def get(self, source: Scan, target: Scan) -> tuple[Registration, Direction]:
        """The registration of two scans, the later one as the follow-up (fixed), and which way to go.

        Its transform is the one to use near the expected points.

        Raises:
            PairError: the back end raised, or found nothing to compare.
        """
        later, earlier = self._in_time(source, target)
        direction = Direction.TO_FOLLOWUP if later is target else Direction.TO_BASELINE
        key = id(source), id(target)
        if key not in self._refined:
            registration = self._registered(later, earlier)
            self._refined[key] = refined_near(
                self._expected[key], source.geometry, target.geometry, registration, direction
            )
        return self._refined[key], direction

    def reverse(self, source: Scan, target: Scan) -> Registration | None:
        """The same pair, registered the other way round; None where that is not wanted, or not possible."""
        later, earlier = self._in_time(source, target)
        if not self.there_and_back:
            return None
        try:
            return self._registered(earlier, later)
        except PairError as error:
            log.warning("%s; the way there and back is not measured", error)
            return None

    def _in_time(self, source: Scan, target: Scan) -> tuple[Scan, Scan]:
        """The later and the earlier one."""
        is_forward = self.times[source.time_point] < self.times[target.time_point]
        return (target, source) if is_forward else (source, target)

    def _registered(self, fixed: Scan, moving: Scan) -> Registration:
        done = len(self.records)
        try:
            registration = self._cache.get(fixed, moving)
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
        if not registration.is_reliable and not math.isfinite(registration.similarity):
            # The first clause says what was found, the next how a fall-back goes on, which is not done here.
            found = [warning.split(";")[0] for warning in registration.warnings]
            reason = "; ".join(found) or "nothing could be compared"
            raise PairError(_unregistered(fixed, moving, reason))
        return registration


def _unregistered(fixed: Scan, moving: Scan, reason: str) -> str:
    return f"{fixed.name} could not be registered with {moving.name}: {reason}"


def carry_points(
    wishes: Sequence[TransferRequest], pairs: PairRegistrations
) -> dict[int, list[TransferredPoint]]:
    """Answer each wish, by lesion id in the order of the wishes; a pair that fails is said in its answers."""
    by_pair: defaultdict[tuple[int, int], list[TransferRequest]] = defaultdict(list)
    for wish in wishes:
        by_pair[id(wish.known.scan), id(wish.target)].append(wish)
    moved = {id(answer.wish): answer for group in by_pair.values() for answer in _carry(group, pairs)}
    by_lesion: defaultdict[int, list[TransferredPoint]] = defaultdict(list)
    for wish in wishes:
        by_lesion[wish.lesion_id].append(moved[id(wish)])
    return dict(by_lesion)


def _carry(wishes: Sequence[TransferRequest], pairs: PairRegistrations) -> list[TransferredPoint]:
    """All lesions of one pair of scans."""
    source, target = wishes[0].known.scan, wishes[0].target
    try:
        registration, direction = pairs.get(source, target)
        points = propagate_with_confidence(
            [wish.known.point.point_zyx for wish in wishes],
            source.geometry,
            target.geometry,
            registration,
            direction,
            pairs.reverse(source, target),
            pairs.options,
        )
    except PairError as error:
        log.warning("%s", error)
        return [TransferredPoint(wish, None, error=str(error)) for wish in wishes]
    except Exception as error:  # a transform that cannot be evaluated: a back end's own fault
        log.exception("points could not be carried from %s to %s", source.name, target.name)
        return [TransferredPoint(wish, None, error=one_line(error)) for wish in wishes]
    return [
        _moved(wish, point, registration.is_reliable, pairs.options.flag_mm)
        for wish, point in zip(wishes, points, strict=True)
    ]


def _moved(
    wish: TransferRequest, point: PropagatedPoint, is_reliable: bool, flag_mm: float
) -> TransferredPoint:
    if not all(map(math.isfinite, point.point_zyx)):
        names = f"{wish.target.name} and {wish.known.scan.name}"
        return TransferredPoint(wish, None, error=f"the registration of {names} loses its point")
    # Errors of one step after the other: independent ones add up as squares.
    confidence_mm = math.hypot(wish.known.doubt_mm, point.confidence_mm)
    return TransferredPoint(
        wish, point, confidence_mm, point.is_flagged or confidence_mm > flag_mm, is_reliable
    )


def carry_shapes(known: LesionState, target: Scan, pairs: PairRegistrations) -> TransferredShapes:
    """What is known of a lesion beside its point, in another scan; what cannot be carried is left out."""
    if not known.has_shapes:
        return TransferredShapes()
    try:
        registration, direction = pairs.get(known.scan, target)
        way = (known.scan.geometry, target.geometry, registration.transform, direction)
        box = propagate_box(known.box, *way) if known.box is not None else None
        mask = propagate_mask(known.mask, *way) if known.mask is not None else None
        others = propagate_points(known.others, *way) if known.others else ()
    except Exception as error:
        if not isinstance(error, PairError):
            log.exception("a box or mask could not be carried from %s to %s", known.scan.name, target.name)
        return TransferredShapes(warnings=(f"its box and mask are not carried over: {one_line(error)}",))
    inside = box.intersection(Box.of_shape(target.geometry.shape_zyx)) if box is not None else None
    doubt = "its box and mask are carried over by a registration that is only a fall-back"
    return TransferredShapes(
        inside if inside is not None and not inside.is_empty else None,
        mask if mask is not None and mask.voxels.any() else None,
        tuple(
            (z, y, x) for z, y, x in np.asarray(others).tolist() if target.geometry.depth_mm((z, y, x)) >= 0
        ),
        () if registration.is_reliable else (doubt,),
    )


def carry_to_one_of(
    point_zyx: Vector, source: Scan, targets: Sequence[Scan], pairs: PairRegistrations
) -> tuple[Scan, Vector, bool] | None:
    """A point's place in the one of several scans that shows it best, and whether that is reliable.

    None where no pair can be registered. A scan whose registration is only a fall-back counts where there is
    no other. The place may lie outside of the scan.
    """
    found: list[tuple[bool, float, Scan, Vector]] = []
    for target in targets:
        try:
            registration, direction = pairs.get(source, target)
            ((z, y, x),) = propagate_points(
                [point_zyx], source.geometry, target.geometry, registration.transform, direction
            ).tolist()
        except Exception as error:
            log.warning("%s", one_line(error))
            continue
        depth_mm = target.geometry.depth_mm((z, y, x))
        if math.isfinite(depth_mm):
            found.append((registration.is_reliable, depth_mm, target, (z, y, x)))
    if not found:
        return None
    # The first of equally deep ones.
    is_reliable, _, target, place = max(found, key=lambda answer: answer[:2])
    return target, place, is_reliable
