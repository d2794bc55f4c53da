"""The click JSON of the platform: lesion ids and their points.

Format (interface of autoPET/CT IV, Task 2): ``{"points": [{"name": "Lesion 7", "point": [x, y, z]}]}``.
The lesion id is the run of digits that ends the name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from ..errors import InputError
from .case import MAX_LESION_ID
from .geometry import Vector

_TRAILING_DIGITS = re.compile(r"([0-9]+)\s*$")
_NEGATIVE_NUMBER = re.compile(r"\s*-[0-9]+\s*")


class _Point(BaseModel):
    # Strict: a coordinate given as a string or a boolean is a mistake, not a number.
    model_config = ConfigDict(strict=True)

    name: str
    point: Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]


class _ClickFile(BaseModel):
    points: list[_Point]


def read_clicks(path: Path) -> dict[int, Vector]:
    """Lesion id -> point (x, y, z), in the file's order; units are the caller's matter.

    Raises:
        InputError: malformed JSON, a point without three finite numbers, a name without an id, an id
            outside 1 ... 65 535, or one id with two different points.
    """
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        parsed = _ClickFile.model_validate_json(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a click JSON") from error
    except ValidationError as error:
        raise InputError(f"{path}: {_first_fault(error)}") from error
    clicks: dict[int, Vector] = {}
    for entry in parsed.points:
        lesion_id = _lesion_id(path, entry.name)
        x, y, z = entry.point
        if clicks.setdefault(lesion_id, (x, y, z)) != (x, y, z):
            raise InputError(
                f"{path}: lesion {lesion_id} has two different points, {list(clicks[lesion_id])} and "
                f"{[x, y, z]}; expected one point per lesion"
            )
    return clicks


def _lesion_id(path: Path, name: str) -> int:
    match = _TRAILING_DIGITS.search(name)
    if match is None or _NEGATIVE_NUMBER.fullmatch(name):
        raise InputError(
            f"{path}: point name {name!r} holds no lesion id; expected digits at its end, as in 'Lesion 7'"
        )
    digits = match.group(1).lstrip("0") or "0"
    if len(digits) > len(str(MAX_LESION_ID)) or not 0 < int(digits) <= MAX_LESION_ID:
        raise InputError(
            f"{path}: lesion id {digits} of point {name!r} is out of range; expected 1 to {MAX_LESION_ID}"
        )
    return int(digits)


def _first_fault(error: ValidationError) -> str:
    """The first finding of the validation, in the words of someone who looks at the file."""
    fault: Any = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "json_invalid":
        return f"is not valid JSON ({fault['ctx']['error']}); expected a click file with a list 'points'"
    if len(fault["loc"]) >= 3 and fault["loc"][2] == "point":
        given = str(fault["input"])
        return f"points.{fault['loc'][1]} is not three finite numbers ({given[:60]}); expected [x, y, z]"
    return (
        f"{where or 'the document'}: {fault['msg']}; expected "
        '{"points": [{"name": "<lesion id>", "point": [x, y, z]}]}'
    )
