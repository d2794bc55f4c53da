"""Place a lesion's point in a scan: from a given click or box, or from a propagated point."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..case.case import PointSource, PromptPoint, Scan
from ..case.geometry import Box, Vector
from ..propagation.points import CLIP_LIMIT_MM, choose_scans
from ..propagation.transfer import TransferredPoint
from .fates import FateAssessment, LesionFate
from .series import PointOrigin, SeriesTimePoint, TrackedLesion

log = logging.getLogger(__name__)

# The precision of click files, so that written prompts give the same result when they are used as input
# (without boosting, which does not apply to given points).
_DECIMALS = 4


@dataclass(frozen=True, eq=False)
class PlacedPoint:
    """A lesion's point in a scan.

    Attributes:
        box: box given for the lesion in the scan.
        further_points: voxel indices (z, y, x) on the scan's axial grid.
    """

    point: PromptPoint
    origin: PointOrigin
    box: Box | None = None
    warnings: tuple[str, ...] = ()
    further_points: tuple[Vector, ...] = ()


def place_given(time_point: SeriesTimePoint, scan: Scan, lesion_id: int) -> PlacedPoint | None:
    """Place a lesion at its click, otherwise at the centre of its box; None if neither can be used."""
    click, box = scan.click_of(lesion_id), time_point.box_of(scan, lesion_id)
    if box is not None:
        box = box.intersection(Box.of_shape(scan.geometry.shape_zyx))
        box = None if box.is_empty else box
    if click is not None:
        outside_mm = -scan.geometry.depth_mm(click.point_zyx)
        if outside_mm <= 0:
            return PlacedPoint(PromptPoint(click.point_zyx, PointSource.GIVEN), PointOrigin.GIVEN, box)
        text = f"its click lies {outside_mm:.1f} mm outside of {scan.name}"
        if outside_mm <= CLIP_LIMIT_MM:
            clipped = PromptPoint(scan.geometry.clip(click.point_zyx), PointSource.CLIPPED)
            return PlacedPoint(clipped, PointOrigin.CLIPPED, box, (f"{text}; it is moved to the border",))
        log.warning("lesion %d: %s; it is not used", lesion_id, text)
    if box is None:
        return None
    z, y, x = ((a + b - 1) / 2 for a, b in zip(box.start_zyx, box.stop_zyx, strict=True))
    return PlacedPoint(PromptPoint((z, y, x), PointSource.GIVEN), PointOrigin.BOX, box)


def place_transferred(transferred: TransferredPoint, warnings: tuple[str, ...]) -> PlacedPoint:
    """Place a lesion at a propagated point, moved to the border if it lies outside of the scan."""
    assert transferred.point is not None
    target = transferred.request.target
    if transferred.depth_mm < 0:
        outside = f"{-transferred.depth_mm:.1f} mm outside of {target.name}"
        warnings = (*warnings, f"its place lies {outside}; it is moved to the border")
    z, y, x = (round(v, _DECIMALS) for v in target.geometry.clip(transferred.point.point_zyx))
    point = PromptPoint((z, y, x), PointSource.PROPAGATED)
    return PlacedPoint(point, PointOrigin.PROPAGATED, warnings=warnings)


def select_scans(transferred: Sequence[TransferredPoint]) -> list[TransferredPoint]:
    """Select the scans of a time point in which a lesion is segmented.

    A fall-back registration may map a lesion of the thorax into a scan of the abdomen, so it is only used if
    no other scan shows the lesion.
    """
    reliable = [result for result in transferred if result.is_reliable]
    for candidates in (reliable, transferred):
        chosen = choose_scans([result.depth_mm for result in candidates])
        if chosen:
            return [candidates[index] for index in chosen]
    return []


def unplaced_lesion(
    lesion_id: int, transferred: Sequence[TransferredPoint], errors: tuple[str, ...]
) -> TrackedLesion:
    """A lesion that is in no scan of the time point, or whose point could not be propagated."""
    located = [result for result in transferred if result.point is not None]
    if not located:
        return TrackedLesion(lesion_id, None, FateAssessment(LesionFate.FAILED, "; ".join(errors), pieces=0))
    nearest = max(located, key=lambda result: result.depth_mm)
    reason = f"its place lies {-nearest.depth_mm:.0f} mm outside of the field of view"
    fate = LesionFate.OUT_OF_VIEW
    if errors:  # the scan that could not be registered may show it
        fate, reason = LesionFate.FAILED, "; ".join((f"in {nearest.request.target.name} {reason}", *errors))
    return TrackedLesion(
        lesion_id,
        None,
        FateAssessment(fate, reason, pieces=0),
        propagated_from=nearest.request.source.name,
        confidence_mm=nearest.confidence_mm,
        is_flagged=True,
        warnings=errors,
    )
