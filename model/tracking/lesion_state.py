"""A lesion at one time point: state for propagation, prompt, and segmentation."""

from __future__ import annotations

from dataclasses import dataclass

from ..case.case import LesionPrompt, LesionResult, MaskPrompt, PromptPoint, Scan, Slot
from ..case.geometry import Box, Vector
from ..propagation.shapes import box_anchors
from ..propagation.transfer import TransferredPoint, TransferRequest
from .fates import FateAssessment
from .recentring import ChainPoint
from .series import PointOrigin


@dataclass(frozen=True, eq=False)
class LesionState:
    """State of a lesion in a segmented scan, from which it is propagated to other time points.

    ``mask``, ``box`` and ``further_points`` are on the grid of ``scan`` like ``point``; only those that are
    to be propagated are set.

    Attributes:
        scan: the scan as it was read; registrations are distinguished by it.
        point: the lesion's prompt on ``scan``.
        context: the scan that the network gets as the baseline, with its mask.
        context_point: the lesion's point on ``context``.
        has_mask: whether the mask of ``context`` contains the lesion.
        further_points: voxel indices z, y, x.
        error_mm: estimated error of ``point``.
        mass: ids of the other lesions with which it is one mass in ``scan``.
        chain: the point without re-centring; None if points are not re-centred.
    """

    scan: Scan
    point: PromptPoint
    context: Scan
    context_point: PromptPoint
    has_mask: bool
    mask: MaskPrompt | None = None
    box: Box | None = None
    further_points: tuple[Vector, ...] = ()
    error_mm: float = 0.0
    mass: tuple[int, ...] = ()
    chain: ChainPoint | None = None

    def anchors(self) -> list[Vector]:
        """Points of all shapes, near which a registration is refined.

        Returns:
            Voxel indices (z, y, x) on ``scan``.
        """
        boxes = [shape for shape in (self.box, self.mask.box if self.mask is not None else None) if shape]
        around = {anchor for box in boxes for anchor in box_anchors(box, self.scan.geometry)}
        chain = [self.chain.point_zyx] if self.chain is not None else []
        return [*dict.fromkeys([self.point.point_zyx, *chain]), *self.further_points, *sorted(around)]

    def request(self, lesion_id: int, target: Scan) -> TransferRequest:
        """Request to propagate the point to another scan."""
        return TransferRequest(lesion_id, self.scan, self.point.point_zyx, target, self.error_mm)


@dataclass(frozen=True, eq=False)
class PromptedLesion:
    """A lesion to be segmented in one scan of a time point.

    Attributes:
        origin: origin of the follow-up point.
        previous: state that the context comes from; None if the lesion is seen for the first time.
        given_mask: mask given for the lesion in this scan, which is used instead of a segmentation.
        transferred: result of propagating the point; None if it was not propagated.
        further_points: for boosting, voxel indices (z, y, x) on the scan.
        has_given_box: the prompt's box was given at this time point.
        chain: the propagated point without re-centring; None if it was not propagated, or nothing is
            re-centred.
    """

    prompt: LesionPrompt
    origin: PointOrigin
    previous: LesionState | None = None
    given_mask: MaskPrompt | None = None
    transferred: TransferredPoint | None = None
    further_points: tuple[Vector, ...] = ()
    warnings: tuple[str, ...] = ()
    has_given_box: bool = False
    chain: ChainPoint | None = None

    @property
    def key(self) -> tuple[int, Slot]:
        """Lesion id and slot, unique within a time point."""
        return self.prompt.lesion_id, self.prompt.followup.slot

    @property
    def is_reliable(self) -> bool:
        """True if later time points may start from here, i.e. not a fall-back registration."""
        return self.transferred is None or self.transferred.is_reliable

    @property
    def error_mm(self) -> float:
        """Estimated error of the point; 0 if it was given."""
        if self.transferred is None or self.transferred.confidence_mm is None:
            return 0.0
        return self.transferred.confidence_mm


@dataclass(frozen=True, eq=False)
class SegmentedLesion:
    """Segmentation of a lesion in one scan.

    Attributes:
        result: None if the segmentation failed.
        fate: None at the source.
        mass: ids of the other lesions with which it is one mass, also at the source.
    """

    prompted: PromptedLesion
    result: LesionResult | None
    fate: FateAssessment | None = None
    seconds: float = 0.0
    mass: tuple[int, ...] = ()

    @property
    def lesion_id(self) -> int:
        return self.prompted.prompt.lesion_id

    @property
    def scan(self) -> Scan:
        """The scan in which the lesion was segmented."""
        return self.prompted.prompt.followup
