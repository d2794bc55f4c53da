"""The box JSON: lesion ids and the boxes round them; and those boxes on a scan's grid.

Format, made after the platform's click JSON::

    {"name": "Lesion boxes", "type": "Multiple 3D boxes", "version": {"major": 1, "minor": 0},
     "boxes": [{"name": "7", "start": [x, y, z], "stop": [x, y, z]}]}

In voxel units ``start`` and ``stop`` are indices on the scan's own grid, as the file stores it, and ``stop``
is one past the last voxel. In world units they are the lowest and the highest corner of a box along the LPS
axes, in mm, as the outer faces of the voxels lie (index - 0.5). A flat box is one voxel thick.
The lesion id is the run of digits that ends the name.
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
"""Start and stop of a box as its file has them, x, y, z; in voxels or in mm."""

_EXAMPLE = '{"boxes": [{"name": "<lesion id>", "start": [x, y, z], "stop": [x, y, z]}]}'
_DECIMALS = 4
_LIMIT = 1e6  # voxels or mm; no scan reaches that far

# A face that was written in mm with four decimals is back on its voxel's side within this many voxels.
_TOLERANCE_VOXELS = 1e-3


class _Box(BaseModel):
    # Strict: a coordinate given as a string or a boolean is a mistake, not a number.
    model_config = ConfigDict(strict=True)

    name: str
    start: Triple
    stop: Triple


class _BoxFile(BaseModel):
    boxes: list[_Box]


def read_boxes(path: Path) -> dict[int, Corners]:
    """Lesion id -> start and stop (x, y, z), in the file's order; units are the caller's matter.

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
    """What is wrong with a box, and what was expected."""
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
    """Write lesion id -> start and stop (x, y, z); units are the caller's matter.

    ``extras`` holds further keys for some lesions' boxes, which `read_boxes` does not look at; a number that
    is not finite becomes null. Coordinates keep four decimals.

    Raises:
        OutputError: the file cannot be written, or a box or an id is none that could be read again.
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
    """Boxes of a file -> boxes on the scan's axial grid; they may leave the image."""
    grid = scan.file_geometry
    return {
        lesion_id: scan.axes.box(corners_to_box(corners, grid, units), grid.shape_zyx)
        for lesion_id, corners in boxes.items()
    }


def boxes_from_scan_grid(boxes: Mapping[int, Box], scan: Scan, units: ClickUnits) -> dict[int, Corners]:
    """Boxes on the scan's axial grid -> start and stop as its file counts; undoes `boxes_to_scan_grid`."""
    back, shape = scan.axes.inverse(), scan.geometry.shape_zyx
    return {
        lesion_id: box_to_corners(back.box(box, shape), scan.file_geometry, units)
        for lesion_id, box in boxes.items()
    }


def corners_to_box(corners: Corners, grid: Geometry, units: ClickUnits) -> Box:
    """Start and stop (x, y, z) -> the box of all voxels of the grid that they touch.

    On a grid that is oblique to the world axes that is the box round the turned one.
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
    """A box of the grid -> start and stop (x, y, z), in world units of the box round it in LPS mm."""
    start, stop = flip_order(box.start_zyx), flip_order(box.stop_zyx)
    if units == "voxel":
        return _float(start), _float(stop)
    faces = np.asarray(list(product(*zip(start, stop, strict=True)))) - 0.5
    world = grid.voxel_to_world(faces)
    return _float(world.min(axis=0)), _float(world.max(axis=0))


def _float(values: Any) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
