"""Which files make up a series: a manifest (CSV or JSON) or a folder -> patients and their time points.

Columns of a manifest, or keys of each object of a JSON list:

========== ================================================================================
patient    any name; each patient is followed on their own
timepoint  any name; the rows of a patient with one name are the scans of one time point
order      a number: time points are sorted by it
date       a day, 2024-03-31 or 20240331: sorted by it where a patient has no ``order``
scan       the CT
mask       optional: labelmap of lesion ids on the grid of the CT
clicks     optional: click JSON
boxes      optional: box JSON
scan_slot  optional: ``primary`` (default) or ``secondary``
========== ================================================================================

Paths are relative to the manifest. A folder that holds ``series.csv`` or ``series.json`` is read by it. Any
other folder is one patient, named as the folder, or holds one folder per patient; in a patient's folder
each sub-folder is a time point with ``ct.*`` and, where known, ``mask.*``, ``clicks.json``, ``boxes.json``,
and the same names with ``secondary-`` before them for the second scan. The name of a time point's folder
says its place in time: a day (``2024-03-31``, ``scan_20240331``), else its only number (``week_12``, ``3``).
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from ..case.case import ScanFiles, Slot
from ..case.images import IMAGE_SUFFIXES
from ..errors import InputError

MANIFEST_NAMES = ("series.csv", "series.json")

_COLUMNS = "patient, timepoint, order or date, scan, and optionally mask, clicks, boxes, scan_slot"
_DAY = re.compile(r"(?<![0-9])([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?![0-9])")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class TimePointFiles:
    """The files of one time point. ``place`` sorts: the day's number for dates, else the order given."""

    name: str
    place: float
    when: str
    scans: tuple[ScanFiles, ...]
    boxes: Mapping[Slot, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PatientFiles:
    """One patient's time points, the earliest first."""

    patient: str
    time_points: tuple[TimePointFiles, ...]


def _nothing_if_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _day(value: Any) -> Any:
    """ISO days in both spellings; JSON may give the short one as a number."""
    if value is None or isinstance(value, datetime.date):
        return value
    match = _DAY.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is no date, expected one such as 2024-03-31")
    return datetime.date(*map(int, match.groups()))


_Name = Annotated[str, BeforeValidator(_stripped), Field(min_length=1)]
_OptionalPath = Annotated[Path | None, BeforeValidator(_nothing_if_blank)]


class _Row(BaseModel):
    """One scan of the manifest, before its files are looked for."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    patient: _Name
    timepoint: _Name
    order: Annotated[FiniteFloat | None, BeforeValidator(_nothing_if_blank)] = None
    date: Annotated[datetime.date | None, BeforeValidator(_day), BeforeValidator(_nothing_if_blank)] = None
    scan: Path
    mask: _OptionalPath = None
    clicks: _OptionalPath = None
    boxes: _OptionalPath = None
    scan_slot: Annotated[Slot | None, BeforeValidator(_nothing_if_blank)] = None

    @property
    def slot(self) -> Slot:
        return self.scan_slot or Slot.PRIMARY


def discover_series(path: Path) -> list[PatientFiles]:
    """The patients of a manifest or folder, with their time points in order; nothing is decoded.

    Raises:
        InputError: columns or files that are missing or unknown, a time point without a place in time, two
            at one place, a slot given twice; the message names the manifest and the row, or the folder.
    """
    if path.is_dir():
        inner = next((path / name for name in MANIFEST_NAMES if (path / name).is_file()), None)
        return _read_manifest(inner) if inner is not None else _read_folder(path)
    if not path.exists():
        raise InputError(f"{path}: is missing; expected a folder, or a manifest with the columns {_COLUMNS}")
    return _read_manifest(path)


# --- manifests -------------------------------------------------------------------------------------------


def _read_manifest(path: Path) -> list[PatientFiles]:
    readers = {".csv": _csv_entries, ".json": _json_entries}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: is no manifest; expected a .csv or .json file, or a folder")
    entries = readers[path.suffix.lower()](path)
    rows = [(where, _with_files(where, path.parent, _row(where, entry))) for where, entry in entries]
    if not rows:
        raise InputError(f"{path}: lists no scan; expected rows with the columns {_COLUMNS}")
    patients = dict.fromkeys(row.patient for _, row in rows)
    return [
        _patient(path, name, [(where, row) for where, row in rows if row.patient == name])
        for name in patients
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a manifest in UTF-8") from error


def _csv_entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with the words that name it; rows are counted as a table program shows them."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    _check_columns(path, columns)
    reader.fieldnames = columns
    for entry in reader:
        where = f"{path}: row {reader.line_num}"
        if None in entry:
            raise InputError(f"{where}: has more cells than the header; expected {len(columns)}")
        yield where, {name: value for name, value in entry.items() if value is not None}


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    known = set(_Row.model_fields)
    unknown = [name for name in columns if name not in known]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    missing = [name for name in ("patient", "timepoint", "scan") if name not in columns]
    if not {"order", "date"} & set(columns):
        missing.append("order (or date)")
    for fault, names in (("is unknown", unknown), ("is there twice", twice), ("is missing", missing)):
        if names:
            raise InputError(f"{path}: the column {', '.join(map(repr, names))} {fault}; expected {_COLUMNS}")


def _json_entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        document = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not valid JSON ({error}); expected a list of objects") from error
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise InputError(f"{path}: is not a list of objects; expected one per scan with the keys {_COLUMNS}")
    for number, entry in enumerate(document, 1):
        yield f"{path}: entry {number}", entry


def _row(where: str, entry: Mapping[str, Any]) -> _Row:
    try:
        row = _Row.model_validate(entry)
    except ValidationError as error:
        fault: Any = error.errors(include_url=False)[0]
        column = ".".join(str(part) for part in fault["loc"][:1])
        raise InputError(f"{where}: {_fault_text(column, fault)}; expected {_COLUMNS}") from error
    if row.order is None and row.date is None:
        raise InputError(
            f"{where}: time point {row.timepoint!r} has neither an order nor a date; expected one, as its "
            "place in time is unknown"
        )
    return row


def _fault_text(column: str, fault: Mapping[str, Any]) -> str:
    if fault["type"] == "missing":
        return f"{column} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{column!r} is unknown"
    if fault["type"] in ("string_too_short", "too_short"):
        return f"{column} is empty"
    reason = str(fault["msg"]).removeprefix("Value error, ")
    return f"{column} cannot be used ({reason[0].lower()}{reason[1:]})"


def _with_files(where: str, folder: Path, row: _Row) -> _Row:
    """The row with paths that exist."""
    if not row.scan.name:
        raise InputError(f"{where}: scan is empty; expected the path of a CT")
    given = {column: getattr(row, column) for column in ("scan", "mask", "clicks", "boxes")}
    found = {column: folder / path for column, path in given.items() if path is not None}
    for column, path in found.items():
        if not path.is_file():
            raise InputError(
                f"{where}: the {column} {given[column]} is missing; expected a file relative to {folder}"
            )
    return row.model_copy(update=found)


def _patient(path: Path, patient: str, rows: Sequence[tuple[str, _Row]]) -> PatientFiles:
    """One patient's rows as time points in order."""
    by_order = all(row.order is not None for _, row in rows)
    if not by_order and (lost := next((row for _, row in rows if row.date is None), None)) is not None:
        raise InputError(
            f"{path}: patient {patient!r}: time point {lost.timepoint!r} has no date and others have no "
            "order; expected one of the two for all time points of a patient"
        )
    time_points = []
    for name in dict.fromkeys(row.timepoint for _, row in rows):
        mine = [(where, row) for where, row in rows if row.timepoint == name]
        time_points.append(_time_point(name, mine, by_order))
    return _in_order(path, patient, time_points)


def _time_point(name: str, rows: Sequence[tuple[str, _Row]], by_order: bool) -> TimePointFiles:
    scans: list[ScanFiles] = []
    places = set()
    for where, row in rows:
        places.add(_place(row, by_order))
        if len(places) > 1:
            raise InputError(
                f"{where}: time point {name!r} has another {'order' if by_order else 'date'} than in an "
                "earlier row; expected the same for all scans of a time point"
            )
        if any(scan.slot == row.slot for scan in scans):
            raise InputError(
                f"{where}: time point {name!r} has a {row.slot} scan already; expected one per scan_slot"
            )
        scans.append(ScanFiles(row.slot, row.scan, row.mask, row.clicks))
    boxes = {row.slot: row.boxes for _, row in rows if row.boxes is not None}
    ((place, when),) = places
    return TimePointFiles(name, place, when, _primary_first(scans), boxes)


def _place(row: _Row, by_order: bool) -> tuple[float, str]:
    if by_order:
        assert row.order is not None
        return row.order, f"order {row.order:g}"
    assert row.date is not None
    return float(row.date.toordinal()), row.date.isoformat()


def _primary_first(scans: Sequence[ScanFiles]) -> tuple[ScanFiles, ...]:
    return tuple(sorted(scans, key=lambda scan: list(Slot).index(scan.slot)))


def _in_order(path: Path, patient: str, time_points: Sequence[TimePointFiles]) -> PatientFiles:
    ordered = sorted(time_points, key=lambda point: point.place)
    for earlier, later in zip(ordered, ordered[1:], strict=False):
        if earlier.place == later.place:
            raise InputError(
                f"{path}: patient {patient!r}: time points {earlier.name!r} and {later.name!r} are at one "
                f"place in time ({later.when}); expected them one after the other"
            )
    return PatientFiles(patient, tuple(ordered))


# --- folders ---------------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> list[PatientFiles]:
    _check_no_loose_scan(folder)
    if _time_point_folders(folder):
        return [_folder_patient(folder)]
    patients = [inner for inner in _folders(folder) if _time_point_folders(inner)]
    if not patients:
        raise InputError(
            f"{folder}: holds no series; expected {' or '.join(MANIFEST_NAMES)}, or a folder per time point "
            "with ct.* in it (and mask.*, clicks.json, boxes.json)"
        )
    lost = [inner.name for inner in _folders(folder) if inner not in patients]
    if lost:
        raise InputError(f"{folder / lost[0]}: holds no time point; expected folders with ct.* in it")
    return [_folder_patient(inner) for inner in patients]


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _time_point_folders(folder: Path) -> list[Path]:
    return [inner for inner in _folders(folder) if any(_image(inner, f"{p}ct") for p in _PREFIXES.values())]


_PREFIXES = {Slot.PRIMARY: "", Slot.SECONDARY: "secondary-"}


def _image(folder: Path, stem: str) -> Path | None:
    """``stem`` with one of the image suffixes."""
    found = [folder / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        raise InputError(
            f"{folder}: holds {found[0].name} and {found[1].name}; expected one image named {stem}"
        )
    return found[0] if found else None


def _check_no_loose_scan(folder: Path) -> None:
    """A scan beside the folders of time points would be lost without a word."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(
                f"{path}: belongs to no time point; expected it in a folder of its own, or a manifest"
            )


def _folder_patient(folder: Path) -> PatientFiles:
    _check_no_loose_scan(folder)
    lost = [inner for inner in _folders(folder) if inner not in _time_point_folders(folder)]
    if lost:
        raise InputError(f"{lost[0]}: holds no ct.*; expected the CT of time point {lost[0].name!r}")
    points = [_folder_time_point(inner) for inner in _time_point_folders(folder)]
    kinds = {point.when.startswith("order") for point in points}
    if len(kinds) > 1:
        undated = next(point.name for point in points if point.when.startswith("order"))
        raise InputError(
            f"{folder}: time point {undated!r} has no date in its name and others have; expected one kind "
            "of name"
        )
    return _in_order(folder, folder.resolve().name, points)


def _folder_time_point(folder: Path) -> TimePointFiles:
    place, when = _place_of_name(folder)
    scans, boxes = [], {}
    for slot, prefix in _PREFIXES.items():
        ct, mask = _image(folder, f"{prefix}ct"), _image(folder, f"{prefix}mask")
        clicks, box = folder / f"{prefix}clicks.json", folder / f"{prefix}boxes.json"
        if ct is None:
            orphan = next((path for path in (mask, clicks, box) if path is not None and path.is_file()), None)
            if orphan is not None:
                raise InputError(f"{orphan}: belongs to no scan; expected {prefix}ct.* beside it")
            continue
        scans.append(ScanFiles(slot, ct, mask, clicks if clicks.is_file() else None))
        if box.is_file():
            boxes[slot] = box
    return TimePointFiles(folder.name, place, when, tuple(scans), boxes)


def _place_of_name(folder: Path) -> tuple[float, str]:
    """A day in the folder's name, else its only number."""
    days = []
    for match in _DAY.finditer(folder.name):
        try:
            days.append(datetime.date(*map(int, match.groups())))
        except ValueError:  # eight digits that are no day
            continue
    if len(days) == 1:
        return float(days[0].toordinal()), days[0].isoformat()
    numbers = _NUMBER.findall(folder.name)
    if not days and len(numbers) == 1:
        return float(numbers[0]), f"order {int(numbers[0])}"
    raise InputError(
        f"{folder}: the place in time of time point {folder.name!r} is unknown; expected one day "
        "(2024-03-31) or one number in the folder's name, or a manifest"
    )
