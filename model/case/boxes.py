"""Box files: JSON with a bounding box per lesion, and the boxes on a scan's grid.

The format follows the platform's click JSON::

    {"name": "Lesion boxes", "type": "Multiple 3D boxes", "version": {"major": 1, "minor": 0},
     "boxes": [{"name": "7", "start": [x, y, z], "stop": [x, y, z]}]}

In voxel units ``start`` and ``stop`` are indices on the grid of the scan's file, and ``stop`` is one past
the last voxel. In world units they are the lowest and the highest corner of a box along the LPS axes, in mm,
at the outer faces of the voxels (index - 0.5). A flat box is one voxel thick. The lesion id is the run of
digits at the end of the name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..errors import InputError, OutputError
from .case import Scan
from .geometry import Box, Geometry, Vector, flip_order
from .lesion_json import Triple, group_by_lesion, read_document, write_json
from .voxel_checks import MAX_LESION_ID

if TYPE_CHECKING:  # brings SimpleITK
    from .scans import ClickUnits

Corners = tuple[Vector, Vector]
"""Start and stop (x, y, z) of a box as in its file, in voxels or in mm."""

_EXAMPLE = '{"boxes": [{"name": "<lesion id>", "start": [x, y, z], "stop": [x, y, z]}]}'
_DECIMALS = 4
_LIMIT = 1e6  # voxels or mm; no scan is that large

# Faces written in mm with four decimals return to the voxel's side within this many voxels.
_TOLERANCE_VOXELS = 1e-3


class _Box(BaseModel):
    # Strict: a string or a boolean in place of a coordinate is a mistake.
    model_config = ConfigDict(strict=True)

    name: str
    start: Triple
    stop: Triple


class _BoxFile(BaseModel):
    boxes: list[_Box]


def read_boxes(path: Path) -> dict[int, Corners]:
    """Read a box file.

    Returns:
        Lesion id -> start and stop (x, y, z) in the file's units and order.

    Raises:
        InputError: malformed JSON, a corner without three finite numbers, a box without extent, a name
            without an id, an id outside 1 ... 65 535, or one id with two different boxes.
    """
    parsed = read_document(path, _BoxFile, "box", _EXAMPLE)
    return group_by_lesion(path, "box", ((entry.name, _corners(path, entry)) for entry in parsed.boxes))


def _corners(path: Path, entry: _Box) -> Corners:
    (x0, y0, z0), (x1, y1, z1) = entry.start, entry.stop
    corners = (x0, y0, z0), (x1, y1, z1)
    if fault := _fault(corners):
        raise InputError(f"{path}: box {entry.name!r} {fault}")
    return corners


def _fault(corners: Corners) -> str | None:
    """The fault of a box and the expected form, None for a valid box."""
    start, stop = corners
    shown = f"from {list(start)} to {list(stop)}"
    if not all(abs(value) <= _LIMIT for value in (*start, *stop)):
        return f"goes {shown}; expected finite numbers of at most a million"
    if not all(a < b for a, b in zip(start, stop, strict=True)):
        return f"goes {shown}; expected a start below its stop along each axis"
    return None


def write_boxes(
    path: Path, boxes: Mapping[int, Corners], extras: Mapping[int, Mapping[str, Any]] | None = None
) -> None:
    """Write a box file. Coordinates keep four decimals.

    Args:
        path: the file.
        boxes: lesion id -> start and stop (x, y, z), in voxels or mm.
        extras: further keys for the boxes of some lesions, ignored by `read_boxes`; numbers that are not
            finite become null.

    Raises:
        OutputError: the file cannot be written, or `read_boxes` would refuse a box or an id.
    """
    extras = extras or {}
    entries = []
    for lesion_id, (start, stop) in boxes.items():
        rounded = _rounded(start), _rounded(stop)
        fault = _fault(rounded)
        if fault or not 0 < lesion_id <= MAX_LESION_ID:
            raise OutputError(
                f"{path}: the box of lesion {lesion_id} "
                + (fault or f"has an id that is out of range; expected 1 to {MAX_LESION_ID}")
            )
        further = extras.get(lesion_id, {})
        assert not further.keys() & _Box.model_fields.keys()
        entries.append({"name": str(lesion_id), "start": rounded[0], "stop": rounded[1], **further})
    write_json(
        path,
        {
            "name": "Lesion boxes",
            "type": "Multiple 3D boxes",
            "version": {"major": 1, "minor": 0},
            "boxes": entries,
        },
    )


def _rounded(corner: Vector) -> Vector:
    x, y, z = (round(float(value), _DECIMALS) for value in corner)
    return (x, y, z)


def boxes_to_scan_grid(boxes: Mapping[int, Corners], scan: Scan, units: ClickUnits) -> dict[int, Box]:
    """Convert the boxes of a file to the scan's axial grid.

    Args:
        boxes: lesion id -> start and stop (x, y, z) in ``units``, on the grid of the scan's file.
        scan: the scan that the boxes belong to.
        units: of the boxes: voxels, or LPS mm.

    Returns:
        Lesion id -> box (z, y, x), which may leave the image.
    """
    grid = scan.file_grid
    if grid.shear is not None and units == "world":
        return {lesion_id: corners_to_box(corners, grid.axial, units) for lesion_id, corners in boxes.items()}
    return {
        lesion_id: grid.axial_box(corners_to_box(corners, grid.geometry, units))
        for lesion_id, corners in boxes.items()
    }


def boxes_from_scan_grid(boxes: Mapping[int, Box], scan: Scan, units: ClickUnits) -> dict[int, Corners]:
    """Convert boxes on the scan's axial grid for a file; the inverse of `boxes_to_scan_grid`.

    Args:
        boxes: lesion id -> box (z, y, x).
        scan: the scan that the boxes belong to.
        units: of the result: voxels, or LPS mm.

    Returns:
        Lesion id -> start and stop (x, y, z) in ``units``, on the grid of the scan's file.
    """
    grid = scan.file_grid
    if grid.shear is not None and units == "world":
        return {lesion_id: box_to_corners(box, grid.axial, units) for lesion_id, box in boxes.items()}
    return {
        lesion_id: box_to_corners(grid.file_box(box), grid.geometry, units)
        for lesion_id, box in boxes.items()
    }


def corners_to_box(corners: Corners, grid: Geometry, units: ClickUnits) -> Box:
    """Find all voxels of a grid that a box touches.

    Args:
        corners: start and stop (x, y, z) in ``units``.
        grid: the grid of the result.
        units: voxels of the grid, or LPS mm.

    Returns:
        Box (z, y, x). On a grid oblique to the world axes it encloses the rotated box.
    """
    start, stop = np.asarray(corners[0]), np.asarray(corners[1])
    if units == "world":
        faces = grid.world_to_voxel(list(product(*zip(*corners, strict=True)))) + 0.5
        start = np.floor(faces.min(axis=0) + _TOLERANCE_VOXELS)
        stop = np.maximum(np.ceil(faces.max(axis=0) - _TOLERANCE_VOXELS), start + 1)
    x0, y0, z0 = (math.floor(value) for value in start)
    x1, y1, z1 = (math.ceil(value) for value in stop)
    return Box((z0, y0, x0), (z1, y1, x1))


def box_to_corners(box: Box, grid: Geometry, units: ClickUnits) -> Corners:
    """Convert a box of a grid to the corners of a file.

    Args:
        box: box (z, y, x) on the grid.
        grid: the grid of the box.
        units: of the result: voxels of the grid, or LPS mm.

    Returns:
        Start and stop (x, y, z); in mm those of the enclosing box along the world axes.
    """
    start, stop = flip_order(box.start_zyx), flip_order(box.stop_zyx)
    if units == "voxel":
        return _float(start), _float(stop)
    faces = np.asarray(list(product(*zip(start, stop, strict=True)))) - 0.5
    world = grid.voxel_to_world(faces)
    return _float(world.min(axis=0)), _float(world.max(axis=0))


def _float(values: Any) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
