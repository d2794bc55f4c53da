"""Draws the lesions of a floor from the prompts that a network takes, so that both can be compared."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.case import LesionPrompt, LesionResult, MaskPrompt, Scan
from ..case.geometry import Box
from ..case.labelmaps import label_boxes
from ..errors import InputError, one_line
from ..inference.lazy_backend import LazyBackend
from ..inference.merge import merge
from ..inference.segmenter import LesionFailure
from ..propagation.pair_registrations import RegistrationCache
from ..propagation.points import refine_near
from ..propagation.register import Registration
from ..propagation.shapes import box_anchors
from .floor_masks import grown_mask, growth_limit_mm, pasted_mask, warped_mask
from .floors import ALL_FLOORS, Floor

log = logging.getLogger(__name__)


class FloorSegmenter:
    """Draws lesions by a floor; a `LesionSegmenter` without a network.

    A lesion without a baseline mask is empty in the pasted and in the warped floor. Scans and registrations
    are kept as long as the segmenter: use one for each case or pair of scans.

    Args:
        floor: how lesions are drawn.
        registrations: of the scans, made on first use by the warped floor; may be shared. None uses the
            default back end.
    """

    def __init__(self, floor: Floor, registrations: RegistrationCache | None = None) -> None:
        self._floor = floor
        self._registrations = registrations or RegistrationCache(LazyBackend())
        self._boxes: dict[int, tuple[Scan, dict[int, Box]]] = {}
        self._near: dict[tuple[int, int], Registration] = {}

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Draw each lesion; one that fails does not affect the others."""
        for prompt in prompts:
            try:
                mask = self._drawn(prompt)
                yield LesionResult(prompt, mask.box, mask.voxels.astype(np.float32))
            except Exception as error:
                log.debug("", exc_info=error)
                text = f"lesion {prompt.lesion_id}: {self._floor.in_words} failed ({one_line(error)})"
                yield LesionFailure(prompt, InputError(text))

    def _drawn(self, prompt: LesionPrompt) -> MaskPrompt:
        mask = self._baseline_mask(prompt)
        if self._floor is Floor.GROWN:
            limit_mm = growth_limit_mm(mask, prompt)
            return grown_mask(prompt.followup, prompt.followup_point.point_zyx, limit_mm)
        if mask is None:
            return MaskPrompt(Box((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), np.bool_))
        if self._floor is Floor.PASTED:
            return pasted_mask(mask, prompt)
        return warped_mask(mask, prompt, self._registered(prompt.followup, prompt.baseline).transform)

    def _baseline_mask(self, prompt: LesionPrompt) -> MaskPrompt | None:
        scan = prompt.baseline
        box = self._boxes_of(scan).get(prompt.lesion_id) if prompt.has_mask else None
        if box is None or scan.mask is None:
            return None
        return MaskPrompt(box, np.asarray(scan.mask[box.slices] == prompt.lesion_id))

    def _boxes_of(self, scan: Scan) -> dict[int, Box]:
        """Boxes of all lesions of a scan; its mask is searched once."""
        if id(scan) not in self._boxes:
            self._boxes[id(scan)] = (scan, label_boxes(scan.mask))
        return self._boxes[id(scan)][1]

    def _registered(self, followup: Scan, baseline: Scan) -> Registration:
        """The registration of both scans, refined near all lesions of the baseline, as by `propagate`."""
        key = id(followup), id(baseline)
        if key not in self._near:
            registration = self._registrations.get(followup, baseline)
            for text in registration.warnings:
                log.warning("warning: %s to %s: %s", followup.name, baseline.name, text)
            boxes = self._boxes_of(baseline).values()
            anchors = [point for box in boxes for point in box_anchors(box, baseline.geometry)]
            near = refine_near(anchors, baseline.geometry, followup.geometry, registration)
            self._near[key] = near
        return self._near[key]


@dataclass(frozen=True, eq=False)
class FloorLabelmap:
    """The lesions of a follow-up scan as a floor draws them.

    Attributes:
        labels: lesion ids of the prompts, uint16 (z, y, x) on the grid of the follow-up's file.
        failed: lesion that could not be drawn -> reason; such a lesion has no voxels.
    """

    labels: npt.NDArray[np.uint16]
    failed: Mapping[int, str]


def floor_labelmaps(
    followup: Scan,
    prompts: Sequence[LesionPrompt],
    registrations: RegistrationCache | None = None,
    floors: Iterable[Floor] = ALL_FLOORS,
) -> dict[Floor, FloorLabelmap]:
    """Draw the lesions of a follow-up scan by each floor; overlaps go to the lesion whose point is nearer.

    Args:
        followup: the scan to draw in.
        prompts: its lesions, whose follow-up is this scan; none gives empty labelmaps.
        registrations: of the scans, for the warped floor; None registers with the default back end. Pass one
            cache to several calls for the same scans, so that they are registered once.
        floors: those to draw.

    Returns:
        The labelmap of each floor.
    """
    drawn = {}
    for floor in floors:
        lesions = list(FloorSegmenter(floor, registrations).segment(prompts))
        results = [one for one in lesions if isinstance(one, LesionResult)]
        failed = {
            one.prompt.lesion_id: one_line(one.error) for one in lesions if isinstance(one, LesionFailure)
        }
        drawn[floor] = FloorLabelmap(merge(followup, results, "probability", np.uint16), failed)
    return drawn
