"""Baseline lesions without a mask: segmented with the baseline as its own follow-up.

Both scans of their prompts are the baseline and both points the baseline point, as LongiTrack documents it.
For networks that take no baseline mask this adds the baseline's lesions to the result; networks that take one
can be given them as the mask that is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..case.case import LesionPrompt, LesionResult, Scan, Slot
from ..case.geometry import Array
from ..errors import one_line
from ..progress import report_progress
from .lesion_steps import merge_lesions, predict_lesions
from .options import OverlapRule

if TYPE_CHECKING:  # brings torch
    from .segmenter import LesionFailure, LesionSegmenter

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BaselineLesion:
    """One lesion that was segmented in a baseline scan.

    Attributes:
        prompt: both of its scans are the baseline scan, both points the baseline point.
        result: mask and probabilities before overlaps are resolved; None if it failed.
        volume_ml: volume (ml) in the labelmap; None if it failed.
        message: why it has no voxel; None if it has some.
    """

    prompt: LesionPrompt
    result: LesionResult | None = None
    volume_ml: float | None = None
    message: str | None = None

    @property
    def is_seen(self) -> bool:
        """True if voxels of it were found, even if other lesions claimed them."""
        return self.result is not None and bool(self.result.mask.any())

    @property
    def warning(self) -> str | None:
        """The message as a sentence that names the lesion and its scan; None without one."""
        if self.message is None:
            return None
        return f"lesion {self.prompt.lesion_id} in {self.prompt.baseline.name}: {self.message}"


@dataclass(frozen=True, eq=False)
class BaselineLesions:
    """The lesions that were segmented in the baseline.

    Attributes:
        labelmaps: per baseline scan with such lesions, their ids (z, y, x), uint8 or uint16, on the grid of
            the scan's file; lesions of a given mask are not repeated, and keep their voxels.
        lesions: one per lesion and baseline scan, in the order of the prompts.
    """

    labelmaps: Mapping[Slot, Array]
    lesions: tuple[BaselineLesion, ...]

    def of(self, prompt: LesionPrompt) -> BaselineLesion | None:
        """The baseline lesion of a follow-up prompt; None if it was not segmented."""
        key = (prompt.lesion_id, prompt.baseline.slot)
        found = (
            lesion for lesion in self.lesions if (lesion.prompt.lesion_id, lesion.prompt.baseline.slot) == key
        )
        return next(found, None)

    @property
    def results(self) -> tuple[LesionResult, ...]:
        """Mask and probabilities of every predicted lesion, before overlaps are resolved."""
        return tuple(lesion.result for lesion in self.lesions if lesion.result is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each lesion without a voxel."""
        return tuple(lesion.warning for lesion in self.lesions if lesion.warning is not None)


def baseline_prompts(prompts: Sequence[LesionPrompt]) -> tuple[LesionPrompt, ...]:
    """Prompts for the baseline lesions that have no mask.

    Args:
        prompts: lesions in the follow-up.

    Returns:
        One per lesion and baseline scan; none for a lesion that the baseline does not have.
    """
    found: dict[tuple[int, Slot], LesionPrompt] = {}
    for prompt in prompts:
        if prompt.has_mask or prompt.is_new:
            continue
        scan, point = prompt.baseline, prompt.baseline_point
        own = LesionPrompt(prompt.lesion_id, scan, point, scan, point, has_mask=False)
        found.setdefault((prompt.lesion_id, scan.slot), own)
    return tuple(found.values())


