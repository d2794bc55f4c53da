"""CTs with box-shaped lesions, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model.case.geometry import Geometry
from model.case.images import write_image

SHAPE = (10, 30, 32)
GRID = Geometry((32, 30, 10), (1.0, 1.0, 2.0), (-10.0, 5.0, 40.0))

LesionBoxes = Mapping[int, tuple[slice, slice, slice]]


def cube(start: tuple[int, int, int], side: int) -> tuple[slice, slice, slice]:
    """Voxels (z, y, x) from ``start`` on, ``side`` along y and x and half of it along z."""
    z, y, x = start
    return slice(z, z + side // 2), slice(y, y + side), slice(x, x + side)


def write_labelled_scan(
    folder: Path, name: str, lesions: LesionBoxes, grid: Geometry = GRID
) -> tuple[Path, Path]:
    """Write a CT of 40 HU, -800 HU around it, and its labelmap; returns their paths."""
    labels, hu = np.zeros(grid.shape_zyx, np.uint8), np.full(grid.shape_zyx, -800, np.int16)
    for lesion_id, box in lesions.items():
        labels[box], hu[box] = lesion_id, 40
    paths = folder / f"{name}-ct.nii.gz", folder / f"{name}-labels.nii.gz"
    write_image(paths[0], hu, grid, verify=False)
    write_image(paths[1], labels, grid, verify=False)
    return paths
