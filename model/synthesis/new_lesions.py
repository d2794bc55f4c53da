"""New lesions: mirrored copies of others or uneven ellipsoids, blended into suitable tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, AxisMap, Box, Geometry, Vector
from .canvas import Canvas
from .displacement import Mask, Volume
from .draw_types import NewDraw
from .host_tissue import CLEARANCE_MM, HostTissue
from .scan_lesions import LabelledLesion
from .tissue import dilate_mm, texture_deviation, texture_noise

RIM_MM = 1.5
"""Width of the tissue around a lesion that is changed by partial volume."""

_TRIES = 150
# Largest difference of a host's median to the donor's surroundings, and largest spread within a host.
_HOST_HU, _HOST_SPREAD_HU = 150.0, 160.0
_LUNG_BELOW_HU, _AIR_HU = -500.0, -940.0


@dataclass(frozen=True, slots=True)
class NewLesion:
    """A new lesion; ``centre_zyx`` is a voxel index of the baseline, None if it fitted nowhere."""

    lesion_id: int
    donor: int | None
    centre_zyx: Vector | None
    voxels: int


def insert_lesion(
    canvas: Canvas, before: Canvas, lesions: dict[int, LabelledLesion], host_tissue: HostTissue, draw: NewDraw
) -> NewLesion:
    """Insert a lesion at the first of the drawn positions where it fits.

    Args:
        canvas: the scan to edit, in place.
        before: the unedited baseline, from which a donor is copied.
        lesions: lesions of the baseline by id.
        host_tissue: candidate positions.
        draw: the drawn values.
    """
    spacing = np.asarray(canvas.geometry.spacing_zyx)
    donor = lesions[draw.donor] if draw.donor is not None else None
    shape, texture, ring_hu = (
        _mirrored_donor(before, donor, draw) if donor else _uneven_ellipsoid(draw, canvas.geometry)
    )
    order = np.random.default_rng(draw.place_seed).permutation(len(host_tissue.positions_mm))[:_TRIES]
    centre = (np.asarray(shape.shape) - 1) // 2
    around = dilate_mm(shape, CLEARANCE_MM, canvas.geometry.spacing_zyx)
    for position_mm in host_tissue.positions_mm[order]:
        start = np.rint(position_mm / spacing).astype(int) - centre
        if (start < 0).any() or (start + shape.shape > canvas.labels.shape).any():
            continue
        box = Box.of_shape(shape.shape, start.tolist())
        hu, labels = canvas.hu(box), canvas.labels[box.slices]
        host = hu[around]
        if labels[around].any() or not _is_suitable_host(host, ring_hu):
            continue
        deviation = texture_deviation(hu, around, canvas.geometry.spacing_zyx)
        if texture is None:
            in_lung = float(np.median(host)) < _LUNG_BELOW_HU
            value = draw.lung_hu if in_lung else float(np.median(host)) + draw.contrast_hu
            deviation = min(deviation, 30.0)
            paste = value + texture_noise(shape.shape, deviation, draw.texture_seed)
        else:
            paste = texture
        canvas.blend(box, hu, np.asarray(paste, np.float32), shape)
        labels[shape] = draw.lesion_id
        z, y, x = (np.argwhere(shape).mean(axis=0) + start).tolist()
        return NewLesion(draw.lesion_id, draw.donor, (z, y, x), int(shape.sum()))
    return NewLesion(draw.lesion_id, draw.donor, None, 0)


def _is_suitable_host(host: Array, ring_hu: float | None) -> bool:
    """Check that tissue is homogeneous, not air, and similar to that around the donor."""
    middle = float(np.median(host))
    low, high = np.percentile(host, (15, 85))
    if middle < _AIR_HU or high - low > 2 * _HOST_SPREAD_HU:
        return False
    return ring_hu is None or abs(middle - ring_hu) <= _HOST_HU


def _mirrored_donor(
    before: Canvas, donor: LabelledLesion, draw: NewDraw
) -> tuple[Mask, Volume | None, float | None]:
    """Mirror the donor's mask and HU in the baseline; also returns the median HU of its surroundings."""
    box = before.box(donor.box, CLEARANCE_MM)
    mirror = AxisMap(flipped=draw.mirrored)
    labels, hu = mirror.array(before.labels[box.slices]), mirror.array(before.hu(box))
    mask = labels == donor.lesion_id
    ring = dilate_mm(mask, CLEARANCE_MM, before.geometry.spacing_zyx) & (labels == 0)
    ring &= ~dilate_mm(mask, RIM_MM, before.geometry.spacing_zyx)
    middle = float(np.median(hu[ring])) if ring.any() else None
    return np.ascontiguousarray(mask), np.ascontiguousarray(hu), middle


def _uneven_ellipsoid(draw: NewDraw, geometry: Geometry) -> tuple[Mask, Volume | None, float | None]:
    """Make an ellipsoid with an uneven surface and a margin around it; at least one voxel."""
    spacing = np.asarray(geometry.spacing_zyx)
    radii = np.asarray(draw.radii_mm)
    half = np.ceil((1.3 * radii + CLEARANCE_MM) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"))
    distance = np.linalg.norm(grid * (spacing / radii).reshape(3, 1, 1, 1), axis=0)
    noise = np.random.default_rng(draw.texture_seed).standard_normal(distance.shape)
    smooth = ndimage.gaussian_filter(noise, float(radii.mean()) / 2 / spacing)
    bumps = 0.12 * smooth / max(float(smooth.std()), 1e-12)
    mask = distance <= 1 + np.clip(bumps, -0.3, 0.3)
    mask[tuple(half)] = True
    return np.asarray(mask), None, None
