"""Transfer of lesions between scans: points, boxes and masks, with one registration per pair of scans.

Used for a case of two time points (`model.inference.locate`) and for a series (`model.tracking`); they
differ in how failures are handled, which is stated by ``retry_singly`` of `transfer_points` and by
``allow_incomparable`` of `PairRegistrations`.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..case.case import MaskPrompt, PointMap, Scan
from ..case.geometry import Box, Vector, voxel_at
from ..errors import LongilesionError, one_line
from .confidence import ConfidenceOptions, PropagatedPoint, propagate_with_confidence
from .pair_registrations import PairError, PairRegistrations
from .points import Direction, propagate_points
from .register import Registration
from .shapes import propagate_box, propagate_mask

log = logging.getLogger(__name__)

_NEAR_MM = ConfidenceOptions().flag_mm


@dataclass(frozen=True, eq=False)
class TransferRequest:
    """A lesion's point (voxel index z, y, x on ``source``) to be propagated to ``target``.

    ``error_mm`` is the estimated error of the point itself, 0 for a given one.
    """

    lesion_id: int
    source: Scan
    point_zyx: Vector
    target: Scan
    error_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class TransferredPoint:
    """Result of a request: the point on the target's grid, possibly outside of it, or an error.

    Attributes:
        point: None if the pair could not be registered or the registration loses the point.
        confidence_mm: estimated error, including the error of the requested point; None without a point.
        is_reliable: False if the registration is only a fall-back.
        error: the reason why ``point`` is None, otherwise empty.
    """

    request: TransferRequest
    point: PropagatedPoint | None
    confidence_mm: float | None = None
    is_flagged: bool = False
    is_reliable: bool = True
    error: str = ""

    @property
    def depth_mm(self) -> float:
        """Depth of the point in the target's field of view, negative outside; NaN without a point."""
        if self.point is None:
            return math.nan
        return self.request.target.geometry.depth_mm(self.point.point_zyx)


def transfer_points(
    requests: Sequence[TransferRequest], pairs: PairRegistrations, retry_singly: bool = False
) -> dict[int, list[TransferredPoint]]:
    """Propagate the points of all requests, pair of scans by pair of scans.

    Args:
        requests: points; announce them with `PairRegistrations.expect` first, so that the registration of
            a pair is refined once near all of them.
        pairs: registrations of the scans.
        retry_singly: if the points of a pair cannot be propagated together, propagate each of them alone, so
            that only those that fail are lost; otherwise all of them fail.

    Returns:
        Lesion id -> results in the order of the requests. Failures are results with an ``error``.
    """
    by_pair: defaultdict[tuple[int, int], list[TransferRequest]] = defaultdict(list)
    for request in requests:
        by_pair[id(request.source), id(request.target)].append(request)
    results = {
        id(result.request): result
        for group in by_pair.values()
        for result in _transfer_pair(group, pairs, retry_singly)
    }
    by_lesion: defaultdict[int, list[TransferredPoint]] = defaultdict(list)
    for request in requests:
        by_lesion[request.lesion_id].append(results[id(request)])
    return dict(by_lesion)


def _transfer_pair(
    requests: Sequence[TransferRequest], pairs: PairRegistrations, retry_singly: bool
) -> list[TransferredPoint]:
    """Propagate all points of one pair of scans."""
    source, target = requests[0].source, requests[0].target
    log.info("propagating %d lesion(s) from %s to %s", len(requests), source.name, target.name)
    try:
        registration, direction = pairs.get(source, target)
        return _propagated(requests, registration, direction, pairs)
    except PairError as error:
        cause = None if isinstance(error.__cause__, LongilesionError) else error.__cause__
        log.warning("%s", error, exc_info=cause)
        return [TransferredPoint(request, None, error=str(error)) for request in requests]
    except Exception as error:  # the back end's transform cannot be evaluated
        log.exception("points could not be propagated from %s to %s together", source.name, target.name)
        if not retry_singly:
            return [TransferredPoint(request, None, error=one_line(error)) for request in requests]
    return [_transfer_alone(request, pairs) for request in requests]


