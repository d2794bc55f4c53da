"""Regions to click on: the components of a mask, with the depth of their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..case.geometry import Array, Box, FloatArray, Index
from ..case.labelmaps import label_boxes

BoolArray = npt.NDArray[np.bool_]
Voxels = npt.NDArray[np.intp]

RandomNumbers = np.random.Generator | np.random.RandomState
"""Source of random numbers; a `RandomState` draws as the published scripts do."""


@dataclass(frozen=True, eq=False)
class ClickRegion:
    """One component of a mask.

    Attributes:
        box: bounding box (z, y, x) on the image.
        mask: booleans over the box.
        depth: Euclidean distance to the nearest voxel of the image outside of the component, in voxels,
            float64 over the box; 0 outside of the component. The border of the image does not count.
    """

    box: Box
    mask: BoolArray
    depth: FloatArray

    def deepest(self) -> Index:
        """The voxel of the largest depth.

        Returns:
            Voxel index (z, y, x) on the image; of equally deep ones the first in (x, y, z) order.
        """
        x, y, z = np.unravel_index(np.argmax(self.depth.transpose()), self.depth.shape[::-1])
        return self.on_image((int(z), int(y), int(x)))

    def border(self) -> Voxels:
        """The voxels of the smallest depth: those that share a face with the outside.

        Returns:
            Voxel indices (N, 3) in the order (z, y, x) on the image, sorted by (x, y, z).
        """
        least = self.depth[self.mask].min()
        return self.voxels(self.mask & (self.depth == least))

    def voxels(self, chosen: BoolArray | None = None) -> Voxels:
        """List voxels of the region.

        Args:
            chosen: booleans over the box (z, y, x); None for all voxels of the component.

        Returns:
            Voxel indices (N, 3) in the order (z, y, x) on the image, sorted by (x, y, z).
        """
        mask = self.mask if chosen is None else chosen
        found: Voxels = np.argwhere(mask.transpose())[:, ::-1] + np.asarray(self.box.start_zyx)
        return found

    def on_image(self, voxel: Index) -> Index:
        """Convert a voxel index of the box.

        Args:
            voxel: (z, y, x) over the box.

        Returns:
            Voxel index (z, y, x) on the image.
        """
        z, y, x = (index + start for index, start in zip(voxel, self.box.start_zyx, strict=True))
        return (z, y, x)


def click_regions(labels: Array, chosen: npt.ArrayLike) -> list[ClickRegion]:
    """The regions of some components.

    Args:
        labels: components (z, y, x) from `label_components`.
        chosen: labels of those that are needed.

    Returns:
        A region for each chosen label, in that order.
    """
    numbers = [int(label) for label in np.asarray(chosen).ravel()]
    if not numbers:
        return []
    boxes = label_boxes(labels)
    masks = {label: labels[boxes[label].slices] == label for label in numbers}
    return [
        ClickRegion(boxes[label], mask, voxel_depth(mask, boxes[label], labels.shape))
        for label, mask in masks.items()
    ]


def voxel_depth(mask: BoolArray, box: Box, shape_zyx: Sequence[int]) -> FloatArray:
    """Distance of each voxel of a mask to the nearest voxel of the image outside of the mask.

    Args:
        mask: booleans (z, y, x) over the box; there is nothing of the mask beyond.
        box: on the image.
        shape_zyx: shape of the image; its border does not count, unless the mask fills the image.

    Returns:
        Voxels, float64 of the mask's shape; 0 outside of the mask.
    """
    sides = [
        (int(start > 0), int(stop < size))
        for start, stop, size in zip(box.start_zyx, box.stop_zyx, shape_zyx, strict=True)
    ]
    if mask.all() and not np.any(sides):
        sides = [(1, 1)] * 3
    depth = ndimage.distance_transform_edt(np.pad(mask, sides))
    inner = tuple(slice(before, before + size) for (before, _), size in zip(sides, mask.shape, strict=True))
    return np.asarray(depth[inner], np.float64)
