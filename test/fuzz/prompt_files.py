"""More files about lesions: LongiSeg's tracking files, and clicks and doses for PET/CT."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

from model.case.dose_files import read_dose
from model.case.longiseg_tracking import parse_tracking_entry, read_tracking_tables
from model.case.tumor_clicks import read_tumor_clicks
from model.errors import InputError

from .judge import Kind, Seed
from .lesion_files import Reading, json_seed, strict_json, text_mutations, triple
from .mutations import damaged_json

_LESION = {"img_bl": "a", "img_fu": "b", "merged_lesions": [1], "bl_point": [1, 2, 3.5]}
_POINTS = ("bl_point", "fu_point", "fu_point_prop")
_TRACKING = {
    "anna": {"1": {**_LESION, "fu_point": [4, 5, 6], "fu_point_prop": [7, 8, 9]}},
    "ben": [{"3": {**_LESION, "merged_lesions": [3, 4]}}, {"4": {**_LESION, "merged_lesions": []}}],
}
_CLICKS = {"points": [{"name": "tumor", "point": [1, 2, 3]}, {"name": "background", "point": [4, 5.5, 6]}]}
_LISTS = {"tumor": [[1, 2, 3], [4, 5, 6]], "background": [[7, 8, 9]]}
_DOSE = {"weight_kg": 71, "dose_mbq": 352.5, "half_life_minutes": 109.8}
_TIMES = {"injected": "2024-05-01T09:12:00", "scanned": "2024-05-01T10:14:30"}


def _read_tracking(path: Path) -> Reading:
    lesions = []
    for where, patient, table in read_tracking_tables(path):
        for key in table:
            try:
                lesion = parse_tracking_entry(patient, key, table)
            except InputError as error:
                raise InputError(f"{path}: {where}, lesion {key}: {error}") from error
            lesions.append((patient, lesion.lesion_id, lesion.followup_ids, lesion.points_xyz))
    return lesions, ()


def _reference_tracking(path: Path) -> Any:
    lesions = []
    for patient, content in strict_json(path, allow_nan=True).items():
        for table in content if isinstance(content, list) else [content]:
            for key, entry in table.items():
                merged = entry.get("merged_lesions", [key])
                ids = tuple(
                    sorted({_id(i) for i in (merged if isinstance(merged, list) else [merged])} - {0})
                )
                points = [_point(entry.get(name)) for name in _POINTS]
                if ids and int(key) not in ids and str(ids[0]) in table:
                    target = table[str(ids[0])]
                    points[1:] = [points[n] or _point(target.get(_POINTS[n])) for n in (1, 2)]
                lesions.append((patient, _id(key), ids, tuple(points)))
    return lesions


def _id(value: Any) -> int:
    assert not isinstance(value, bool) and float(value) == int(float(value)) >= 0
    return int(float(value))


def _point(value: Any) -> tuple[float, ...] | None:
    entries = value if isinstance(value, list) else [value]
    if entries and all(entry is None for entry in entries):
        return None
    return triple(value)


def _read_clicks(path: Path) -> Reading:
    return [(str(click.kind), click.point_zyx) for click in read_tumor_clicks(path)], ()


def _reference_clicks(path: Path) -> Any:
    document = strict_json(path)
    if "points" not in document:
        assert all(key in ("tumor", "background") or not isinstance(document[key], list) for key in document)
        listed = [(kind, point) for kind in ("tumor", "background") for point in document.get(kind, [])]
    else:
        listed = [(entry["name"].strip().lower(), entry["point"]) for entry in document["points"]]
    assert all(kind in ("tumor", "background") for kind, _ in listed)
    return [(kind, triple(point)[::-1]) for kind, point in listed]


def _read_dose(path: Path) -> Reading:
    dose = read_dose(path)
    return (dose.weight_kg, dose.dose_mbq, dose.minutes, dose.half_life_minutes), ()


def _reference_dose(path: Path) -> Any:
    document = strict_json(path)
    assert set(document) <= {*_DOSE, *_TIMES, "minutes"}
    numbers = [document[name] for name in _DOSE]
    assert all(type(number) in (int, float) and 0 < number < math.inf for number in numbers)
    minutes, times = document.get("minutes"), [document.get(name) for name in _TIMES]
    if minutes is None:
        injected, scanned = (datetime.fromisoformat(text) for text in times)
        minutes = (scanned - injected).total_seconds() / 60
    else:
        assert times == [None, None] and type(minutes) in (int, float)
    weight, dose, half_life = map(float, numbers)
    return (weight, dose, float(minutes), half_life)


def _tracking_seeds() -> tuple[Seed, ...]:
    return (json_seed("trackingTr.json", _TRACKING),)


def _click_seeds() -> tuple[Seed, ...]:
    return (json_seed("clicks.json", _CLICKS), json_seed("lists.json", _LISTS))


def _dose_seeds() -> tuple[Seed, ...]:
    return (json_seed("dose.json", _DOSE | _TIMES), json_seed("minutes.json", _DOSE | {"minutes": 62.5}))


_JSON = text_mutations(damaged_json)
TRACKING_FILES = Kind("tracking files", _tracking_seeds, _JSON, _read_tracking, _reference_tracking)
TUMOR_CLICKS = Kind("clicks for PET/CT", _click_seeds, _JSON, _read_clicks, _reference_clicks)
DOSES = Kind("doses", _dose_seeds, _JSON, _read_dose, _reference_dose)
