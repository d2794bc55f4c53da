"""The masks of the floors: a baseline mask pasted or warped, and a region grown around a point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..case.case import LesionPrompt, MaskPrompt, Scan
from ..case.geometry import Box, Vector, flip_order, voxel_at
from ..case.labelmaps import bounding_box
from ..propagation.register import Transform
from ..propagation.register.linear import LinearTransform
from ..propagation.shapes import propagate_mask

# A region may reach this many times as far from its point as the lesion reached in the baseline, which more
# than trebles its volume; of a lesion without a mask it may reach 30 mm.
_GROWTH, _LEAST_MM, _UNKNOWN_MM, _LARGEST_MM = 1.5, 5.0, 30.0, 100.0

# ITK's ConfidenceConnected: HU within mean +- 2.5 standard deviations of the region are added five times,
# beginning with the 3 x 3 x 3 voxels around the point.
_MULTIPLIER, _ITERATIONS, _FIRST_RADIUS = 2.5, 5, 1
_AIR_HU, _BONE_HU = -1024.0, 3071.0


def pasted_mask(mask: MaskPrompt, prompt: LesionPrompt) -> MaskPrompt:
    """Move a baseline mask so that its baseline point lies on the follow-up point; both in world axes.

    Args:
        mask: the lesion on the baseline's axial grid.
        prompt: the points and scans.

    Returns:
        The mask on the follow-up's axial grid, cropped; empty if it lies outside.
    """
    baseline, followup = prompt.baseline.geometry, prompt.followup.geometry
    before_mm = baseline.zyx_to_world(prompt.baseline_point.point_zyx)
    after_mm = followup.zyx_to_world(prompt.followup_point.point_zyx)
    shift = LinearTransform.translation(np.subtract(before_mm, after_mm))
    return propagate_mask(mask, baseline, followup, shift)


def warped_mask(mask: MaskPrompt, prompt: LesionPrompt, transform: Transform) -> MaskPrompt:
    """Warp a baseline mask to the follow-up; the points are not used.

    Args:
        mask: the lesion on the baseline's axial grid.
        prompt: the scans.
        transform: follow-up (fixed) to baseline (moving), in world coordinates, LPS mm.

    Returns:
        The mask on the follow-up's axial grid, cropped; empty if it lies outside.

    Raises:
        ValueError: the transform gives no finite point for it.
    """
    return propagate_mask(mask, prompt.baseline.geometry, prompt.followup.geometry, transform)


def growth_limit_mm(mask: MaskPrompt | None, prompt: LesionPrompt) -> float:
    """How far from its follow-up point a lesion's region may grow.

    Args:
        mask: the lesion on the baseline's axial grid; None if it has no mask.
        prompt: the points and scans.

    Returns:
        1.5 times the distance (mm) of the mask's farthest voxel from the baseline point, 5 to 100 mm; 30 mm
        without a mask.
    """
    if mask is None:
        return _UNKNOWN_MM
    voxels = np.argwhere(mask.voxels) + np.asarray(mask.box.start_zyx)
    offsets = (voxels - np.asarray(prompt.baseline_point.point_zyx)) * prompt.baseline.geometry.spacing_zyx
    farthest_mm = float(np.linalg.norm(offsets, axis=1).max())
    return min(max(_GROWTH * farthest_mm, _LEAST_MM), _LARGEST_MM)


def grown_mask(scan: Scan, point_zyx: Vector, limit_mm: float) -> MaskPrompt:
    """Grow a region of similar HU around a point, by ITK's ConfidenceConnected, and fill its holes.

    Args:
        scan: the follow-up.
        point_zyx: voxel index (z, y, x) on its axial grid; outside, the nearest voxel is used.
        limit_mm: the region's largest distance (mm) from the point.

    Returns:
        The region, whose holes are filled, cropped; empty if it has lost the point's voxel.
    """
    seed = voxel_at(scan.geometry.clip(point_zyx))
    reach = [int(limit_mm / spacing) for spacing in scan.geometry.spacing_zyx]
    start, stop = np.subtract(seed, reach), np.add(seed, reach) + 1
    ball = Box(_index(start), _index(stop)).intersection(Box.of_shape(scan.ct.shape))
    hu = np.nan_to_num(scan.ct[ball.slices].astype(np.float32), nan=_AIR_HU).clip(_AIR_HU, _BONE_HU)
    offsets = [
        (np.arange(a, b) - centre) * spacing
        for a, b, centre, spacing in zip(
            ball.start_zyx, ball.stop_zyx, seed, scan.geometry.spacing_zyx, strict=True
        )
    ]
    z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
    inside = z**2 + y**2 + x**2 <= limit_mm**2
    start_zyx = np.subtract(seed, ball.start_zyx)
    counted = inside.copy()  # the region begins with the mean of all voxels around the point
    counted[tuple(slice(max(0, n - _FIRST_RADIUS), n + _FIRST_RADIUS + 1) for n in start_zyx)] = True
    hu[~counted] = 10 * _BONE_HU  # never part of a region
    first = flip_order(_index(start_zyx))
    region = sitk.ConfidenceConnected(
        sitk.GetImageFromArray(hu), [first], _ITERATIONS, _MULTIPLIER, _FIRST_RADIUS, 1
    )
    voxels = sitk.GetArrayFromImage(sitk.BinaryFillhole(region, foregroundValue=1)).astype(bool) & inside
    inner = bounding_box(voxels) or Box((0, 0, 0), (0, 0, 0))
    return MaskPrompt(inner.shifted(ball.start_zyx), voxels[inner.slices])


def _index(values: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return (z, y, x)
