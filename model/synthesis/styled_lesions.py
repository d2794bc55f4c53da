"""New lesions with a style: in a chosen tissue, beside vessels and borders, with rim and core."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Box, Vector
from .canvas import Canvas
from .displacement import Mask, Volume
from .draw_types import NewDraw, NewStyleDraw
from .host_tissue import HostTissue, TissueKind
from .lesion_shapes import LesionShape, draw_shape
from .new_lesions import NewLesion
from .tissue import dilate_mm, texture_deviation, texture_noise

_TRIES = 150
# HU of voxels of each kind of tissue, and the share of a lesion's surroundings that has to be within them.
_HOST_HU = {
    TissueKind.LUNG: (-1000.0, -500.0),
    TissueKind.FAT: (-170.0, -20.0),
    TissueKind.SOFT: (-40.0, 220.0),
    TissueKind.ORGAN: (-40.0, 260.0),
    TissueKind.BONE: (100.0, 2000.0),
}
_SHARE, _CLOSE_SHARE = 0.8, 0.45
_AIR_HU, _MOST_AIR = -500.0, 0.02
_BLUR_MM = 0.7  # of a scanner
_MOST_TEXTURE_HU = 25.0


def insert_styled_lesion(
    canvas: Canvas, host_tissue: HostTissue, draw: NewDraw, style: NewStyleDraw
) -> NewLesion:
    """Insert a lesion of a drawn style at the first of the drawn positions where it fits.

    Args:
        canvas: the scan to edit, in place.
        host_tissue: candidate positions; if the drawn kind of tissue is not there, any of them.
        draw: the drawn values.
        style: the drawn style.
    """
    geometry = canvas.geometry
    shape = draw_shape(draw.radii_mm, style, draw.texture_seed, geometry)
    mask = shape.mask
    around = dilate_mm(mask, style.clearance_mm, geometry.spacing_zyx)
    drawn = host_tissue.by_kind.get(TissueKind(style.tissue)) if style.tissue else None
    kind = TissueKind(style.tissue) if style.tissue and drawn is not None else None
    positions_mm = host_tissue.positions_mm if drawn is None else drawn
    rng = np.random.default_rng(draw.place_seed)
    order = rng.permutation(len(positions_mm))[:_TRIES]
    centre = (np.asarray(mask.shape) - 1) // 2
    for position_mm in positions_mm[order]:
        place = position_mm + rng.uniform(-2, 2, 3)
        start = np.rint(place / np.asarray(geometry.spacing_zyx)).astype(int) - centre
        if (start < 0).any() or (start + mask.shape > canvas.labels.shape).any():
            continue
        box = Box.of_shape(mask.shape, start.tolist())
        hu, labels = canvas.hu(box), canvas.labels[box.slices]
        found = None if labels[around].any() else _host_kind(hu[around], kind, style.is_close)
        if found is None:
            continue
        lesion_hu = _lesion_hu(hu, around, shape, found, draw, style, geometry.spacing_zyx)
        _paint(canvas, box, shape, lesion_hu, draw.lesion_id)
        z, y, x = (np.argwhere(mask).mean(axis=0) + start).tolist()
        return NewLesion(draw.lesion_id, None, (z, y, x), int(mask.sum()))
    return NewLesion(draw.lesion_id, None, None, 0)


def _paint(canvas: Canvas, box: Box, shape: LesionShape, lesion_hu: Volume, lesion_id: int) -> None:
    """Paint a lesion into a box by the share of each voxel that it fills, as blurred as by a scanner."""
    hu, labels, mask = canvas.hu(box), canvas.labels[box.slices], shape.mask
    sigma = _BLUR_MM / np.asarray(canvas.geometry.spacing_zyx)
    weight = ndimage.gaussian_filter(shape.inside, sigma, mode="constant")
    touched = (weight > 0.02) & (labels == 0)
    canvas.put(box, np.asarray(hu + weight * (lesion_hu - hu), np.float32), touched)
    labels[mask] = lesion_id


def _host_kind(host: Array, kind: TissueKind | None, is_close: bool) -> TissueKind | None:
    """Return the kind of tissue if enough of a host's HU is of it, otherwise None."""
    middle = float(np.median(host))
    if kind is None:
        kind = next((k for k, (low, high) in _HOST_HU.items() if low <= middle <= high), None)
    if kind is None:
        return None
    if kind is not TissueKind.LUNG and float((host < _AIR_HU).mean()) > _MOST_AIR:
        return None
    low, high = _HOST_HU[kind]
    share = float(((host >= low) & (host <= high)).mean())
    return kind if share >= (_CLOSE_SHARE if is_close else _SHARE) else None


def _lesion_hu(
    hu: Volume,
    around: Mask,
    shape: LesionShape,
    kind: TissueKind,
    draw: NewDraw,
    style: NewStyleDraw,
    spacing: Vector,
) -> Volume:
    """HU (z, y, x) of a lesion: its own, that of rim and core, slow variation, and texture."""
    low, high = _HOST_HU[kind]
    host = hu[around]
    middle = float(np.median(host[(host >= low) & (host <= high)]))
    if kind is TissueKind.LUNG:
        value = draw.lung_hu
    elif kind is TissueKind.BONE:
        value = style.bone_hu
    elif kind is TissueKind.FAT:  # nothing is darker
        value = abs(draw.contrast_hu)
    else:
        value = middle + draw.contrast_hu
    inside = np.maximum(shape.inside, 1e-6)
    varied = texture_noise(hu.shape, 1.0, draw.texture_seed + 1)
    slow = ndimage.gaussian_filter(varied, float(np.mean(draw.radii_mm)) / 2 / np.asarray(spacing))
    slow *= style.unevenness * abs(value - middle) / max(float(slow.std()), 1e-6)
    texture = min(texture_deviation(hu, around, spacing), _MOST_TEXTURE_HU) * varied
    painted = value + shape.rim / inside * style.rim_hu + shape.core / inside * (style.core_hu - value)
    return np.asarray(painted + np.clip(slow, -60, 60) + texture, np.float32)
