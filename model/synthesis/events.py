"""Lesions that vanish, merge, split or appear: edits of the baseline before anything moves.

Each edit changes voxels of the canvas (copies of CT and labelmap) in a box round the lesion, and says what it
did. What cannot be done (no room, too thin) is left undone and said so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, AxisMap, Box, FloatArray, Geometry, Vector
from .displacement import Mask, Volume
from .random_draws import FollowupDraw, MergeDraw, NewDraw, SplitDraw, VanishDraw
from .scan_lesions import LabelledLesion, ScanLesions
from .tissue import Hosts, dilate_mm, fill_hole, find_hosts, texture_deviation, texture_noise

# Tissue round a lesion that its partial volume has changed, and that the filling looks at.
_RIM_MM, _CONTEXT_MM = 1.5, 14.0
_SOFT_EDGE_VOXELS, _LEAST_WEIGHT = 0.6, 0.7
_BRIDGE_SLACK_MM = 2.0
_MIN_PART = 0.15
_MAX_GAP = 0.4  # of the radius
_TRIES = 150
# A host differs from the donor's surroundings by at most so much, and is at most so mixed.
_HOST_HU, _HOST_SPREAD_HU = 150.0, 160.0
_LUNG_BELOW_HU, _AIR_HU = -500.0, -940.0
_CLEARANCE_MM = 4.0


@dataclass(frozen=True, slots=True)
class MergedLesions:
    first: int
    second: int
    bridge_voxels: int


@dataclass(frozen=True, slots=True)
class SplitLesion:
    """``parts_voxels`` are the two sides of the cut, none where it was not made."""

    lesion_id: int
    parts_voxels: tuple[int, ...]
    removed_voxels: int


@dataclass(frozen=True, slots=True)
class NewLesion:
    """``centre_zyx`` is a voxel index of the baseline; None where no fitting place was found."""

    lesion_id: int
    donor: int | None
    centre_zyx: Vector | None
    voxels: int


@dataclass(frozen=True, slots=True)
class Events:
    """What was done; a lesion id of `vanished` is no longer in the canvas."""

    vanished: tuple[int, ...] = ()
    merged: tuple[MergedLesions, ...] = ()
    split: tuple[SplitLesion, ...] = ()
    new: tuple[NewLesion, ...] = ()


@dataclass(frozen=True, eq=False)
class Canvas:
    """CT (int16 HU) and labelmap (uint16), both (z, y, x), on one grid; edits write into them."""

    ct: Array
    labels: Array
    geometry: Geometry

    def box(self, box: Box, margin_mm: float) -> Box:
        """A box and so much round it, within the scan."""
        pads = [int(np.ceil(margin_mm / s)) for s in self.geometry.spacing_zyx]
        start = [max(0, a - p) for a, p in zip(box.start_zyx, pads, strict=True)]
        stop = [min(n, b + p) for b, p, n in zip(box.stop_zyx, pads, self.labels.shape, strict=True)]
        return Box(tuple(start), tuple(stop))  # type: ignore[arg-type]

    def hu(self, box: Box) -> Volume:
        return self.ct[box.slices].astype(np.float32)

    def put(self, box: Box, hu: Volume, where: Mask) -> None:
        """Write HU where a mask of the box says so."""
        limits = np.iinfo(np.int16)
        self.ct[box.slices][where] = np.rint(np.clip(hu, limits.min, limits.max)).astype(np.int16)[where]


def apply_events(
    ct: Array, labels: Array, geometry: Geometry, facts: ScanLesions, draw: FollowupDraw
) -> tuple[Canvas, Events]:
    """The scan with the drawn events; the arrays given are copied only when something is to be done."""
    if not (draw.vanishing or draw.merging or draw.splitting or draw.new):
        return Canvas(ct, labels, geometry), Events()
    canvas = Canvas(ct.copy(), labels.copy(), geometry)
    by_id = {lesion.lesion_id: lesion for lesion in facts.lesions}
    before = Canvas(ct, labels, geometry)
    for vanish in draw.vanishing:
        _vanish(canvas, by_id[vanish.lesion_id], vanish)
    merged = [_merge(canvas, by_id[d.first], by_id[d.second], d) for d in draw.merging]
    split = [_split(canvas, by_id[d.lesion_id], d) for d in draw.splitting]
    new: list[NewLesion] = []
    if draw.new:
        places = find_hosts(ct, geometry.spacing_zyx, geometry.axial_map())
        new = [_appear(canvas, before, by_id, places, d) for d in draw.new]
    gone = tuple(d.lesion_id for d in draw.vanishing)
    return canvas, Events(gone, tuple(merged), tuple(split), tuple(new))


def _vanish(canvas: Canvas, lesion: LabelledLesion, draw: VanishDraw) -> None:
    """Fill the lesion with what lies round it; its partial-volume rim goes with it."""
    spacing = canvas.geometry.spacing_zyx
    box = canvas.box(lesion.box, _CONTEXT_MM)
    labels = canvas.labels[box.slices]
    mask = labels == lesion.lesion_id
    hole = dilate_mm(mask, _RIM_MM, spacing) & ((labels == 0) | mask)
    canvas.put(box, fill_hole(canvas.hu(box), hole, labels == 0, spacing, draw.texture_seed), hole)
    labels[mask] = 0


def _merge(canvas: Canvas, first: LabelledLesion, second: LabelledLesion, draw: MergeDraw) -> MergedLesions:
    """A bridge of the lesions' own tissue where they are nearest; each keeps its id, up to the middle."""
    spacing = canvas.geometry.spacing_zyx
    start = np.minimum(first.box.start_zyx, second.box.start_zyx)
    stop = np.maximum(first.box.stop_zyx, second.box.stop_zyx)
    box = canvas.box(Box(tuple(start), tuple(stop)), 2.0)
    labels = canvas.labels[box.slices]
    a, b = labels == first.lesion_id, labels == second.lesion_id
    from_a = ndimage.distance_transform_edt(~a, sampling=spacing)
    from_b = ndimage.distance_transform_edt(~b, sampling=spacing)
    total = from_a + from_b
    # Never so narrow that no voxel lies on the way from one to the other.
    limit = draw.gap_mm + max(_BRIDGE_SLACK_MM, float(min(spacing)))
    nearest = np.unravel_index(int(np.where(a, from_b, np.inf).argmin()), a.shape)
    other = np.unravel_index(int(np.where(b, from_a, np.inf).argmin()), b.shape)
    middle = (np.asarray(nearest) + np.asarray(other)) / 2
    width = max(draw.gap_mm / 2 + max(spacing), 0.7 * min(first.radius_mm, second.radius_mm))
    bridge = (labels == 0) & (total <= limit) & _within(labels.shape, middle, width, spacing)
    bridge |= (labels == 0) & _line(labels.shape, np.asarray(nearest), np.asarray(other))
    hu = canvas.hu(box)
    soft = fill_hole(hu, ndimage.binary_dilation(bridge) & ~a & ~b, a | b, spacing, draw.texture_seed)
    _blend(canvas, box, hu, soft, bridge)
    labels[bridge & (from_a <= from_b)] = first.lesion_id
    labels[bridge & (from_a > from_b)] = second.lesion_id
    return MergedLesions(first.lesion_id, second.lesion_id, int(bridge.sum()))


