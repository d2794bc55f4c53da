"""Lesions that vanish, merge, split or appear: edits of the baseline before anything moves.

Each edit changes voxels of the canvas (copies of CT and labelmap) in a box around the lesion and returns what
was changed. An edit that is impossible (no room, too thin a lesion) is skipped, which its result shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Box, FloatArray, Geometry, Vector
from .canvas import Canvas
from .displacement import Mask
from .draw_types import FollowupDraw, MergeDraw, SplitDraw, VanishDraw
from .gas import redraw_gas
from .host_tissue import find_host_tissue
from .lesion_density import change_density
from .new_lesions import RIM_MM, NewLesion, insert_lesion
from .patch_filling import fill_with_patches
from .residue import residue_hu
from .scan_lesions import LabelledLesion, ScanLesions
from .styled_lesions import insert_styled_lesion
from .tissue import dilate_mm, fill_hole

# Width of the context around a lesion that the filling reads.
_CONTEXT_MM = 14.0
# Width from which patches are taken, beyond the radius of the lesion.
_PATCHES_MM = 20.0
_BRIDGE_SLACK_MM = 2.0
_MIN_PART = 0.15
_MAX_GAP = 0.4  # of the radius


@dataclass(frozen=True, slots=True)
class MergedLesions:
    """Two lesions joined by a bridge of ``bridge_voxels``."""

    first: int
    second: int
    bridge_voxels: int


@dataclass(frozen=True, slots=True)
class SplitLesion:
    """A cut lesion; ``parts_voxels`` are the sizes of its two sides, () if it was too thin to cut."""

    lesion_id: int
    parts_voxels: tuple[int, ...]
    removed_voxels: int


@dataclass(frozen=True, slots=True)
class Events:
    """The edits of one follow-up; the ids in ``vanished`` are no longer on the canvas."""

    vanished: tuple[int, ...] = ()
    merged: tuple[MergedLesions, ...] = ()
    split: tuple[SplitLesion, ...] = ()
    new: tuple[NewLesion, ...] = ()


def apply_events(
    ct: Array, labels: Array, geometry: Geometry, scan: ScanLesions, draw: FollowupDraw
) -> tuple[Canvas, Events]:
    """Apply the drawn events to a scan.

    Args:
        ct: HU (z, y, x), int16; copied if there is anything to change.
        labels: lesion ids (z, y, x), uint16; likewise.
        geometry: their grid.
        scan: lesions of ``labels``.
        draw: the drawn values.
    """
    has_other = draw.density or draw.gas_seed is not None
    if not (draw.vanishing or draw.merging or draw.splitting or draw.new or has_other):
        return Canvas(ct, labels, geometry), Events()
    canvas = Canvas(ct.copy(), labels.copy(), geometry)
    by_id = {lesion.lesion_id: lesion for lesion in scan.lesions}
    before = Canvas(ct, labels, geometry)
    if draw.gas_seed is not None:
        redraw_gas(canvas, draw.gas_seed)
    for density in draw.density:
        change_density(canvas, by_id[density.lesion_id], density)
    for vanish in draw.vanishing:
        _vanish(canvas, by_id[vanish.lesion_id], vanish)
    merged = [_merge(canvas, by_id[d.first], by_id[d.second], d) for d in draw.merging]
    split = [_split(canvas, by_id[d.lesion_id], d) for d in draw.splitting]
    new: list[NewLesion] = []
    if draw.new:
        host_tissue = find_host_tissue(ct, geometry.spacing_zyx, geometry.axial_map())
        new = [
            insert_styled_lesion(canvas, host_tissue, d, d.style)
            if d.style
            else insert_lesion(canvas, before, by_id, host_tissue, d)
            for d in draw.new
        ]
    gone = tuple(d.lesion_id for d in draw.vanishing)
    return canvas, Events(gone, tuple(merged), tuple(split), tuple(new))


def _vanish(canvas: Canvas, lesion: LabelledLesion, draw: VanishDraw) -> None:
    """Fill a lesion, with its partial-volume rim, from the tissue around it; a residue may be left."""
    spacing = canvas.geometry.spacing_zyx
    is_patched = draw.patch_seed is not None
    box = canvas.box(lesion.box, lesion.radius_mm + _PATCHES_MM if is_patched else _CONTEXT_MM)
    labels = canvas.labels[box.slices]
    mask = labels == lesion.lesion_id
    hole = dilate_mm(mask, RIM_MM, spacing) & ((labels == 0) | mask)
    hu, free = canvas.hu(box), labels == 0
    filled = None
    if draw.patch_seed is not None:
        filled = fill_with_patches(hu, hole, free, spacing, draw.patch_seed)
    if filled is None:
        filled = fill_hole(hu, hole, free, spacing, draw.texture_seed)
    else:
        hole |= free
    if draw.residue is not None:
        filled = filled + residue_hu(mask, filled, spacing, draw.residue)
    canvas.put(box, np.asarray(filled, np.float32), hole)
    labels[mask] = 0


def _merge(canvas: Canvas, first: LabelledLesion, second: LabelledLesion, draw: MergeDraw) -> MergedLesions:
    """Bridge two lesions with their own tissue where they are nearest; each keeps its id up to the middle."""
    spacing = canvas.geometry.spacing_zyx
    start = np.minimum(first.box.start_zyx, second.box.start_zyx)
    stop = np.maximum(first.box.stop_zyx, second.box.stop_zyx)
    box = canvas.box(Box(tuple(start), tuple(stop)), 2.0)
    labels = canvas.labels[box.slices]
    a, b = labels == first.lesion_id, labels == second.lesion_id
    from_a = ndimage.distance_transform_edt(~a, sampling=spacing)
    from_b = ndimage.distance_transform_edt(~b, sampling=spacing)
    total = from_a + from_b
    # Wide enough that at least one voxel lies between them.
    limit = draw.gap_mm + max(_BRIDGE_SLACK_MM, float(min(spacing)))
    nearest = np.unravel_index(int(np.where(a, from_b, np.inf).argmin()), a.shape)
    other = np.unravel_index(int(np.where(b, from_a, np.inf).argmin()), b.shape)
    middle = (np.asarray(nearest) + np.asarray(other)) / 2
    width = max(draw.gap_mm / 2 + max(spacing), 0.7 * min(first.radius_mm, second.radius_mm))
    bridge = (labels == 0) & (total <= limit) & _ball_mask(labels.shape, middle, width, spacing)
    bridge |= (labels == 0) & _line(labels.shape, np.asarray(nearest), np.asarray(other))
    hu = canvas.hu(box)
    soft = fill_hole(hu, ndimage.binary_dilation(bridge) & ~a & ~b, a | b, spacing, draw.texture_seed)
    canvas.blend(box, hu, soft, bridge)
    labels[bridge & (from_a <= from_b)] = first.lesion_id
    labels[bridge & (from_a > from_b)] = second.lesion_id
    return MergedLesions(first.lesion_id, second.lesion_id, int(bridge.sum()))


def _split(canvas: Canvas, lesion: LabelledLesion, draw: SplitDraw) -> SplitLesion:
    """Cut across the lesion's long axis and fill the cut with the tissue around the lesion."""
    spacing = canvas.geometry.spacing_zyx
    box = canvas.box(lesion.box, _CONTEXT_MM)
    labels = canvas.labels[box.slices]
    mask = labels == lesion.lesion_id
    positions = np.argwhere(mask) * np.asarray(spacing)
    centred = positions - positions.mean(axis=0)
    normal = np.linalg.eigh(centred.T @ centred)[1][:, -1] + np.asarray(draw.tilt)
    normal /= np.linalg.norm(normal)
    along = centred @ normal
    along -= draw.offset * float(np.abs(along).max()) / 2
    # In proportion to the lesion, but wide enough that no two voxels touch across the cut at any spacing.
    thickness = max(
        min(draw.gap_mm, _MAX_GAP * lesion.radius_mm), 1.01 * float(np.abs(normal) @ np.asarray(spacing))
    )
    sides = int((along < -thickness / 2).sum()), int((along > thickness / 2).sum())
    if min(sides) < max(1.0, _MIN_PART * len(along)):
        return SplitLesion(lesion.lesion_id, (), 0)
    cut = np.zeros_like(mask)
    cut[mask] = np.abs(along) <= thickness / 2
    canvas.put(box, fill_hole(canvas.hu(box), cut, labels == 0, spacing, draw.texture_seed), cut)
    labels[cut] = 0
    return SplitLesion(lesion.lesion_id, sides, int(cut.sum()))


def _ball_mask(shape: tuple[int, ...], centre: FloatArray, radius_mm: float, spacing: Vector) -> Mask:
    axes = [((np.arange(n) - c) * s) ** 2 for n, c, s in zip(shape, centre, spacing, strict=True)]
    total = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return np.asarray(total <= radius_mm**2)


def _line(shape: tuple[int, ...], start: FloatArray, stop: FloatArray) -> Mask:
    """Mark the voxels on the line between two voxels, each touching the next."""
    count = int(np.abs(stop - start).max()) + 1
    index = np.rint(np.linspace(start, stop, count)).astype(int)
    mask = np.zeros(shape, bool)
    mask[tuple(index.T)] = True
    return mask
