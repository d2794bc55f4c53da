"""Editable copy of a scan: CT and labelmap on one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Box, Geometry
from .displacement import Mask, Volume

_SOFT_EDGE_VOXELS, _LEAST_WEIGHT = 0.6, 0.7


@dataclass(frozen=True, eq=False)
class Canvas:
    """CT (int16 HU) and labelmap (uint16), both (z, y, x), on one grid; edits write into them."""

    ct: Array
    labels: Array
    geometry: Geometry

    def box(self, box: Box, margin_mm: float) -> Box:
        """Enlarge a box by a margin in mm, within the scan.

        Args:
            box: half-open box (z, y, x) in voxels.
            margin_mm: margin on each side in mm.

        Returns:
            Half-open box (z, y, x) in voxels.
        """
        pads = [int(np.ceil(margin_mm / s)) for s in self.geometry.spacing_zyx]
        start = [max(0, a - p) for a, p in zip(box.start_zyx, pads, strict=True)]
        stop = [min(n, b + p) for b, p, n in zip(box.stop_zyx, pads, self.labels.shape, strict=True)]
        return Box(tuple(start), tuple(stop))  # type: ignore[arg-type]

    def hu(self, box: Box) -> Volume:
        """Copy the HU of a box.

        Args:
            box: half-open box (z, y, x) in voxels.

        Returns:
            HU (z, y, x), float32.
        """
        return self.ct[box.slices].astype(np.float32)

    def put(self, box: Box, hu: Volume, where: Mask) -> None:
        """Write HU into the voxels of a mask, rounded to int16.

        Args:
            box: half-open box (z, y, x) in voxels.
            hu: HU (z, y, x) of the box.
            where: voxels (z, y, x) of the box to overwrite.
        """
        limits = np.iinfo(np.int16)
        self.ct[box.slices][where] = np.rint(np.clip(hu, limits.min, limits.max)).astype(np.int16)[where]

    def blend(self, box: Box, hu: Volume, paste: Volume, mask: Mask) -> None:
        """Write HU into a mask with an edge as soft as a scanner's; other lesions stay as they are.

        Args:
            box: half-open box (z, y, x) in voxels.
            hu: HU (z, y, x) of the box as they are.
            paste: HU (z, y, x) to write.
            mask: voxels (z, y, x) of the box to overwrite.
        """
        weight = ndimage.gaussian_filter(mask.astype(np.float32), _SOFT_EDGE_VOXELS)
        weight = np.where(mask, np.maximum(weight, _LEAST_WEIGHT), weight)
        foreign = (self.labels[box.slices] != 0) & ~mask
        touched = (weight > 0.02) & ~foreign
        self.put(box, hu + weight * (paste - hu), touched)