def _split(canvas: Canvas, lesion: LabelledLesion, draw: SplitDraw) -> SplitLesion:
    """Cut across the lesion's long axis; what is cut out is filled with the tissue round the lesion."""
    spacing = canvas.geometry.spacing_zyx
    box = canvas.box(lesion.box, _CONTEXT_MM)
    labels = canvas.labels[box.slices]
    mask = labels == lesion.lesion_id
    places = np.argwhere(mask) * np.asarray(spacing)
    centred = places - places.mean(axis=0)
    normal = np.linalg.eigh(centred.T @ centred)[1][:, -1] + np.asarray(draw.tilt)
    normal /= np.linalg.norm(normal)
    along = centred @ normal
    along -= draw.offset * float(np.abs(along).max()) / 2
    # No wider than suits the lesion, but so that no two voxels touch across it, whatever the spacing.
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


def _appear(
    canvas: Canvas, before: Canvas, lesions: dict[int, LabelledLesion], places: Hosts, draw: NewDraw
) -> NewLesion:
    """Put a lesion at the first of the drawn places where it fits."""
    spacing = np.asarray(canvas.geometry.spacing_zyx)
    donor = lesions[draw.donor] if draw.donor is not None else None
    shape, texture, ring_hu = _copied(before, donor, draw) if donor else _ball(draw, canvas.geometry)
    order = np.random.default_rng(draw.place_seed).permutation(len(places.places_mm))[:_TRIES]
    centre = (np.asarray(shape.shape) - 1) // 2
    for place in places.places_mm[order]:
        start = np.rint(place / spacing).astype(int) - centre
        if (start < 0).any() or (start + shape.shape > canvas.labels.shape).any():
            continue
        box = Box.of_shape(shape.shape, start.tolist())
        around = dilate_mm(shape, _CLEARANCE_MM, canvas.geometry.spacing_zyx)
        hu, labels = canvas.hu(box), canvas.labels[box.slices]
        host = hu[around]
        if labels[around].any() or not _fits(host, ring_hu):
            continue
        deviation = texture_deviation(hu, around, canvas.geometry.spacing_zyx)
        if texture is None:
            in_lung = float(np.median(host)) < _LUNG_BELOW_HU
            value = draw.lung_hu if in_lung else float(np.median(host)) + draw.contrast_hu
            deviation = min(deviation, 30.0)
            paste = value + texture_noise(shape.shape, deviation, draw.texture_seed)
        else:
            paste = texture
        _blend(canvas, box, hu, np.asarray(paste, np.float32), shape)
        labels[shape] = draw.lesion_id
        z, y, x = (np.argwhere(shape).mean(axis=0) + start).tolist()
        return NewLesion(draw.lesion_id, draw.donor, (z, y, x), int(shape.sum()))
    return NewLesion(draw.lesion_id, draw.donor, None, 0)


