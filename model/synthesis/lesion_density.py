"""Changes of a lesion's own density between time points: enhancement, necrosis, calcification."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .canvas import Canvas
from .draw_types import DensityDraw
from .scan_lesions import LabelledLesion

_EDGE_MM = 1.5  # over which a change fades towards the surface
_CALCIFIED_SHARE = 0.06  # of a lesion's voxels


def change_density(canvas: Canvas, lesion: LabelledLesion, draw: DensityDraw) -> None:
    """Change the HU of a lesion; its mask stays.

    Args:
        canvas: the scan to edit, in place.
        lesion: the lesion on the canvas.
        draw: the drawn changes.
    """
    spacing = canvas.geometry.spacing_zyx
    box = canvas.box(lesion.box, 1.0)
    hu, mask = canvas.hu(box), canvas.labels[box.slices] == lesion.lesion_id
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    deepest = max(float(depth.max()), 1e-6)
    noise = np.random.default_rng(draw.seed).standard_normal(mask.shape)
    coarse = ndimage.gaussian_filter(noise, max(deepest / 3, 1.0) / np.asarray(spacing))
    coarse /= max(float(coarse.std()), 1e-6)
    if draw.shift_hu is not None:
        hu = hu + draw.shift_hu * np.clip(depth / min(_EDGE_MM, deepest), 0, 1) * (1 + 0.2 * coarse)
    if draw.necrosis_hu is not None:
        start = (1 - draw.necrosis_share) * deepest
        weight = np.clip((depth + 0.15 * deepest * coarse - start) / min(2 * _EDGE_MM, deepest / 2), 0, 1)
        hu = hu + weight * mask * (draw.necrosis_hu - hu) * 0.9
    if draw.calcified_hu is not None and mask.any():
        fine = ndimage.gaussian_filter(noise, 0.8)
        hu = np.where(mask & (fine >= np.quantile(fine[mask], 1 - _CALCIFIED_SHARE)), draw.calcified_hu, hu)
    canvas.put(box, np.asarray(hu, np.float32), mask)
