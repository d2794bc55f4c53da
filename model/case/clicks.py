"""Click files: the platform's JSON with a point per lesion.

Format (interface of autoPET/CT IV, Task 2): ``{"points": [{"name": "Lesion 7", "point": [x, y, z]}]}``.
The lesion id is the run of digits at the end of the name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..errors import OutputError
from .geometry import Vector
from .lesion_json import Triple, group_by_lesion, read_document, write_json
from .voxel_checks import MAX_LESION_ID

_EXAMPLE = '{"points": [{"name": "<lesion id>", "point": [x, y, z]}]}'
_DECIMALS = 4


class _Point(BaseModel):
    # Strict: a string or a boolean in place of a coordinate is a mistake.
    model_config = ConfigDict(strict=True)

    name: str
    point: Triple


class _ClickFile(BaseModel):
    points: list[_Point]


def read_clicks(path: Path) -> dict[int, Vector]:
    """Read a click file.

    Returns:
        Lesion id -> point (x, y, z) in the file's units (voxels or LPS mm) and order.

    Raises:
        InputError: malformed JSON, a point without three finite numbers, a name without an id, an id
            outside 1 ... 65 535, or one id with two different points.
    """
    parsed = read_document(path, _ClickFile, "click", _EXAMPLE)
    return group_by_lesion(path, "point", ((entry.name, _vector(entry.point)) for entry in parsed.points))


def _vector(values: list[float]) -> Vector:
    x, y, z = values
    return (x, y, z)


def write_clicks(
    path: Path, points: Mapping[int, Vector], extras: Mapping[int, Mapping[str, Any]] | None = None
) -> None:
    """Write a click file as the platform does. Coordinates keep four decimals.

    Args:
        path: the file.
        points: lesion id -> point (x, y, z), in voxels or LPS mm.
        extras: further keys for the points of some lesions (a confidence, a source), ignored by
            `read_clicks`; numbers that are not finite become null.

    Raises:
        OutputError: the file cannot be written, or `read_clicks` would refuse a point or an id.
    """
    extras = extras or {}
    entries = []
    for lesion_id, point in points.items():
        if not 0 < lesion_id <= MAX_LESION_ID or not all(map(math.isfinite, point)):
            raise OutputError(
                f"{path}: lesion {lesion_id} has the point {list(point)}; expected three finite numbers, "
                f"and an id from 1 to {MAX_LESION_ID}"
            )
        further = extras.get(lesion_id, {})
        assert not further.keys() & _Point.model_fields.keys()
        coordinates = [round(float(value), _DECIMALS) for value in point]
        entries.append({"name": str(lesion_id), "point": coordinates, **further})
    write_json(
        path,
        {
            "name": "Points of interest",
            "type": "Multiple points",
            "version": {"major": 1, "minor": 0},
            "points": entries,
        },
    )
