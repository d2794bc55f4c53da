"""CT, PET and clicks on the network grid of the model for PET/CT (docs/interactive.md, steps 2 to 7, 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from ..case.geometry import Array, AxisMap, Box, Index, Vector
from ..case.labelmaps import bounding_box
from ..case.tumor_clicks import ClickKind, TumorClick
from .normalize import normalize_ct
from .patches import pad_to_box
from .plan import PetCtPlan
from .resample import FloatVolume, resampled_shape
from .spline_resample import coarse_axis, linear_reach, resample_linear, resample_volume

PET_CT_CHANNELS = ("CT", "PET", "tumor clicks", "background clicks")

_MARK_RADIUS_VOXELS = 2
_IMAGE_ORDER = 3

Mark = dict[ClickKind, list[Index]]
"""Network voxels of the clicks of each kind."""


@dataclass(frozen=True, slots=True)
class PetCtGrid:
    """The way from an axial scan to the network grid: permuted axes, cropped, resampled.

    Attributes:
        axes: from axial order (z, y, x) to network axes (the plan's `transpose_forward`).
        axial_shape_zyx: shape of the axial scan.
        box: the voxels of the scan that are kept, in network axes.
        spacing_mm: of the scan, in network axes.
        target_mm: of the network grid, in network axes.
    """

    axes: AxisMap
    axial_shape_zyx: Index
    box: Box
    spacing_mm: Vector
    target_mm: Vector

    @property
    def shape(self) -> Index:
        """Shape of the network grid, in network axes."""
        return resampled_shape(self.box.shape_zyx, self.spacing_mm, self.target_mm)

    def click_voxel(self, point_zyx: Vector) -> Index:
        """The network voxel of a click.

        As published, the index is scaled without a half-voxel correction and rounded, halves to even; a grid
        much coarser than the scan may end one voxel before a click at its border.

        Args:
            point_zyx: voxel index (z, y, x) on the axial scan; a click outside of the kept box counts as on
                its border.

        Returns:
            Voxel index in network axes.
        """
        point = self.axes.point(point_zyx, self.axial_shape_zyx)
        a, b, c = (
            round(min(max(p - start, 0.0), size - 1.0) * n / size)
            for p, start, size, n in zip(
                point, self.box.start_zyx, self.box.shape_zyx, self.shape, strict=True
            )
        )
        return (a, b, c)


def pet_ct_grid(ct: Array, pet: Array, spacing_zyx: Sequence[float], plan: PetCtPlan) -> PetCtGrid:
    """Find the network grid of a scan: the bounding box of all voxels where CT or PET is not 0, resampled.

    Args:
        ct: HU (z, y, x) of the axial scan.
        pet: SUV on the same grid.
        spacing_zyx: mm (z, y, x).
        plan: of the network.

    Returns:
        The grid; of images that are 0 everywhere nothing is cropped.
    """
    axes = AxisMap(plan.network.transpose_forward)
    inside = bounding_box((ct != 0) | (pet != 0)) or Box.of_shape(ct.shape)
    z, y, x = ct.shape
    return PetCtGrid(
        axes=axes,
        axial_shape_zyx=(z, y, x),
        box=axes.box(inside, ct.shape),
        spacing_mm=axes.triple(spacing_zyx),
        target_mm=plan.network.spacing_zyx,
    )


def network_images(ct: Array, pet: Array, grid: PetCtGrid, plan: PetCtPlan) -> FloatVolume:
    """Normalise CT and PET by their own constants, then resample them to the network grid.

    Voxels that are NaN or infinite become the lower clip value.

    Args:
        ct: HU (z, y, x) of the axial scan.
        pet: SUV on the same grid.
        grid: of the scan.
        plan: of the network.

    Returns:
        float32 [2, *grid.shape] in network axes.
    """
    coarse = coarse_axis(grid.spacing_mm, grid.target_mm)
    schemes = (plan.network.normalization, plan.pet)

    def channel(number: int) -> FloatVolume:
        kept = grid.axes.array((ct, pet)[number])[grid.box.slices]
        return resample_volume(normalize_ct(kept, schemes[number]), grid.shape, _IMAGE_ORDER, coarse)

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="resample") as pool:
        return np.stack(list(pool.map(channel, (0, 1))))


def margin_on_scan(
    margin: FloatVolume, grid: PetCtGrid, region: Box | None = None
) -> tuple[Box, FloatVolume]:
    """Resample a margin from the network grid to the voxels of the scan that were kept.

    Args:
        margin: tumour minus background logit, float32 [*grid.shape] in network axes.
        grid: of the scan.
        region: box of the network grid; only the voxels of the scan that depend on it are resampled, to the
            same numbers. None for all.

    Returns:
        The box (z, y, x) of the axial scan, and the margin over it, float32; a view. The box is empty if no
        voxel depends on the region.
    """
    coarse, kept = coarse_axis(grid.target_mm, grid.spacing_mm), grid.box.shape_zyx
    part = Box.of_shape(kept) if region is None else linear_reach(grid.shape, kept, coarse, region)
    values = resample_linear(margin, kept, coarse, part)
    back = grid.axes.inverse()
    on_scan = part.shifted(grid.box.start_zyx)
    return back.box(on_scan, grid.axes.triple(grid.axial_shape_zyx)), back.array(values)


def click_mark() -> FloatVolume:
    """The mark of one click: a ball of 33 voxels, 1 at its centre, less towards its surface.

    Returns:
        float32 (5, 5, 5): 1 in the middle, 0.632 at its 6 neighbours, 0.447 elsewhere in the ball.
    """
    size = 2 * _MARK_RADIUS_VOXELS + 1
    squares = np.square(np.indices((size, size, size)) - _MARK_RADIUS_VOXELS).sum(0)
    depth: npt.NDArray[np.float64] = distance_transform_edt(squares <= _MARK_RADIUS_VOXELS**2)
    mark: FloatVolume = (depth / depth.max()).astype(np.float32)
    return mark


def mark_box(voxel: Index) -> Box:
    """The voxels around a click that its mark may change.

    Args:
        voxel: network voxel of the click.

    Returns:
        Box of the mark on the network grid, may extend beyond it.
    """
    size = 2 * _MARK_RADIUS_VOXELS + 1
    return Box.of_shape((size, size, size), [index - _MARK_RADIUS_VOXELS for index in voxel])


def click_map(voxels: Iterable[Index], box: Box, shape: Index) -> FloatVolume:
    """Draw the marks of clicks; where several meet, the largest value counts.

    Args:
        voxels: network voxels of the clicks.
        box: part of the network grid to draw, may extend beyond it.
        shape: of the network grid; marks end at its border.

    Returns:
        float32 of the box's shape.
    """
    mark, values = click_mark(), np.zeros(box.shape_zyx, np.float32)
    inside = box.intersection(Box.of_shape(shape))
    for voxel in voxels:
        around = mark_box(voxel)
        common = around.intersection(inside)
        if not common.is_empty:
            drawn = values[common.relative_to(box).slices]
            np.maximum(drawn, mark[common.relative_to(around).slices], out=drawn)
    return values


def click_voxels(clicks: Iterable[TumorClick], grid: PetCtGrid) -> Mark:
    """The network voxels of clicks, by kind.

    Args:
        clicks: voxel indices (z, y, x) on the axial scan.
        grid: of the scan.

    Returns:
        Voxel indices in network axes; each kind is there, in the order of the clicks.
    """
    voxels: Mark = {kind: [] for kind in ClickKind}
    for click in clicks:
        voxels[click.kind].append(grid.click_voxel(click.point_zyx))
    return voxels


def tile_channels(images: FloatVolume, voxels: Mark, tile: Box) -> FloatVolume:
    """Cut one tile of images and draw its clicks.

    Args:
        images: float32 [2, *shape] from `network_images`.
        voxels: of the clicks.
        tile: box on the network grid, may extend beyond it; there all channels are 0.

    Returns:
        float32 [4, *tile] in the order of `PET_CT_CHANNELS`.
    """
    _, z, y, x = images.shape
    inside = tile.intersection(Box.of_shape((z, y, x)))
    cut = [pad_to_box(image[inside.slices], inside, tile) for image in images]
    return np.stack([*cut, *(click_map(voxels[kind], tile, (z, y, x)) for kind in ClickKind)])
