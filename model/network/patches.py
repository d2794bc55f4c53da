"""Where a lesion's patches lie, how they are cut from the scans, and how the answer goes back.

"Network axes" are a scan's array axes as the plan orders them (`transpose_forward`), with a baseline's
axis signs brought to its follow-up's; the "network grid" is the scan resampled to the plan's spacing in
these axes. It is never computed as a whole.
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
    """A scan in network axes: its shape as stored, and its shape at the plan's spacing."""

    axes: AxisMap  # from the scan's axial array to network axes
    axial_shape_zyx: Index
    source_shape: Index
    source_spacing_mm: Vector
    target_spacing_mm: Vector
    shape: Index

    @property
    def whole(self) -> Box:
        return Box.of_shape(self.shape)

    def index(self, point_zyx: Sequence[float]) -> Index:
        """The network voxel of a voxel index on the axial scan (docs/model_recipe.md, step 3)."""
        point = self.axes.point(point_zyx, self.axial_shape_zyx)
        return resampled_index(point, self.source_spacing_mm, self.target_spacing_mm, self.shape)


def network_grid(axial: Geometry, plan: Plan, like: Geometry | None = None) -> NetworkGrid:
    """The grid on which the network sees a scan.

    Args:
        axial: geometry of the scan in axial order (`Scan.geometry`).
        plan: gives the order of the axes and the spacing (mm) of the network.
        like: axial geometry of the follow-up whose axis signs a baseline takes on; None keeps the signs.
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
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """Both patches of a lesion on their network grids; they may reach beyond the images."""

    followup: Box
    baseline: Box
    followup_index: Index
    baseline_index: Index

    def at(self, followup: Box) -> Placement:
        """Another pair of patches of the same lesion: the same points, the same way between the scans."""
        return replace(self, followup=followup, baseline=followup.shifted(self._to_baseline))

    def to_followup(self, baseline: Box) -> Box:
        """Where a box of the baseline's network grid lies on the follow-up's, by the two points."""
        return baseline.shifted([-step for step in self._to_baseline])

    @property
    def _to_baseline(self) -> list[int]:
        return [b - f for b, f in zip(self.baseline_index, self.followup_index, strict=True)]


def place_patches(
    followup_index: Index, baseline_index: Index, followup_shape: Index, patch_size: Index
) -> Placement:
    """Put the follow-up patch round its point, and the baseline patch so that the points coincide.

    The follow-up patch stays inside an image that is larger than it, and is centred on one that is
    smaller (of an odd difference the low side gets one voxel more). The baseline patch is not clamped
    (docs/model_recipe.md, step 6).
    """
    start = [
        (n - p) // 2 if n < p else min(max(f - p // 2, 0), n - p)
        for f, n, p in zip(followup_index, followup_shape, patch_size, strict=True)
    ]
    followup = Box.of_shape(patch_size, start)
    shift = [b - f for b, f in zip(baseline_index, followup_index, strict=True)]
    return Placement(followup, followup.shifted(shift), followup_index, baseline_index)


def extract_ct(scan: Scan, grid: NetworkGrid, box: Box, scheme: CtNormalization) -> FloatVolume:
    """The CT in a patch: normalised, resampled, and 0 (the mean HU) beyond the image (recipe, steps 4, 6)."""
    return _extract(grid.axes.array(scan.ct), grid, box, lambda crop: normalize_ct(crop, scheme))


def extract_mask(scan: Scan, lesion_id: int, grid: NetworkGrid, box: Box) -> FloatVolume:
    """A lesion's mask in a patch as 0 and 1: interpolated, then > 0.5 (docs/model_recipe.md, step 5)."""
    if scan.mask is None:
        return np.zeros(box.shape_zyx, np.float32)
    soft = _extract(
        grid.axes.array(scan.mask), grid, box, lambda crop: (crop == lesion_id).astype(np.float32)
    )
    return (soft > 0.5).astype(np.float32)


def _extract(
    source: Array, grid: NetworkGrid, box: Box, convert: Callable[[Array], FloatVolume]
) -> FloatVolume:
    """Convert only the source voxels that the patch needs, then resample them."""
    inside = box.intersection(grid.whole)
    if inside.is_empty:
        return np.zeros(box.shape_zyx, np.float32)
    needed = source_box(grid.source_shape, grid.shape, inside)
    crop = convert(source[needed.slices])
    values = resample_box(crop, needed.start_zyx, grid.source_shape, grid.shape, inside)
    return pad_to_box(values, inside, box)


def pad_to_box(values: FloatVolume, inside: Box, box: Box) -> FloatVolume:
    """Values of a box, with zeros round them, as values of a larger box."""
    if inside == box:
        return values
    padded: FloatVolume = crop_and_pad_nd(values, box.relative_to(inside).bounds())
    return padded


def paste_back(probability: FloatVolume, box: Box, grid: NetworkGrid) -> tuple[Box, npt.NDArray[np.float32]]:
    """Bring foreground probabilities back to the scan's axial voxels (docs/model_recipe.md, step 11).

    Outside of the patch the foreground is 0. Only voxels that the patch touches are computed.

    Args:
        probability: float32 of the patch's shape, in network axes.
        box: the patch on the network grid; may reach beyond the image.

    Returns:
        The box of touched voxels on the axial scan, and its probabilities (z, y, x).
    """
    inside = box.intersection(grid.whole)
    touched = touched_box(grid.shape, grid.source_shape, inside)
    if touched.is_empty:  # slices thicker than the patch is deep can lie on either side of it
        return Box.of_shape((1, 1, 1)), np.zeros((1, 1, 1), np.float32)
    needed = source_box(grid.shape, grid.source_shape, touched)
    valid = probability[inside.relative_to(box).slices]
    source = crop_and_pad_nd(valid, needed.relative_to(inside).bounds())
    values = resample_box(source, needed.start_zyx, grid.shape, grid.source_shape, touched)
    back = grid.axes.inverse()
    axial_box = back.box(touched, grid.source_shape)
    return axial_box, np.ascontiguousarray(back.array(values))
