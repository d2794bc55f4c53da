"""Lesions of a labelmap: their boxes, centres and sizes, and pairs of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Box, Vector
from ..case.labelmaps import label_regions


@dataclass(frozen=True, slots=True)
class LabelledLesion:
    """A lesion as labelled: voxel box (z, y, x), centre of gravity (voxel index z, y, x) and size."""

    lesion_id: int
    box: Box
    centre_zyx: Vector
    voxels: int
    volume_ml: float

    @property
    def radius_mm(self) -> float:
        """Radius of the ball of the same volume."""
        return equivalent_radius_mm(self.volume_ml)


@dataclass(frozen=True, slots=True)
class NearPair:
    """Ids of two neighbouring lesions; ``gap_mm`` is between the centres of their nearest voxels."""

    first: int
    second: int
    gap_mm: float


@dataclass(frozen=True, slots=True)
class ScanLesions:
    """Lesions of a scan and its close pairs, from which a follow-up is drawn.

    ``patient_ids`` are the lesion ids of all scans of the patient, ``highest_id`` the largest of them: new
    lesions get ids above it or, if none is left, ids that are not among ``patient_ids``.
    """

    lesions: tuple[LabelledLesion, ...]
    pairs: tuple[NearPair, ...]
    highest_id: int = 0
    patient_ids: frozenset[int] = frozenset()


def equivalent_radius_mm(volume_ml: float) -> float:
    """Compute the radius in mm of a ball of a volume in ml."""
    return float((3000.0 * volume_ml / (4 * np.pi)) ** (1 / 3))


def labelled_lesions(labels: Array, spacing_zyx: Vector) -> tuple[LabelledLesion, ...]:
    """List the lesions of a labelmap, ordered by id.

    Args:
        labels: lesion ids (z, y, x).
        spacing_zyx: voxel spacing (z, y, x) in mm.
    """
    voxel_ml = float(np.prod(spacing_zyx)) / 1000.0
    found = []
    for lesion_id, region in label_regions(labels).items():
        volume_ml = region.voxels * voxel_ml
        found.append(LabelledLesion(lesion_id, region.box, region.centre_zyx, region.voxels, volume_ml))
    return tuple(found)


def near_pairs(
    labels: Array, lesions: Sequence[LabelledLesion], spacing_zyx: Vector, max_gap_mm: float
) -> tuple[NearPair, ...]:
    """Find pairs of lesions that do not touch and lie close to each other.

    Args:
        labels: lesion ids (z, y, x).
        lesions: the lesions of ``labels``.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        max_gap_mm: widest gap of a pair.
    """
    spacing = np.asarray(spacing_zyx)
    touching_mm = float(np.linalg.norm(spacing)) * 1.01
    starts = np.asarray([lesion.box.start_zyx for lesion in lesions]).reshape(-1, 3)
    stops = np.asarray([lesion.box.stop_zyx for lesion in lesions]).reshape(-1, 3)
    pairs = []
    for i, j in combinations(range(len(lesions)), 2):
        apart = np.maximum(starts[j] - stops[i], starts[i] - stops[j]).clip(0) * spacing
        if np.linalg.norm(apart) > max_gap_mm:
            continue
        box = Box(tuple(np.minimum(starts[i], starts[j])), tuple(np.maximum(stops[i], stops[j])))
        part = labels[box.slices]
        first, second = lesions[i].lesion_id, lesions[j].lesion_id
        distance = ndimage.distance_transform_edt(part != first, sampling=spacing_zyx)
        gap = float(distance[part == second].min())
        if touching_mm < gap <= max_gap_mm:
            pairs.append(NearPair(first, second, gap))
    return tuple(pairs)


def find_scan_lesions(
    labels: Array, spacing_zyx: Vector, max_gap_mm: float, patient_ids: frozenset[int] = frozenset()
) -> ScanLesions:
    """Find the lesions of a labelmap and its close pairs.

    Args:
        labels: lesion ids (z, y, x).
        spacing_zyx: voxel spacing (z, y, x) in mm.
        max_gap_mm: widest gap of a pair.
        patient_ids: lesion ids of all scans of the patient; empty if this is the only one.
    """
    lesions = labelled_lesions(labels, spacing_zyx)
    pairs = near_pairs(labels, lesions, spacing_zyx, max_gap_mm)
    return ScanLesions(lesions, pairs, max(patient_ids, default=0), patient_ids)
