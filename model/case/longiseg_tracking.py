"""LongiSeg's tracking files: the lesions of pairs of scans, with their points.

``tracking.json`` of the first generation names a scan by its number (``<patient>_BL_img_<nn>``),
``trackingTr.json`` of the second one by its name::

    {"patient": {"7": {"img_bl": "scan_0", "img_fu": "scan_1", "bl_point": [x, y, z], "fu_point": [x, y, z],
                       "fu_point_prop": [x, y, z], "merged_lesions": [7]}}}

Keys are the ids of the lesions in the baseline; ``merged_lesions`` are those in the follow-up, ``[0]`` if the
lesion has vanished. Points are voxel indices of the scans' files; a missing one is NaN. More than two time
points are a list of such tables, one for each pair of scans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .geometry import Vector
from .raw_lesion import RawLesion
from .text_files import read_json, written_number
from .voxel_checks import MAX_LESION_ID

_POINTS = ("bl_point", "fu_point", "fu_point_prop")
_EXPECTED = "LongiSeg's tracking file, {patient: {lesion id: {...}}}, or a list of {lesion id: {...}}"


def read_longiseg_object(path: Path, expected: str = "LongiSeg's layout") -> dict[str, Any]:
    """Read one of LongiSeg's JSON files that hold an object; NaN is allowed in them.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    document = read_json(path, expected, allow_nan=True)
    if not isinstance(document, dict):
        raise InputError(f"{path}: is not a JSON object; expected {expected}")
    return document


def read_tracking_tables(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read the tables of a tracking file, one for each pair of scans of a patient.

    Returns:
        Place in the file for messages, patient, and {lesion id: entry} for `parse_tracking_entry`.

    Raises:
        InputError: the file cannot be read, or a patient has no table of lesions.
    """
    for patient, content in read_longiseg_object(path, _EXPECTED).items():
        tables = content if isinstance(content, list) else [content]
        for number, table in enumerate(tables):
            where = f"{patient}[{number}]" if isinstance(content, list) else patient
            if not isinstance(table, dict):
                raise InputError(f"{path}: {where} holds no lesions; expected {{lesion id: {{...}}}}")
            if {"img_bl", "img_fu"} <= table.keys():
                raise InputError(
                    f"{path}: {where} names a pair of scans without lesions; expected {{lesion id: {{...}}}} "
                    "as LongiSeg_prepare_tracking -labels fills it in"
                )
            yield where, patient, table


def parse_tracking_entry(patient: str, key: str, table: Mapping[str, Any]) -> RawLesion:
    """Parse one lesion of a table.

    Args:
        patient: the patient, who is part of the names of scans that are given by number.
        key: the lesion's key in the table.
        table: of the pair of scans.

    Raises:
        InputError: an id, name or point cannot be used; the message does not name the place.
    """
    entry = table[key]
    if not isinstance(entry, dict):
        raise InputError(f"is {entry!r}; expected an object with img_bl, img_fu, merged_lesions and points")
    lesion_id, ids = _lesion_id(key), _followup_ids(entry.get("merged_lesions", [key]))
    baseline_point, followup_point, propagated = (_point(name, entry.get(name)) for name in _POINTS)
    target = table.get(str(ids[0])) if ids and lesion_id not in ids else None
    if isinstance(target, dict):  # the points of the lesion that it became, as in the published loader
        followup_point = followup_point or _point("fu_point", target.get("fu_point"))
        propagated = propagated or _point("fu_point_prop", target.get("fu_point_prop"))
    return RawLesion(
        lesion_id,
        _scan_name(patient, "BL", entry.get("img_bl")),
        _scan_name(patient, "FU", entry.get("img_fu")),
        ids,
        baseline_point,
        followup_point,
        propagated,
    )


def _lesion_id(value: Any) -> int:
    try:
        number = _whole(value)
    except ValueError:
        raise InputError(f"id {value!r} is not a number; expected 1 to {MAX_LESION_ID}") from None
    if not 0 < number <= MAX_LESION_ID:
        raise InputError(f"id {number} is out of range; expected 1 to {MAX_LESION_ID}")
    return number


def _followup_ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(sorted({_lesion_id(entry) for entry in values if entry is False or entry not in (0, "0")}))


def _whole(value: Any) -> int:
    """A whole number, or the text of one; raises ValueError for anything else, such as 7.5 and true."""
    number = written_number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number // 1:
        raise ValueError(f"{value!r} is not whole")
    return int(number)


def _scan_name(patient: str, which: str, value: Any) -> str:
    if isinstance(value, str) and value and not value.isdigit():
        return value
    try:
        return f"{patient}_{which}_img_{_whole(value):02d}"
    except ValueError:
        raise InputError(f"img_{which.lower()} is {value!r}; expected a scan's name or number") from None


def _point(name: str, value: Any) -> Vector | None:
    """Three finite numbers (x, y, z); None for null, NaN, and lists of those."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    entries = value if isinstance(value, list) else []
    is_number = all(
        isinstance(entry, int | float | None) and not isinstance(entry, bool) for entry in entries
    )
    numbers = [math.nan if entry is None else float(entry) for entry in entries] if is_number else []
    if numbers and all(map(math.isnan, numbers)):
        return None
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} is {value!r}; expected [x, y, z]")
    return (numbers[0], numbers[1], numbers[2])
