"""The click JSON of the platform: lesion ids and their points.

Format (interface of autoPET/CT IV, Task 2): ``{"points": [{"name": "Lesion 7", "point": [x, y, z]}]}``.
The lesion id is the run of digits that ends the name.
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
    # Strict: a coordinate given as a string or a boolean is a mistake, not a number.
    model_config = ConfigDict(strict=True)

    name: str
    point: Triple


class _ClickFile(BaseModel):
    points: list[_Point]


def read_clicks(path: Path) -> dict[int, Vector]:
    """Lesion id -> point (x, y, z), in the file's order; units are the caller's matter.

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
    """Write lesion id -> point (x, y, z) as the platform does; units are the caller's matter.

    ``extras`` holds further keys for some lesions' points (a confidence, a source), which `read_clicks`
    does not look at; a number that is not finite becomes null. Coordinates keep four decimals.

    Raises:
        OutputError: the file cannot be written, or a point or an id is none that could be read again.
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