def _transfer_alone(request: TransferRequest, pairs: PairRegistrations) -> TransferredPoint:
    try:
        # Refined near this point only, as the refinement for all of them may be what failed.
        (result,) = _propagated([request], *pairs.unrefined(request.source, request.target), pairs)
    except Exception as error:
        log.debug("", exc_info=error)
        return TransferredPoint(request, None, error=one_line(error))
    return result


def _propagated(
    requests: Sequence[TransferRequest],
    registration: Registration,
    direction: Direction,
    pairs: PairRegistrations,
) -> list[TransferredPoint]:
    source, target = requests[0].source, requests[0].target
    points = propagate_with_confidence(
        [request.point_zyx for request in requests],
        source.geometry,
        target.geometry,
        registration,
        direction,
        pairs.reverse(source, target),
        pairs.options,
    )
    return [
        _result(request, point, registration.is_reliable, pairs.options.flag_mm)
        for request, point in zip(requests, points, strict=True)
    ]


def _result(
    request: TransferRequest, point: PropagatedPoint, is_reliable: bool, flag_mm: float
) -> TransferredPoint:
    if not all(map(math.isfinite, point.point_zyx)):
        names = f"{request.target.name} and {request.source.name}"
        return TransferredPoint(request, None, error=f"the registration of {names} loses its point")
    # Errors of consecutive steps are taken as independent: their squares add up.
    confidence_mm = math.hypot(request.error_mm, point.confidence_mm)
    is_flagged = point.is_flagged or confidence_mm > flag_mm
    return TransferredPoint(request, point, confidence_mm, is_flagged, is_reliable)


@dataclass(frozen=True, eq=False)
class TransferredShapes:
    """A lesion's box, mask and further points on the target's grid, as far as they could be transferred."""

    box: Box | None = None
    mask: MaskPrompt | None = None
    others: tuple[Vector, ...] = ()
    warnings: tuple[str, ...] = ()

    def near(self, point_zyx: Vector, spacing_zyx: Vector) -> TransferredShapes:
        """Drop the shapes if they lie apart from a given point, which is more trustworthy.

        Args:
            point_zyx: voxel index z, y, x on the target.
            spacing_zyx: voxel size of the target, mm.

        Returns:
            The same shapes if box and mask come within 10 mm of the point, the error up to which a
            registration is not flagged; otherwise none, with a warning.
        """
        z, y, x = (math.ceil(_NEAR_MM / spacing) for spacing in spacing_zyx)
        pz, py, px = voxel_at(point_zyx)
        neighbourhood = Box((pz - z, py - y, px - x), (pz + z + 1, py + y + 1, px + x + 1))
        boxes = [self.box, self.mask.box if self.mask is not None else None]
        if all(box is None or not box.intersection(neighbourhood).is_empty for box in boxes):
            return self
        text = "its box and mask are not propagated: they lie beside the given point"
        return TransferredShapes(warnings=(*self.warnings, text))


def transfer_shapes(
    source: Scan,
    target: Scan,
    pairs: PairRegistrations,
    box: Box | None = None,
    mask: MaskPrompt | None = None,
    others: Sequence[Vector] = (),
) -> TransferredShapes:
    """Propagate a lesion's box, mask and further points; what cannot be propagated is left out.

    Args:
        source: scan on whose grid they lie.
        target: scan to propagate them to.
        pairs: registrations of the scans.
        box: in voxels of the source.
        mask: on the grid of the source.
        others: voxel indices z, y, x on the source.

    Returns:
        The shapes on the grid of the target, the box clipped to it, the points inside of it.
    """
    if box is None and mask is None and not others:
        return TransferredShapes()
    try:
        registration, direction = pairs.get(source, target)
        mapping = (source.geometry, target.geometry, registration.transform, direction)
        new_box = propagate_box(box, *mapping) if box is not None else None
        new_mask = propagate_mask(mask, *mapping) if mask is not None else None
        points = propagate_points(others, *mapping) if others else ()
    except Exception as error:
        if not isinstance(error, PairError):
            log.exception("a box or mask could not be propagated from %s to %s", source.name, target.name)
        return TransferredShapes(warnings=(f"its box and mask are not propagated: {one_line(error)}",))
    inside = new_box.intersection(Box.of_shape(target.geometry.shape_zyx)) if new_box is not None else None
    doubt = "its box and mask are propagated by a registration that is only a fall-back"
    return TransferredShapes(
        inside if inside is not None and not inside.is_empty else None,
        new_mask if new_mask is not None and new_mask.voxels.any() else None,
        tuple(
            (z, y, x) for z, y, x in np.asarray(points).tolist() if target.geometry.depth_mm((z, y, x)) >= 0
        ),
        () if registration.is_reliable else (doubt,),
    )


