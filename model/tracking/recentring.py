"""Re-centring, checked against the chain: the point that a lesion would have without re-centring.

A re-centred point is the middle of what was segmented. Whether that is the lesion, re-centring cannot know:
if a little more of a neighbour is drawn at each time point, the points drift away from the lesion, each step
looking as good as the first. The point of the chain, propagated from time point to time point as it was
given, does not depend on any segmentation. Two rules follow from it:

- The estimated error of a re-centred point is that of the chain's point and the distance between both; so it
  is a bound wherever the estimate of the chain is one.
- A re-centred point is used as long as that distance can be explained: by the error of the chain, and by the
  lesion's own radius, as any of its voxels may be its middle. Beyond, the chain's point is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..case.case import MaskPrompt, PromptPoint, Scan
from ..case.geometry import Geometry, Vector
from ..errors import one_line
from ..propagation.confidence import PropagatedPoint
from ..propagation.pair_registrations import PairRegistrations
from ..propagation.transfer import TransferredPoint, transfer_point


@dataclass(frozen=True, eq=False)
class ChainPoint:
    """A lesion's point as it is without re-centring.

    Attributes:
        point_zyx: voxel index (z, y, x) on the scan.
        error_mm: its estimated error, that of all steps so far.
        context_point: the point that belongs to it on the scan that the network gets as the baseline.
        radius_mm: of a ball of the lesion's volume, where the chain begins.
    """

    point_zyx: Vector
    error_mm: float
    context_point: PromptPoint
    radius_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class HeldPoint:
    """A re-centred point after propagation, checked against the chain.

    Attributes:
        transferred: the point to use, with the error of both rules.
        chain: the point of the chain on the same scan; None if it is not known there, so that a new chain
            begins.
        is_chain: the chain's point is used.
        warning: the reason for that, otherwise empty.
    """

    transferred: TransferredPoint
    chain: ChainPoint | None
    is_chain: bool = False
    warning: str = ""


def radius_of(mask: MaskPrompt | None, geometry: Geometry) -> float:
    """Radius (mm) of a ball of a mask's volume; 0 without a mask.

    Args:
        mask: on the axial grid of a scan.
        geometry: of that grid.
    """
    voxels = 0 if mask is None else int(np.count_nonzero(mask.voxels))
    return float(np.cbrt(3000 * voxels * geometry.voxel_volume_ml / (4 * np.pi)))


def hold_to_chain(transferred: TransferredPoint, chain: ChainPoint, pairs: PairRegistrations) -> HeldPoint:
    """Check a propagated re-centred point against the chain's point, which is propagated as well.

    Args:
        transferred: result for the re-centred point, with a point.
        chain: the chain's point on the scan that it was propagated from.
        pairs: registrations of the scans.
    """
    assert transferred.point is not None
    request = transferred.request
    try:
        point_zyx = transfer_point(chain.point_zyx, request.source, request.target, pairs)
    except Exception as error:  # the point of the chain is lost, the re-centred one is not
        text = f"its point cannot be compared with that of the chain: {one_line(error)}"
        return HeldPoint(replace(transferred, is_flagged=True), None, warning=text)
    if not np.isfinite(point_zyx).all():
        text = "the registration loses the chain's point, with which its point cannot be compared"
        return HeldPoint(replace(transferred, is_flagged=True), None, warning=text)
    error_mm = float(np.hypot(chain.error_mm, transferred.point.confidence_mm))
    here = replace(chain, point_zyx=point_zyx, error_mm=error_mm)
    drift_mm = _distance_mm(transferred.point.point_zyx, point_zyx, request.target)
    flag_mm = pairs.options.flag_mm
    limit_mm = error_mm + chain.radius_mm
    if drift_mm <= limit_mm:
        total_mm = error_mm + drift_mm
        is_flagged = transferred.is_flagged or total_mm > flag_mm
        return HeldPoint(replace(transferred, confidence_mm=total_mm, is_flagged=is_flagged), here)
    text = (
        f"re-centring has drifted by {drift_mm:.0f} mm from the place that the lesion was propagated to, "
        f"more than the {limit_mm:.0f} mm of its error and radius; the propagated point is used"
    )
    in_view = request.target.geometry.depth_mm(point_zyx) >= 0
    point = PropagatedPoint(point_zyx, transferred.point.confidence_mm, in_view, is_flagged=True)
    back = replace(transferred, point=point, confidence_mm=error_mm, is_flagged=True)
    return HeldPoint(back, here, is_chain=True, warning=text)


def _distance_mm(one_zyx: Vector, other_zyx: Vector, scan: Scan) -> float:
    one, other = scan.geometry.zyx_to_world(one_zyx), scan.geometry.zyx_to_world(other_zyx)
    return float(np.linalg.norm(np.subtract(one, other)))
