"""Uptake of the lesions of a PET/CT: the components of a mask, and SUV, volume and glycolysis of each.

SUVpeak is the global intensity peak of [Zwanenburg2020], the sphere of 1 ml that PERCIST places where its
mean is largest [Wahl2009]: docs/interactive.md states all definitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import oaconvolve

from ..case.axes import Array, Box, Index, Vector, to_index
from ..case.connected_components import label_components
from ..case.geometry import Geometry
from ..case.labelmaps import LabelRegion, label_regions

PEAK_RADIUS_MM = 10 * (3 / (4 * math.pi)) ** (1 / 3)
"""Radius of a sphere of 1 ml."""

_FloatArray = npt.NDArray[np.float64]
_BoolArray = npt.NDArray[np.bool_]
# Rounding of spacings must not decide if a voxel's centre lies in the sphere.
_TOLERANCE_MM = 1e-6


@dataclass(frozen=True, slots=True)
class LesionUptake:
    """Measures of one lesion; NaN where the PET has no finite voxel in it.

    Attributes:
        lesion_id: its label.
        voxels: number of voxels.
        volume_ml: metabolic tumour volume (MTV).
        suv_max: of its voxels.
        suv_mean: of its voxels.
        suv_peak: largest mean over a sphere of 1 ml around any of its voxels.
        hottest_zyx: voxel index of ``suv_max``.
        peak_zyx: voxel index of the middle of the sphere of ``suv_peak``.
    """

    lesion_id: int
    voxels: int
    volume_ml: float
    suv_max: float
    suv_mean: float
    suv_peak: float
    hottest_zyx: Index
    peak_zyx: Index

    @property
    def glycolysis_ml(self) -> float:
        """Total lesion glycolysis (TLG): mean SUV times volume."""
        return self.suv_mean * self.volume_ml


@dataclass(frozen=True, slots=True)
class TotalUptake:
    """Measures of all lesions together; NaN where there is nothing to measure.

    Attributes:
        lesions: their number.
        volume_ml: sum of the volumes.
        suv_max: largest of all lesions.
        suv_mean: of the voxels of all lesions.
        suv_peak: largest of all lesions.
        glycolysis_ml: sum of the lesions' glycolysis.
    """

    lesions: int
    volume_ml: float
    suv_max: float
    suv_mean: float
    suv_peak: float
    glycolysis_ml: float


def number_lesions(mask: _BoolArray) -> npt.NDArray[np.unsignedinteger]:
    """Number the 26-connected components of a mask, the largest first.

    Args:
        mask: booleans (z, y, x).

    Returns:
        Lesion ids from 1 on, 0 for background, in the smallest unsigned type; of components of one size the
        first in (z, y, x) order comes first.
    """
    labels, count = label_components(mask)
    sizes = [region.voxels for region in label_regions(labels).values()]
    ids = np.zeros(count + 1, np.min_scalar_type(count))
    ids[1 + np.argsort(np.negative(sizes), kind="stable")] = np.arange(1, count + 1)
    return ids[labels]


def measure_uptake(labels: Array, pet: Array, geometry: Geometry) -> list[LesionUptake]:
    """Measure each lesion of a labelmap.

    Args:
        labels: lesion ids (z, y, x), 0 for background.
        pet: SUV on the same grid; voxels that are NaN or infinite count nowhere but in volumes.
        geometry: of both.

    Returns:
        One entry per lesion, ids ascending.
    """
    sphere = peak_sphere(geometry.spacing_zyx)
    return [
        _measured(lesion_id, region, labels, pet, geometry.voxel_volume_ml, sphere)
        for lesion_id, region in label_regions(labels).items()
    ]


def total_uptake(lesions: Sequence[LesionUptake]) -> TotalUptake:
    """Sum up the lesions of one scan."""
    volume_ml = math.fsum(lesion.volume_ml for lesion in lesions)
    seen = [lesion for lesion in lesions if math.isfinite(lesion.suv_mean)]
    seen_ml = math.fsum(lesion.volume_ml for lesion in seen)
    glycolysis_ml = math.fsum(lesion.glycolysis_ml for lesion in seen)
    return TotalUptake(
        lesions=len(lesions),
        volume_ml=volume_ml,
        suv_max=max((lesion.suv_max for lesion in seen), default=math.nan),
        suv_mean=glycolysis_ml / seen_ml if seen else math.nan,
        suv_peak=max((lesion.suv_peak for lesion in seen), default=math.nan),
        glycolysis_ml=glycolysis_ml,
    )


def peak_sphere(spacing_zyx: Vector) -> _BoolArray:
    """The voxels whose centre lies in a sphere of 1 ml around the middle of a voxel.

    Args:
        spacing_zyx: mm.

    Returns:
        Booleans (z, y, x), an odd number of voxels along each axis.
    """
    radius_mm = PEAK_RADIUS_MM + _TOLERANCE_MM
    lines = [np.arange(-(radius_mm // s), radius_mm // s + 1) * s for s in spacing_zyx]
    z, y, x = np.meshgrid(*lines, indexing="ij", sparse=True)
    inside: _BoolArray = z**2 + y**2 + x**2 <= radius_mm**2
    return inside


def _measured(
    lesion_id: int, region: LabelRegion, labels: Array, pet: Array, voxel_ml: float, sphere: _BoolArray
) -> LesionUptake:
    """Measures of the lesion of a region of a labelmap."""
    inside = labels[region.box.slices] == lesion_id
    values = pet[region.box.slices].astype(np.float64)
    is_seen = inside & np.isfinite(values)
    first = _voxel(inside, region.box)
    volume_ml = region.voxels * voxel_ml
    if not is_seen.any():
        nothing = math.nan
        return LesionUptake(lesion_id, region.voxels, volume_ml, nothing, nothing, nothing, first, first)
    hottest = _voxel(np.where(is_seen, values, -np.inf), region.box)
    means = _sphere_means(pet, region.box, sphere)
    centre = _voxel(np.where(is_seen, means, -np.inf), region.box)
    return LesionUptake(
        lesion_id,
        region.voxels,
        volume_ml,
        suv_max=float(pet[hottest]),
        suv_mean=float(values[is_seen].mean()),
        suv_peak=_sphere_mean(pet, centre, sphere),
        hottest_zyx=hottest,
        peak_zyx=centre,
    )


def _voxel(values: Array, box: Box) -> Index:
    """The voxel index of the largest value over a box, the first of equal ones."""
    inner = np.unravel_index(int(np.argmax(values)), values.shape)
    return to_index([int(index) + start for index, start in zip(inner, box.start_zyx, strict=True)])


def _sphere_means(pet: Array, box: Box, sphere: _BoolArray) -> _FloatArray:
    """The mean over the sphere around each voxel of a box, of the finite voxels within the image."""
    reach = [n // 2 for n in sphere.shape]
    wide = Box(
        to_index([a - r for a, r in zip(box.start_zyx, reach, strict=True)]),
        to_index([b + r for b, r in zip(box.stop_zyx, reach, strict=True)]),
    )
    inside = wide.intersection(Box.of_shape(pet.shape))
    part = inside.relative_to(wide).slices
    values, weights = np.zeros(wide.shape_zyx), np.zeros(wide.shape_zyx)
    seen = pet[inside.slices].astype(np.float64)
    weights[part] = np.isfinite(seen)
    values[part] = np.where(weights[part] > 0, seen, 0)
    kernel = sphere.astype(np.float64)
    counts: _FloatArray = (
        np.asarray(kernel.sum()) if weights.all() else np.rint(oaconvolve(weights, kernel, mode="valid"))
    )
    means: _FloatArray = oaconvolve(values, kernel, mode="valid") / np.maximum(counts, 1)
    return means


def _sphere_mean(pet: Array, centre: Index, sphere: _BoolArray) -> float:
    """The mean over the sphere around one voxel, without the rounding of a convolution."""
    around = Box.of_shape(sphere.shape, [c - n // 2 for c, n in zip(centre, sphere.shape, strict=True)])
    inside = around.intersection(Box.of_shape(pet.shape))
    values = pet[inside.slices].astype(np.float64)
    held = sphere[inside.relative_to(around).slices] & np.isfinite(values)
    return float(values[held].mean())
