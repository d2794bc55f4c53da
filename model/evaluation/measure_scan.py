"""Measures the lesions of two labelmaps: each lesion is compared within its bounding box."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..case.file_grid import FileGrid
from ..case.geometry import Array, Geometry, Vector, flip_order
from ..case.images import read_image
from ..case.labelmaps import label_boxes
from ..case.voxel_checks import lesion_labels
from .lesion_groups import LesionGroup
from .overlap import measure_overlap
from .records import LesionRecord, Scope
from .surface import surface_distances, surface_elements

BoolArray = npt.NDArray[np.bool_]
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Labelmap:
    """Lesion ids (z, y, x) of a file, with the axes of the file, and their grid."""

    path: Path
    array: Array
    geometry: Geometry

    @cached_property
    def boxes(self) -> Mapping[int, Slices]:
        """Bounding box (z, y, x) of each label, in ascending order."""
        return {label: box.slices for label, box in label_boxes(self.array).items()}

    @property
    def ids(self) -> frozenset[int]:
        """All labels."""
        return frozenset(self.boxes)

    def ml_of(self, ids: Iterable[int]) -> float:
        """Compute the volume in ml of some labels together."""
        voxels = sum(
            int(np.count_nonzero(self.array[self.boxes[i]] == i)) for i in set(ids) if i in self.boxes
        )
        return voxels * self.geometry.voxel_volume_ml


@dataclass(frozen=True, slots=True)
class ScanName:
    """Patient, scan and step of a record; ``is_missing`` if this step has no file of a prediction."""

    patient: str
    scan: str
    step: int
    is_missing: bool


def read_labelmap(path: Path) -> Labelmap:
    """Read a labelmap of lesion ids; a binary mask of 1 holds the lesion 1.

    Raises:
        InputError: not an image, values that are not whole numbers, or ids out of range.
    """
    image = read_image(path)
    labels = lesion_labels(path, image.array)
    return Labelmap(path, labels.view(np.uint8) if labels.dtype == np.int8 else labels, image.geometry)


def as_binary(labels: Labelmap) -> Labelmap:
    """Replace the value of a binary mask by 1."""
    if labels.ids <= {1}:
        return labels
    return Labelmap(labels.path, (labels.array > 0).astype(np.uint8), labels.geometry)


def empty_like(reference: Labelmap) -> Labelmap:
    """Make a map without lesions, in place of a missing prediction; it takes no memory."""
    array = np.broadcast_to(np.uint8(0), reference.array.shape)
    empty = Labelmap(reference.path, array, reference.geometry)
    empty.__dict__["boxes"] = {}
    return empty


def measure_scan(
    name: ScanName,
    groups: Sequence[LesionGroup],
    reference: Labelmap,
    prediction: Labelmap,
    baseline_ml: Mapping[LesionGroup, float],
) -> list[LesionRecord]:
    """Measure a scan at one step: each lesion, and all of them as one foreground (the last record).

    Args:
        name: patient, scan and step of the records.
        groups: the lesions, with unique names.
        reference: lesion ids (z, y, x) of the reference.
        prediction: lesion ids (z, y, x) of the prediction, on the same grid.
        baseline_ml: volume in ml of each lesion in the baseline, if known.

    Raises:
        ValueError: two lesions have the same name.
    """
    if len({group.name for group in groups}) < len(groups):
        raise ValueError(f"{name.scan}: two lesions have the same name")  # steps and runs pair by name
    records = []
    for group in groups:
        box = _box(reference, group.reference_ids, prediction, group.prediction_ids)
        masks = (
            _mask(reference.array[box], group.reference_ids),
            _mask(prediction.array[box], group.prediction_ids),
        )
        records.append(_record(name, group, Scope.LESION, masks, reference.geometry, baseline_ml.get(group)))
    everything = LesionGroup("all", (), tuple(sorted(reference.ids)), tuple(sorted(prediction.ids)), None)
    box = _box(reference, reference.ids, prediction, prediction.ids)
    masks = (reference.array[box] > 0, prediction.array[box] > 0)
    total = sum(baseline_ml.values()) if baseline_ml else None
    records.append(_record(name, everything, Scope.SCAN, masks, reference.geometry, total))
    return records


def _box(
    reference: Labelmap, reference_ids: Iterable[int], prediction: Labelmap, ids: Iterable[int]
) -> Slices:
    """Bound the labels in both maps, or an empty box."""
    boxes = [reference.boxes[i] for i in reference_ids if i in reference.boxes]
    boxes += [prediction.boxes[i] for i in ids if i in prediction.boxes]
    if not boxes:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    z, y, x = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return (z, y, x)


def _mask(labels: Array, ids: Sequence[int]) -> BoolArray:
    mask = np.zeros(labels.shape, bool)
    for lesion_id in ids:
        if lesion_id <= np.iinfo(labels.dtype).max:
            mask |= labels == lesion_id
    return mask


def _record(
    name: ScanName,
    group: LesionGroup,
    scope: Scope,
    masks: tuple[BoolArray, BoolArray],
    grid: Geometry,
    baseline_ml: float | None,
) -> LesionRecord:
    reference, prediction = masks
    counts = measure_overlap(reference, prediction)
    surfaces, centre_mm = None, None
    if counts.reference and counts.prediction:
        placed, spacing_zyx = _orthogonal(masks, grid)
        surfaces = surface_distances(*(surface_elements(mask, spacing_zyx) for mask in placed))
        offset = (_centre(placed[1]) - _centre(placed[0])) * spacing_zyx
        centre_mm = float(np.linalg.norm(offset))
    return LesionRecord(
        patient=name.patient,
        scan=name.scan,
        step=name.step,
        scope=scope,
        lesion=group.name,
        baseline_ids=group.baseline_ids,
        reference_ids=group.reference_ids,
        prediction_ids=group.prediction_ids,
        existed=group.existed,
        is_missing=name.is_missing,
        voxel_ml=grid.voxel_volume_ml,
        diagonal_mm=float(np.linalg.norm(np.multiply(grid.shape_zyx, grid.spacing_zyx))),
        baseline_ml=baseline_ml,
        reference_voxels=counts.reference,
        prediction_voxels=counts.prediction,
        common_voxels=counts.common,
        fn_voxels=counts.fn,
        fp_voxels=counts.fp,
        nsd_2mm=surfaces.nsd_2mm if surfaces else None,
        hd95_mm=surfaces.hd95_mm if surfaces else None,
        assd_mm=surfaces.assd_mm if surfaces else None,
        centre_mm=centre_mm,
    )


def _orthogonal(
    masks: tuple[BoolArray, BoolArray], grid: Geometry
) -> tuple[tuple[BoolArray, BoolArray], Vector]:
    """The masks on axes on which distances can be measured, and the spacing (z, y, x) along these in mm."""
    if not grid.is_sheared:
        return masks, grid.spacing_zyx
    crop = FileGrid.of(replace(grid, size_xyz=flip_order(masks[0].shape)))
    return (crop.axial_labels(masks[0]), crop.axial_labels(masks[1])), crop.axial.spacing_zyx


def _centre(mask: BoolArray) -> npt.NDArray[np.float64]:
    """Centre of gravity as a voxel index (z, y, x) of the box."""
    return np.array([axis.mean() for axis in np.nonzero(mask)])
