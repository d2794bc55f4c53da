"""Which pieces of an answer belong to the lesion that was asked for: the component rule.

LinGuinE ([Garibli2025], section 2) keeps the component nearest to the propagated point, so that a neighbour's
false positive is not taken for the lesion. A point that lies beside the lesion, or in the hole of a ring,
never costs the lesion: what is near enough stays.
"""

from __future__ import annotations

from dataclasses import replace

import cc3d
import numpy as np
import numpy.typing as npt

from ..case.case import LesionResult, MaskPrompt
from ..case.geometry import Box, Index, Vector
from .segmenter import lesion_result

BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.unsignedinteger]

LIMIT_MM = 20.0
"""How far from its point a lesion may begin.

The paper's 10 voxels are 7 mm within slices and 50 mm across thick ones. 20 mm cover a lesion beside a point
that was propagated over a breath (10-15 mm) with some error of registration; 25 mm is where tracking scores
stop to take two places for one lesion (CPM@25, [Rokuss2025]).
"""

# Components whose distances differ by rounding only are equally near.
_TIE_MM = 1e-6


def components(mask: BoolArray) -> tuple[LabelArray, int]:
    """Label the pieces of a mask (z, y, x) from 1 to the returned count; corners connect."""
    if not mask.any():  # also arrays of no size
        return np.zeros(mask.shape, np.uint16), 0
    labels, count = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=26, return_N=True, binary_image=True
    )
    return labels, int(count)


def point_voxel(point_zyx: Vector) -> Index:
    """The voxel that a point lies in; halves go up."""
    z, y, x = (int(np.floor(value + 0.5)) for value in point_zyx)
    return (z, y, x)


def keep_component(
    mask: BoolArray,
    spacing_zyx: Vector,
    point_zyx: Vector,
    limit_mm: float = LIMIT_MM,
    expected: BoolArray | None = None,
) -> BoolArray:
    """The component (26-connected) that holds the point, else the nearest one, else none.

    Distances are in mm from the point to the centre of a component's nearest voxel; of equally near ones the
    largest wins, then the first in the array's order.

    Args:
        mask: booleans (z, y, x).
        spacing_zyx: mm.
        point_zyx: voxel index on the mask's grid, may be a fraction, may lie outside of it.
        limit_mm: a component that is further away than this is not kept.
        expected: where the lesion is expected (mask's shape); components that overlap it are kept as well.

    Returns:
        Booleans of the mask's shape; all False when no component qualifies.
    """
    labels, count = components(mask)
    wanted = np.zeros(count + 1, bool)
    wanted[_component_at(labels, spacing_zyx, point_zyx, limit_mm)] = True
    if expected is not None:
        wanted[np.unique(labels[expected])] = True
    wanted[0] = False
    return wanted[labels]


def result_at_point(
    result: LesionResult, limit_mm: float = LIMIT_MM, keep: MaskPrompt | None = None
) -> LesionResult:
    """An answer reduced to the pieces that belong to its prompt's follow-up point.

    The voxels of dropped components become 0, in the support too; values of one half and less stay. The box
    shrinks to what is left. An answer that keeps everything is returned as it is.

    Args:
        limit_mm: see `keep_component`.
        keep: a mask on the follow-up's axial grid, such as the propagated one of the baseline: pieces that
            overlap it stay, so that a lesion that has split keeps its parts.
    """
    point = np.subtract(result.prompt.followup_point.point_zyx, result.box.start_zyx)
    kept = keep_component(
        result.mask,
        result.prompt.followup.geometry.spacing_zyx,
        (float(point[0]), float(point[1]), float(point[2])),
        limit_mm,
        None if keep is None else _over_box(keep, result.box),
    )
    dropped = result.mask & ~kept
    if not dropped.any():
        return result
    # Voxels above one half are all inside of the box, so that this clears the support's as well.
    values = np.where(dropped, np.float32(0), result.probability)
    reduced = lesion_result(result.prompt, result.box, values)
    if result.support is None or result.support_probability is None:
        return reduced
    support_values = result.support_probability.copy()
    support_values[result.box.relative_to(result.support).slices][dropped] = 0
    return replace(reduced, support=result.support, support_probability=support_values)


def _component_at(labels: LabelArray, spacing_zyx: Vector, point_zyx: Vector, limit_mm: float) -> int:
    """The label of the component that holds the point or is nearest to it; 0 when there is none."""
    voxel = point_voxel(point_zyx)
    if all(0 <= i < n for i, n in zip(voxel, labels.shape, strict=True)) and labels[voxel]:
        return int(labels[voxel])
    voxels = np.nonzero(labels)
    if not voxels[0].size:
        return 0
    owners = labels[voxels]
    squares = sum(
        ((axis - p) * s) ** 2 for axis, p, s in zip(voxels, point_zyx, spacing_zyx, strict=True)
    )  # a running sum: lesions of a million voxels happen
    nearest = np.full(int(owners.max()) + 1, np.inf)
    np.minimum.at(nearest, owners, np.sqrt(squares))
    if nearest.min() > limit_mm + _TIE_MM:
        return 0
    near = np.flatnonzero(nearest <= nearest.min() + _TIE_MM)
    sizes = np.bincount(owners, minlength=len(nearest))
    return int(near[np.argmax(sizes[near])])


def _over_box(mask: MaskPrompt, box: Box) -> BoolArray:
    """A mask's voxels over another box (its shape); False where the mask does not reach."""
    over = np.zeros(box.shape_zyx, bool)
    common = box.intersection(mask.box)
    if not common.is_empty:
        over[common.relative_to(box).slices] = mask.voxels[common.relative_to(mask.box).slices]
    return over
