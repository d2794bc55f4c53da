"""Component rule: keep the connected components of a result that belong to its lesion.

LinGuinE ([Garibli2025], section 2) keeps the component nearest to the propagated point, so that false
positives nearby are not taken for the lesion. A lesion is not lost if its point lies beside it or in the hole
of a ring, as the nearest component within a limit is kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..case.case import LesionResult, MaskPrompt
from ..case.connected_components import LabelArray, label_components
from ..case.geometry import Box, Vector, voxel_at
from .segmenter import lesion_result

BoolArray = npt.NDArray[np.bool_]

LIMIT_MM = 20.0
"""Maximum distance of a component from the point.

The paper's 10 voxels are 7 mm within slices and 50 mm across thick ones. 20 mm cover a point that is off by a
breath (10-15 mm) and some registration error; from 25 mm on, tracking scores count two points as different
lesions (CPM@25, [Rokuss2025]).
"""

# Distances that differ by less are ties (rounding).
_TIE_MM = 1e-6


def keep_component(
    mask: BoolArray,
    spacing_zyx: Vector,
    point_zyx: Vector,
    limit_mm: float = LIMIT_MM,
    expected: BoolArray | None = None,
) -> BoolArray:
    """Keep the 26-connected component that contains the point, otherwise the nearest one within a limit.

    The distance of a component is that from the point to the centre of its nearest voxel. Among equally near
    components the largest is kept, then the first in array order.

    Args:
        mask: booleans (z, y, x).
        spacing_zyx: mm.
        point_zyx: voxel index (z, y, x) on the mask's grid, may be fractional or outside of it.
        limit_mm: components further away than this are not kept.
        expected: expected lesion, booleans of the mask's shape; components that overlap it are kept as well.

    Returns:
        Booleans of the mask's shape; all False if no component qualifies.
    """
    labels, count = label_components(mask)
    is_kept = np.zeros(count + 1, bool)
    is_kept[_component_at(labels, spacing_zyx, point_zyx, limit_mm)] = True
    if expected is not None:
        is_kept[np.unique(labels[expected])] = True
    is_kept[0] = False
    return is_kept[labels]


def result_at_point(
    result: LesionResult, limit_mm: float = LIMIT_MM, keep: MaskPrompt | None = None
) -> LesionResult:
    """Apply the component rule to a result, at the follow-up point of its prompt.

    Voxels of dropped components become 0, in the support too; probabilities of one half and less stay. The
    box is cropped to the remaining lesion. A result without dropped components is returned unchanged.

    Args:
        limit_mm: see `keep_component`.
        keep: mask on the follow-up's axial grid, e.g. the propagated baseline mask: components that overlap
            it are kept, so that a lesion that has split keeps its parts.
    """
    point = np.subtract(result.prompt.followup_point.point_zyx, result.box.start_zyx)
    kept = keep_component(
        result.mask,
        result.prompt.followup.geometry.spacing_zyx,
        (float(point[0]), float(point[1]), float(point[2])),
        limit_mm,
        None if keep is None else _mask_over(keep, result.box),
    )
    dropped = result.mask & ~kept
    if not dropped.any():
        return result
    # All voxels above one half lie inside the box, so this covers the support too.
    values = np.where(dropped, np.float32(0), result.probability)
    reduced = lesion_result(result.prompt, result.box, values)
    if result.support is None or result.support_probability is None:
        return reduced
    support_values = result.support_probability.copy()
    support_values[result.box.relative_to(result.support).slices][dropped] = 0
    return replace(reduced, support=result.support, support_probability=support_values)


def _component_at(labels: LabelArray, spacing_zyx: Vector, point_zyx: Vector, limit_mm: float) -> int:
    """Label of the component that contains the point or is nearest to it, or 0."""
    voxel = voxel_at(point_zyx)
    if all(0 <= i < n for i, n in zip(voxel, labels.shape, strict=True)) and labels[voxel]:
        return int(labels[voxel])
    voxels = np.nonzero(labels)
    if not voxels[0].size:
        return 0
    owners = labels[voxels]
    squares = sum(
        ((axis - p) * s) ** 2 for axis, p, s in zip(voxels, point_zyx, spacing_zyx, strict=True)
    )  # summed axis by axis to save memory: a lesion may have a million voxels
    nearest = np.full(int(owners.max()) + 1, np.inf)
    np.minimum.at(nearest, owners, np.sqrt(squares))
    if nearest.min() > limit_mm + _TIE_MM:
        return 0
    near = np.flatnonzero(nearest <= nearest.min() + _TIE_MM)
    sizes = np.bincount(owners, minlength=len(nearest))
    return int(near[np.argmax(sizes[near])])


def _mask_over(mask: MaskPrompt, box: Box) -> BoolArray:
    """A mask's voxels over another box; False outside of the mask's own box."""
    voxels = np.zeros(box.shape_zyx, bool)
    common = box.intersection(mask.box)
    if not common.is_empty:
        voxels[common.relative_to(box).slices] = mask.voxels[common.relative_to(mask.box).slices]
    return voxels
