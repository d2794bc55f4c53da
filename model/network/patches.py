"""Patches: their placement, extraction from the scans, and pasting predictions back.

"Network axes" are a scan's array axes in the plan's order (`transpose_forward`), where a baseline takes on
the axis signs of its follow-up. The "network grid" is the scan resampled to the plan's spacing in these axes;
it is never computed as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from ..case.case import Scan
from ..case.geometry import Array, AxisMap, Box, Geometry, Index, Vector
from .normalize import normalize_ct
from .plan import CtNormalization, Plan
from .resample import FloatVolume, resample_box, resampled_index, resampled_shape, source_box, touched_box


@dataclass(frozen=True, slots=True)
class NetworkGrid:
    """A scan in network axes: original shape and spacing, and shape at the plan's spacing.

    All values but ``axial_shape_zyx`` are along network axes; shapes in voxels. ``rounds_points`` rounds
    points to the nearest voxel instead of truncating them.
    """

    axes: AxisMap  # from the scan's axial array to network axes
    axial_shape_zyx: Index
    source_shape: Index
    source_spacing_mm: Vector
    target_spacing_mm: Vector
    shape: Index
    rounds_points: bool = False

    @property
    def whole(self) -> Box:
        """The box of all voxels of the network grid."""
        return Box.of_shape(self.shape)

    def index(self, point_zyx: Sequence[float]) -> Index:
        """The network voxel of a point (docs/model_recipe.md, step 3).

        Args:
            point_zyx: voxel index (z, y, x) on the axial scan.

        Returns:
            Integer voxel index on the network grid.
        """
        point = self.axes.point(point_zyx, self.axial_shape_zyx)
        return resampled_index(
            point, self.source_spacing_mm, self.target_spacing_mm, self.shape, self.rounds_points
        )


def network_grid(
    axial: Geometry, plan: Plan, like: Geometry | None = None, rounds_points: bool = False
) -> NetworkGrid:
    """The network grid of a scan.

    Args:
        axial: geometry of the scan in axial order (`Scan.geometry`).
        plan: determines the order of the axes and the spacing (mm).
        like: axial geometry of the follow-up whose axis signs a baseline takes on; None keeps its signs.
        rounds_points: points are rounded to the nearest voxel instead of truncated.
    """
    signs = axial.sign_map(like) if like is not None else AxisMap()
    axes = signs.then(AxisMap(plan.transpose_forward))
    shape = axes.triple(axial.shape_zyx)
    spacing = axes.triple(axial.spacing_zyx)
    return NetworkGrid(
        axes=axes,
        axial_shape_zyx=axial.shape_zyx,
        source_shape=shape,
        source_spacing_mm=spacing,
        target_spacing_mm=plan.spacing_zyx,
        shape=resampled_shape(shape, spacing, plan.spacing_zyx),
        rounds_points=rounds_points,
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """The two patches and points of a lesion on their network grids; patches may extend beyond the images."""

    followup: Box
    baseline: Box
    followup_index: Index
    baseline_index: Index

    def at(self, followup: Box) -> Placement:
        """Another pair of patches of the lesion, with the same points and offset between the scans.

        Args:
            followup: patch on the follow-up's network grid.
        """
        return replace(self, followup=followup, baseline=followup.shifted(self._to_baseline))

    def to_followup(self, baseline: Box) -> Box:
        """Shift a box by the offset of the two points.

        Args:
            baseline: box on the baseline's network grid.

        Returns:
            Box on the follow-up's network grid.
        """
        return baseline.shifted([-step for step in self._to_baseline])

    @property
    def _to_baseline(self) -> list[int]:
        return [b - f for b, f in zip(self.baseline_index, self.followup_index, strict=True)]


def place_patches(
    followup_index: Index, baseline_index: Index, followup_shape: Index, patch_size: Index
) -> Placement:
    """Centre the follow-up patch on its point, and shift the baseline patch so that the points coincide.

    The follow-up patch stays inside a larger image and is centred on a smaller one, with one voxel more on
    the low side if the difference is odd. The baseline patch is not clamped (docs/model_recipe.md, step 6).

    Args:
        followup_index: voxel of the point on the follow-up's network grid.
        baseline_index: voxel of the point on the baseline's network grid.
        followup_shape: shape of the follow-up's network grid.
        patch_size: in network voxels.
    """
    start = [
        (n - p) // 2 if n < p else min(max(f - p // 2, 0), n - p)
        for f, n, p in zip(followup_index, followup_shape, patch_size, strict=True)
    ]
    followup = Box.of_shape(patch_size, start)
    shift = [b - f for b, f in zip(baseline_index, followup_index, strict=True)]
    return Placement(followup, followup.shifted(shift), followup_index, baseline_index)


def extract_ct(scan: Scan, grid: NetworkGrid, box: Box, scheme: CtNormalization) -> FloatVolume:
    """Extract the CT of a patch, normalised and resampled (docs/model_recipe.md, steps 4 and 6).

    Args:
        scan: CT in HU.
        grid: network grid of the scan.
        box: patch on the network grid, may extend beyond the image.
        scheme: normalisation of the plan.

    Returns:
        float32 of the box's shape in network axes; 0 (the mean HU) beyond the image.
    """
    return _extract(grid.axes.array(scan.ct), grid, box, lambda crop: normalize_ct(crop, scheme))


def extract_mask(scan: Scan, lesion_id: int, grid: NetworkGrid, box: Box) -> FloatVolume:
    """Extract a lesion's mask of a patch: interpolated, then thresholded (docs/model_recipe.md, step 5).

    Args:
        scan: scan with a labelmap; without one the mask is empty.
        lesion_id: label value of the lesion.
        grid: network grid of the scan.
        box: patch on the network grid, may extend beyond the image.

    Returns:
        float32 of the box's shape in network axes, 1 where the interpolated mask exceeds 0.5, otherwise 0.
    """
    if scan.mask is None:
        return np.zeros(box.shape_zyx, np.float32)
    soft = _extract(
        grid.axes.array(scan.mask), grid, box, lambda crop: (crop == lesion_id).astype(np.float32)
    )
    return (soft > 0.5).astype(np.float32)


def _extract(
    source: Array, grid: NetworkGrid, box: Box, convert: Callable[[Array], FloatVolume]
) -> FloatVolume:
    """Convert and resample only the source voxels that the patch needs."""
    inside = box.intersection(grid.whole)
    if inside.is_empty:
        return np.zeros(box.shape_zyx, np.float32)
    needed = source_box(grid.source_shape, grid.shape, inside)
    crop = convert(source[needed.slices])
    values = resample_box(crop, needed.start_zyx, grid.source_shape, grid.shape, inside)
    return pad_to_box(values, inside, box)


def pad_to_box(values: FloatVolume, inside: Box, box: Box) -> FloatVolume:
    """Pad the values of a box with zeros to a larger box.

    Args:
        values: float32 of the shape of ``inside``.
        inside: box of the values.
        box: box that contains ``inside``, on the same grid.

    Returns:
        float32 of the shape of ``box``.
    """
    if inside == box:
        return values
    padded: FloatVolume = crop_and_pad_nd(values, box.relative_to(inside).bounds())
    return padded


def paste_back(probability: FloatVolume, box: Box, grid: NetworkGrid) -> tuple[Box, npt.NDArray[np.float32]]:
    """Resample a patch of foreground probabilities to the axial scan (docs/model_recipe.md, step 11).

    Outside the patch the probability is 0. Only voxels that the patch touches are computed.

    Args:
        probability: float32 of the patch's shape, in network axes.
        box: the patch on the network grid; may extend beyond the image.
        grid: network grid of the scan.

    Returns:
        The box of touched voxels on the axial scan, and their probabilities (z, y, x), float32.
    """
    inside = box.intersection(grid.whole)
    touched = touched_box(grid.shape, grid.source_shape, inside)
    if touched.is_empty:  # the patch can fit between two thick slices
        return Box.of_shape((1, 1, 1)), np.zeros((1, 1, 1), np.float32)
    needed = source_box(grid.shape, grid.source_shape, touched)
    valid = probability[inside.relative_to(box).slices]
    source = crop_and_pad_nd(valid, needed.relative_to(inside).bounds())
    values = resample_box(source, needed.start_zyx, grid.shape, grid.source_shape, touched)
    back = grid.axes.inverse()
    axial_box = back.box(touched, grid.source_shape)
    return axial_box, np.ascontiguousarray(back.array(values))
