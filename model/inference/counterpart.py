"""Counterparts: where a prompt's baseline point belongs if its follow-up point is moved.

The network sees both patches centred on their points, so that what lies at one point is compared with what
lies at the other. If only one of them were moved, the patches would be shifted against each other.

The counterpart is the baseline point, moved by the same way as the follow-up point: by the difference of both
follow-up points as the registration maps them to the baseline, otherwise by the same offset in mm. It is used
if it lies inside the baseline lesion. If not, the baseline point stays: then the follow-up point was beside
its lesion and is moved onto it, and the known place in the baseline is more accurate than the registration.
Without a baseline mask only the scan limits the counterpart.

If the follow-up point is moved to the middle of a result (its deepest voxel), its counterpart is the middle
of the baseline lesion, unless that lies more than 10 mm from where the above leads: a middle belongs to a
middle even if the registration is some mm off, but in a large lesion they may lie in different parts of it.
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np

from ..case.case import LesionPrompt, PromptPoint, Scan
from ..case.geometry import Box, FloatArray, Vector, voxel_at
from ..case.labelmaps import label_boxes
from ..prompts.sampling import deepest_point

_NEAR_MM = 10.0


def moved_prompt(prompt: LesionPrompt, point_zyx: Vector) -> LesionPrompt:
    """Move both points of a prompt together.

    Args:
        prompt: of a lesion; its box and mask stay.
        point_zyx: new follow-up point, voxel index (z, y, x) on the follow-up's axial grid.
    """
    return _with_points(prompt, point_zyx, counterpart(prompt, point_zyx))


def recentred_prompt(prompt: LesionPrompt, middle_zyx: Vector) -> LesionPrompt:
    """Move both points of a prompt to the middle of the lesion.

    Args:
        prompt: of a lesion; its box and mask stay.
        middle_zyx: deepest voxel of a result, (z, y, x) on the follow-up's axial grid.
    """
    return _with_points(prompt, middle_zyx, middle_counterpart(prompt, middle_zyx))


def _with_points(prompt: LesionPrompt, followup_zyx: Vector, baseline_zyx: Vector) -> LesionPrompt:
    return replace(
        prompt,
        followup_point=PromptPoint(followup_zyx, prompt.followup_point.source),
        baseline_point=PromptPoint(baseline_zyx, prompt.baseline_point.source),
    )


def counterpart(prompt: LesionPrompt, point_zyx: Vector) -> Vector:
    """The baseline point that belongs to another follow-up point.

    Args:
        prompt: of the lesion, with the points before.
        point_zyx: voxel index (z, y, x) on the follow-up's axial grid.

    Returns:
        Voxel index (z, y, x) on the baseline's axial grid; that of the prompt if the counterpart lies outside
        of the baseline lesion, or of the scan.
    """
    before, geometry = prompt.baseline_point.point_zyx, prompt.baseline.geometry
    if point_zyx == prompt.followup_point.point_zyx:
        return before
    if prompt.baseline is prompt.followup and before == prompt.followup_point.point_zyx:
        return point_zyx
    moved_mm = np.asarray(geometry.zyx_to_world(before)) + _offset_mm(prompt, point_zyx)
    moved = geometry.world_to_zyx(moved_mm.tolist())
    return moved if _is_in_lesion(prompt, moved) else before


def middle_counterpart(prompt: LesionPrompt, middle_zyx: Vector) -> Vector:
    """The baseline point that belongs to the middle of a result.

    Args:
        prompt: of the lesion, with the points before.
        middle_zyx: deepest voxel of the result, (z, y, x) on the follow-up's axial grid.

    Returns:
        Voxel index (z, y, x) on the baseline's axial grid.
    """
    place = counterpart(prompt, middle_zyx)
    middle = _MIDDLES.of(prompt.baseline, prompt.lesion_id) if prompt.has_mask else None
    if middle is None or prompt.baseline is prompt.followup:
        return place
    ends = [prompt.baseline.geometry.zyx_to_world(point) for point in (place, middle)]
    is_near = np.linalg.norm(np.subtract(ends[0], ends[1])) <= _NEAR_MM
    return middle if is_near else place


class _Middles:
    """Deepest voxels of lesions in their masks; each mask is searched, and each lesion measured, once."""

    def __init__(self) -> None:
        self._boxes: WeakKeyDictionary[Scan, dict[int, Box]] = WeakKeyDictionary()
        self._points: WeakKeyDictionary[Scan, dict[int, Vector]] = WeakKeyDictionary()

    def of(self, scan: Scan, lesion_id: int) -> Vector | None:
        """The deepest voxel (z, y, x) of a lesion on the scan's axial grid; None if the mask lacks it."""
        if scan not in self._boxes:
            self._boxes[scan] = label_boxes(scan.mask)
        box, points = self._boxes[scan].get(lesion_id), self._points.setdefault(scan, {})
        if box is None or scan.mask is None:
            return None
        if lesion_id not in points:
            mask = scan.mask[box.slices] == lesion_id
            points[lesion_id] = deepest_point(mask, box, scan.geometry.spacing_zyx)
        return points[lesion_id]


_MIDDLES = _Middles()


def _offset_mm(prompt: LesionPrompt, point_zyx: Vector) -> FloatArray:
    """The way from the prompt's counterpart to the new one, world x, y, z of the baseline in mm."""
    ends = prompt.followup_point.point_zyx, point_zyx
    if prompt.to_baseline is not None:
        mapped = [prompt.baseline.geometry.zyx_to_world(prompt.to_baseline(end)) for end in ends]
        offset = np.subtract(mapped[1], mapped[0])
        if np.isfinite(offset).all():
            return np.asarray(offset, np.float64)
    start, stop = (prompt.followup.geometry.zyx_to_world(end) for end in ends)
    return np.asarray(np.subtract(stop, start), np.float64)


def _is_in_lesion(prompt: LesionPrompt, point_zyx: Vector) -> bool:
    """True if a baseline point lies on a voxel of the lesion; without a mask, in the scan."""
    scan = prompt.baseline
    if not np.isfinite(point_zyx).all() or scan.geometry.depth_mm(point_zyx) < 0:
        return False
    if not prompt.has_mask or scan.mask is None:
        return True
    last = np.subtract(scan.mask.shape, 1)
    z, y, x = np.minimum(voxel_at(point_zyx), last)
    return bool(scan.mask[z, y, x] == prompt.lesion_id)