def segment_baseline(
    prompts: Sequence[LesionPrompt],
    segmenter: LesionSegmenter,
    rule: OverlapRule,
    dtype: type[np.unsignedinteger],
) -> BaselineLesions:
    """Segment lesions in the baseline; a lesion that fails, or has no voxel, is a warning.

    Args:
        prompts: from `baseline_prompts`.
        segmenter: that of the follow-up.
        rule: assignment of voxels that several lesions claim; see `merge`.
        dtype: number type of the labelmaps; see `label_dtype`.

    Raises:
        MemoryExhaustedError: out of memory on every rung of the memory ladder.
    """
    predicted = predict_lesions(prompts, segmenter, _log_progress)
    scans = {prompt.baseline.slot: prompt.baseline for prompt in prompts}
    labelmaps = merge_lesions(scans.values(), predicted.results, rule, dtype)
    for slot, scan in scans.items():
        if scan.mask is not None:
            labelmaps[slot][scan.file_grid.file_labels(scan.mask) > 0] = 0
    axial = {slot: scan.file_grid.axial_labels(labelmaps[slot]) for slot, scan in scans.items()}
    done = {id(result.prompt): _of_result(result, axial) for result in predicted.results}
    done |= {
        id(failure.prompt): BaselineLesion(
            failure.prompt, message=f"could not be segmented: {one_line(failure.error)}"
        )
        for failure in predicted.failures
    }
    lesions = BaselineLesions(labelmaps, tuple(done[id(prompt)] for prompt in prompts))
    for warning in lesions.warnings:
        log.warning("%s", warning)
    return lesions


def with_segmented_masks(
    prompts: Sequence[LesionPrompt], baseline: BaselineLesions
) -> dict[LesionPrompt, LesionPrompt]:
    """Give segmented baseline lesions to follow-up prompts as their masks.

    Args:
        prompts: lesions in the follow-up.
        baseline: their lesions in the baseline; those without a voxel stay without a mask.

    Returns:
        Prompt -> the same with the completed mask in its baseline scan, in the order of ``prompts``.
    """
    scans = {
        scan: _completed(scan, baseline) for scan in dict.fromkeys(prompt.baseline for prompt in prompts)
    }
    completed = {}
    for prompt in prompts:
        own = baseline.of(prompt)
        has_mask = prompt.has_mask or (own is not None and bool(own.volume_ml))
        completed[prompt] = replace(prompt, baseline=scans[prompt.baseline], has_mask=has_mask)
    return completed


def missing_mask_warnings(prompts: Sequence[LesionPrompt]) -> tuple[str, ...]:
    """Warn about lesions of baseline scans without any mask, for a network that takes one."""
    bare = [prompt for prompt in prompts if prompt.baseline.mask is None and not prompt.is_new]
    if not bare:
        return ()
    listed = ", ".join(map(str, dict.fromkeys(prompt.lesion_id for prompt in bare)))
    return (f"the network takes a baseline mask, but the baseline has none; segmented without it: {listed}",)


def _completed(scan: Scan, baseline: BaselineLesions) -> Scan:
    """The scan with segmented lesions where its mask, if it has one, holds none."""
    labelmap = baseline.labelmaps.get(scan.slot)
    if labelmap is None:
        return scan
    segmented = scan.file_grid.axial_labels(labelmap)
    mask = segmented if scan.mask is None else np.where(scan.mask > 0, scan.mask, segmented)
    return replace(scan, mask=mask)


def _of_result(result: LesionResult, axial: Mapping[Slot, Array]) -> BaselineLesion:
    scan = result.prompt.baseline
    voxels = int(np.count_nonzero(axial[scan.slot][result.box.slices] == result.prompt.lesion_id))
    message = None
    if not voxels:
        message = (
            "other lesions claimed all of its voxels"
            if result.mask.any()
            else "no voxel was found at its click"
        )
    return BaselineLesion(result.prompt, result, voxels * scan.geometry.voxel_volume_ml, message)


def _log_progress(lesion: LesionResult | LesionFailure, done: int, total: int) -> None:
    report_progress("baseline lesions", done, total)
    where = f"lesion {lesion.prompt.lesion_id} in {lesion.prompt.baseline.name} ({done}/{total})"
    if isinstance(lesion, LesionResult):
        volume_ml = int(np.count_nonzero(lesion.mask)) * lesion.prompt.baseline.geometry.voxel_volume_ml
        log.info("%s: %.2f ml, segmented in the baseline, which has no mask of it", where, volume_ml)
