"""Points of lesions carried between the scans of a case: one registration, and one closer look, per pair."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..case.case import Scan
from ..case.geometry import Vector
from ..propagation.confidence import PropagatedPoint, propagate_with_confidence
from ..propagation.points import Direction, RegistrationCache
from ..propagation.register import Registration

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Way:
    """A lesion's point (voxel index z, y, x) on its scan, and the scan in which it is sought."""

    lesion_id: int
    source: Scan
    point_zyx: Vector
    target: Scan
    direction: Direction


Place = PropagatedPoint | Exception
"""Where a way ends, or why that is not known."""


def carry(ways: Sequence[Way], registrations: RegistrationCache) -> list[Place]:
    """Where each way ends, in the order of the ways.

    All lesions of a pair of scans go together, so that a back end which looks closer round their points does
    so once. A pair that cannot be registered, or a point that cannot be carried, is told in its place and
    does not touch the others.
    """
    pairs: dict[tuple[int, int], list[int]] = {}
    for index, way in enumerate(ways):
        pairs.setdefault((id(way.source), id(way.target)), []).append(index)
    found: dict[int, Place] = {}
    for indices in pairs.values():
        mine = [ways[index] for index in indices]
        found |= zip(indices, _carried(mine, registrations), strict=True)
    return [found[index] for index in range(len(ways))]


def _carried(ways: Sequence[Way], registrations: RegistrationCache) -> list[Place]:
    """The ways of one pair of scans."""
    source, target = ways[0].source, ways[0].target
    names = f"{source.name} to {target.name}"
    log.info("carrying %d lesion(s) from %s", len(ways), names)
    followup, baseline = (target, source) if ways[0].direction is Direction.TO_FOLLOWUP else (source, target)
    try:
        registration = registrations.get(followup, baseline)
    except Exception as error:
        log.exception("%s: the registration failed", names)
        return [error] * len(ways)
    try:
        return [*_places(ways, registration)]
    except Exception:
        log.exception("%s: the points could not be carried together, they are carried one by one", names)
    return [_alone(way, registration) for way in ways]


def _places(ways: Sequence[Way], registration: Registration) -> list[PropagatedPoint]:
    """Without a second registration the other way round, which would double a case's time."""
    first = ways[0]
    points = [way.point_zyx for way in ways]
    return propagate_with_confidence(
        points, first.source.geometry, first.target.geometry, registration, first.direction
    )


def _alone(way: Way, registration: Registration) -> Place:
    try:
        return _places([way], registration)[0]
    except Exception as error:
        log.debug("", exc_info=error)
        return error