def transfer_point(point_zyx: Vector, source: Scan, target: Scan, pairs: PairRegistrations) -> Vector:
    """Propagate one point without an estimate of its error.

    Args:
        point_zyx: voxel index z, y, x on the source.
        source: scan on which the point lies.
        target: scan to propagate it to.
        pairs: registrations of the scans.

    Returns:
        Voxel index z, y, x on the target, possibly outside of it or NaN.

    Raises:
        PairError: the scans could not be registered.
    """
    registration, direction = pairs.get(source, target)
    return _mapped(point_zyx, source, target, registration, direction)


def way_back(source: Scan, target: Scan, pairs: PairRegistrations) -> PointMap | None:
    """Make the inverse of propagating from one scan to another.

    Args:
        source: scan from which points were propagated.
        target: scan to which they were propagated.
        pairs: registrations of the scans.

    Returns:
        Map of voxel indices z, y, x of the target to the source, NaN where it is unknown; None if the scans
        could not be registered.
    """
    try:
        registration, direction = pairs.get(source, target)
    except PairError:
        return None
    back = Direction.TO_BASELINE if direction is Direction.TO_FOLLOWUP else Direction.TO_FOLLOWUP

    def map_back(point_zyx: Vector) -> Vector:
        try:
            return _mapped(point_zyx, target, source, registration, back)
        except Exception as error:  # a transform that cannot be evaluated there does not lose the lesion
            log.debug("", exc_info=error)
            return (math.nan, math.nan, math.nan)

    return map_back


def _mapped(
    point_zyx: Vector, source: Scan, target: Scan, registration: Registration, direction: Direction
) -> Vector:
    ((z, y, x),) = propagate_points(
        [point_zyx], source.geometry, target.geometry, registration.transform, direction
    ).tolist()
    return (z, y, x)


def transfer_to_deepest(
    point_zyx: Vector, source: Scan, targets: Sequence[Scan], pairs: PairRegistrations
) -> tuple[Scan, Vector, bool] | None:
    """Propagate a point to the one of several scans in which it lies deepest.

    Args:
        point_zyx: voxel index z, y, x on the source.
        source: scan on which the point lies.
        targets: scans of one time point; a pair that fails is skipped with a warning.
        pairs: registrations of the scans.

    Returns:
        The scan, the voxel index z, y, x on it (possibly outside), and whether the registration is reliable
        (a fall-back is only used if no other pair is available). None if no pair can be registered.
    """
    candidates: list[tuple[bool, float, Scan, Vector]] = []
    for target in targets:
        try:
            registration, direction = pairs.get(source, target)
            z, y, x = _mapped(point_zyx, source, target, registration, direction)
        except Exception as error:
            log.warning("%s", one_line(error))
            continue
        depth_mm = target.geometry.depth_mm((z, y, x))
        if math.isfinite(depth_mm):
            candidates.append((registration.is_reliable, depth_mm, target, (z, y, x)))
    if not candidates:
        return None
    # The first of equally deep ones.
    is_reliable, _, target, propagated_zyx = max(candidates, key=lambda candidate: candidate[:2])
    return target, propagated_zyx, is_reliable
