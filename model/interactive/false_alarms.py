"""Rules against false alarms on the finished mask of a PET/CT.

A component (26 neighbours) with a tumour click is never removed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..case.axes import Array, Box, Index, flip_order, to_index, voxel_at
from ..case.connected_components import label_components
from ..case.geometry import Geometry
from ..case.tumor_clicks import ClickKind, TumorClick
from .false_alarm_rules import COVER_RADIUS_MM, FalseAlarmRules
from .place_clicks import place_clicks
from .segment_pet_ct import TumorSegmentation

log = logging.getLogger(__name__)

_BoolArray = npt.NDArray[np.bool_]


def apply_rules(
    mask: _BoolArray, pet: Array, geometry: Geometry, clicks: Sequence[TumorClick], rules: FalseAlarmRules
) -> tuple[_BoolArray, list[str]]:
    """Apply rules to a mask.

    Args:
        mask: all tumour, booleans (z, y, x) on the axial grid.
        pet: SUV of the same shape; voxels that are not finite reach no SUV.
        geometry: of the axial grid.
        clicks: voxel indices (z, y, x) on it.
        rules: that are on.

    Returns:
        The mask after the rules, and a sentence for each thing that they changed or could not change.
    """
    clicked = {kind: _clicked_voxels(clicks, kind, mask.shape) for kind in ClickKind}
    labels, count = label_components(mask)
    sizes_ml = np.bincount(labels.ravel(), minlength=count + 1) * geometry.voxel_volume_ml
    kept = {int(labels[voxel]) for voxel in clicked[ClickKind.TUMOR]} - {0}
    removed, notes = set[int](), list[str]()
    if rules.min_suv is not None and (removed := _below(labels, count, pet, rules.min_suv) - kept):
        total_ml = sizes_ml[list(removed)].sum()
        noun = "component" if len(removed) == 1 else "components"
        notes.append(
            f"{len(removed)} {noun} ({total_ml:.2f} ml) below SUV {rules.min_suv:g} everywhere: removed"
        )
    if rules.remove_clicked:
        for voxel in clicked[ClickKind.BACKGROUND]:
            if (label := int(labels[voxel])) in removed | {0}:
                continue
            place = f"component ({sizes_ml[label]:.2f} ml) with a background click at {_shown(voxel)}"
            if label in kept:
                notes.append(f"{place}: kept, as it holds a tumor click, too")
            else:
                removed.add(label)
                notes.append(f"{place}: removed")
    result = mask & ~np.isin(labels, list(removed))
    if rules.cover_clicks:
        for voxel in clicked[ClickKind.TUMOR]:
            if not mask[voxel]:
                _add_ball(result, voxel, clicked[ClickKind.BACKGROUND], geometry)
                place = f"tumor click at {_shown(voxel)} outside of the mask"
                notes.append(f"{place}: a ball of {COVER_RADIUS_MM:g} mm is added")
    return result, notes


def _clicked_voxels(clicks: Sequence[TumorClick], kind: ClickKind, shape_zyx: Sequence[int]) -> list[Index]:
    """The voxels of the clicks of a kind, each once."""
    last = np.asarray(shape_zyx) - 1
    voxels = [np.clip(voxel_at(click.point_zyx), 0, last) for click in clicks if click.kind is kind]
    return list(dict.fromkeys(to_index(voxel) for voxel in voxels))


def _below(labels: Array, count: int, pet: Array, suv: float) -> set[int]:
    """The components that nowhere reach a SUV."""
    if not count:
        return set()
    numbers = np.arange(1, count + 1)
    largest = ndimage.maximum(np.where(np.isfinite(pet), pet, -np.inf), labels, numbers)
    return {int(number) for number in numbers[np.asarray(largest) < suv]}


def _add_ball(mask: _BoolArray, centre: Index, background: Sequence[Index], geometry: Geometry) -> None:
    """Add a ball to a mask, without the voxels that are nearer to a background click; its centre is added."""
    reach = to_index([int(COVER_RADIUS_MM / step) for step in geometry.spacing_zyx])
    start = [index - far for index, far in zip(centre, reach, strict=True)]
    box = Box.of_shape([2 * far + 1 for far in reach], start).intersection(Box.of_shape(mask.shape))

    def distance_mm(voxel: Index) -> npt.NDArray[np.float64]:
        offsets = [
            (np.arange(low, high) - index) * step
            for low, high, index, step in zip(
                box.start_zyx, box.stop_zyx, voxel, geometry.spacing_zyx, strict=True
            )
        ]
        z, y, x = np.meshgrid(*offsets, indexing="ij")
        distance: npt.NDArray[np.float64] = np.sqrt(z**2 + y**2 + x**2)
        return distance

    own = distance_mm(centre)
    ball = own <= COVER_RADIUS_MM
    for voxel in background:
        ball &= own <= distance_mm(voxel)
    mask[box.slices] |= ball


def _shown(voxel: Index) -> str:
    """A voxel in the order of click files."""
    return f"voxel (x, y, z) {list(flip_order(voxel))}"


def with_rules(
    segmentation: TumorSegmentation,
    pet: Array,
    geometry: Geometry,
    clicks: Sequence[TumorClick],
    rules: FalseAlarmRules,
) -> TumorSegmentation:
    """Apply rules to a segmentation; its margin stays.

    Args:
        segmentation: of a scan.
        pet: SUV (z, y, x) of the scan.
        geometry: of its axial grid.
        clicks: of the user, voxel indices (z, y, x); they count for networks that take no clicks, too.
        rules: that are on.

    Returns:
        The segmentation with another mask, and with more warnings.
    """
    placed, _ = place_clicks(clicks, geometry)
    mask, notes = apply_rules(segmentation.mask, pet, geometry, placed, rules)
    for note in notes:
        log.warning("%s", note)
    return replace(segmentation, mask=mask, warnings=(*segmentation.warnings, *notes))