def _fits(host: Array, ring_hu: float | None) -> bool:
    """Whether tissue is of one kind, no air, and like that round the donor."""
    middle = float(np.median(host))
    low, high = np.percentile(host, (15, 85))
    if middle < _AIR_HU or high - low > 2 * _HOST_SPREAD_HU:
        return False
    return ring_hu is None or abs(middle - ring_hu) <= _HOST_HU


def _copied(before: Canvas, donor: LabelledLesion, draw: NewDraw) -> tuple[Mask, Volume | None, float | None]:
    """The donor's voxels and HU in the baseline, mirrored, and the HU of what lies round it."""
    box = before.box(donor.box, _CLEARANCE_MM)
    mirror = AxisMap(flipped=draw.mirrored)
    labels, hu = mirror.array(before.labels[box.slices]), mirror.array(before.hu(box))
    mask = labels == donor.lesion_id
    ring = dilate_mm(mask, _CLEARANCE_MM, before.geometry.spacing_zyx) & (labels == 0)
    ring &= ~dilate_mm(mask, _RIM_MM, before.geometry.spacing_zyx)
    middle = float(np.median(hu[ring])) if ring.any() else None
    return np.ascontiguousarray(mask), np.ascontiguousarray(hu), middle


def _ball(draw: NewDraw, geometry: Geometry) -> tuple[Mask, Volume | None, float | None]:
    """An ellipsoid with a surface that is not smooth, and room round it; at least one voxel."""
    spacing = np.asarray(geometry.spacing_zyx)
    radii = np.asarray(draw.radii_mm)
    half = np.ceil((1.3 * radii + _CLEARANCE_MM) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"))
    distance = np.linalg.norm(grid * (spacing / radii).reshape(3, 1, 1, 1), axis=0)
    noise = np.random.default_rng(draw.texture_seed).standard_normal(distance.shape)
    smooth = ndimage.gaussian_filter(noise, float(radii.mean()) / 2 / spacing)
    bumps = 0.12 * smooth / max(float(smooth.std()), 1e-12)
    mask = distance <= 1 + np.clip(bumps, -0.3, 0.3)
    mask[tuple(half)] = True
    return np.asarray(mask), None, None


def _blend(canvas: Canvas, box: Box, hu: Volume, paste: Volume, mask: Mask) -> None:
    """Write a paste into a mask; its edge is as soft as a scanner's."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), _SOFT_EDGE_VOXELS)
    weight = np.where(mask, np.maximum(weight, _LEAST_WEIGHT), weight)
    # What another lesion looks like is not touched.
    foreign = (canvas.labels[box.slices] != 0) & ~mask
    touched = (weight > 0.02) & ~foreign
    canvas.put(box, hu + weight * (paste - hu), touched)


def _within(shape: tuple[int, ...], centre: FloatArray, radius_mm: float, spacing: Vector) -> Mask:
    axes = [((np.arange(n) - c) * s) ** 2 for n, c, s in zip(shape, centre, spacing, strict=True)]
    total = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return np.asarray(total <= radius_mm**2)


def _line(shape: tuple[int, ...], start: FloatArray, stop: FloatArray) -> Mask:
    """The voxels on the way from one to another, each touching the next."""
    count = int(np.abs(stop - start).max()) + 1
    index = np.rint(np.linspace(start, stop, count)).astype(int)
    mask = np.zeros(shape, bool)
    mask[tuple(index.T)] = True
    return mask
