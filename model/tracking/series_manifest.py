"""Read series manifests, CSV or JSON.

Columns of the CSV, or keys of each object in the JSON list:

========== ================================================================================
patient    any name; each patient is tracked independently
timepoint  any name; rows of a patient with the same name are scans of one time point
order      number by which time points are sorted
date       2024-03-31 or 20240331; used if not all rows of the patient have an ``order``
scan       the CT
mask       optional: labelmap of lesion ids on the grid of the CT
clicks     optional: click JSON
boxes      optional: box JSON
scan_slot  optional: ``primary`` (default) or ``secondary``
========== ================================================================================

Paths are relative to the manifest.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from ..case.case import ScanFiles, Slot
from ..case.input_files import is_regular_file
from ..case.text_files import read_json, read_table
from ..errors import InputError
from .series_files import PatientFiles, TimePointFiles, sorted_patient

MANIFEST_COLUMNS = "patient, timepoint, order or date, scan, and optionally mask, clicks, boxes, scan_slot"

_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


def _blank_to_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it is true or false, expected a number")
    return value


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _date(value: Any) -> Any:
    """Parse an ISO date with or without dashes; JSON may give the latter as a number."""
    if value is None or isinstance(value, datetime.date):
        return value
    match = _DATE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a date, expected e.g. 2024-03-31")
    return datetime.date(*map(int, match.groups()))


_Name = Annotated[str, BeforeValidator(_stripped), Field(min_length=1)]
_OptionalPath = Annotated[Path | None, BeforeValidator(_blank_to_none)]


class _Row(BaseModel):
    """One scan of the manifest."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    patient: _Name
    timepoint: _Name
    order: Annotated[
        FiniteFloat | None, BeforeValidator(_no_truth_value), BeforeValidator(_blank_to_none)
    ] = None
    date: Annotated[datetime.date | None, BeforeValidator(_date), BeforeValidator(_blank_to_none)] = None
    scan: Path
    mask: _OptionalPath = None
    clicks: _OptionalPath = None
    boxes: _OptionalPath = None
    scan_slot: Annotated[Slot | None, BeforeValidator(_blank_to_none)] = None

    @property
    def slot(self) -> Slot:
        return self.scan_slot or Slot.PRIMARY


def read_series_manifest(path: Path) -> list[PatientFiles]:
    """Read the patients of a manifest, with their time points in order.

    Raises:
        InputError: unknown or missing columns, values that cannot be used, missing files, time points
            without a position in time or with the same one, two scans in one slot.
    """
    readers = {".csv": _csv_entries, ".json": _json_entries}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: is not a manifest; expected a .csv or .json file, or a folder")
    entries = readers[path.suffix.lower()](path)
    rows = [(where, _resolve_files(where, path.parent, _parse_row(where, entry))) for where, entry in entries]
    if not rows:
        raise InputError(f"{path}: lists no scan; expected rows with the columns {MANIFEST_COLUMNS}")
    patients = dict.fromkeys(row.patient for _, row in rows)
    return [
        _patient(path, name, [(where, row) for where, row in rows if row.patient == name])
        for name in patients
    ]


def _csv_entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (location for error messages, entry) of each row; rows are numbered as in a spreadsheet."""
    columns, rows = read_table(path, f"a manifest with the columns {MANIFEST_COLUMNS}")
    _check_columns(path, columns)
    for row in rows:
        yield f"{path}: row {row.line}", row.cells


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    allowed = set(_Row.model_fields)
    unknown = [name for name in columns if name not in allowed]
    missing = [name for name in ("patient", "timepoint", "scan") if name not in columns]
    if not {"order", "date"} & set(columns):
        missing.append("order (or date)")
    for fault, names in (("is unknown", unknown), ("is missing", missing)):
        if names:
            listed = ", ".join(map(repr, names))
            raise InputError(f"{path}: the column {listed} {fault}; expected {MANIFEST_COLUMNS}")


def _json_entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (location for error messages, entry) of each object in the list."""
    document = read_json(path, f"a list of objects with the keys {MANIFEST_COLUMNS}")
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise InputError(
            f"{path}: is not a list of objects; expected one per scan with the keys {MANIFEST_COLUMNS}"
        )
    for number, entry in enumerate(document, 1):
        yield f"{path}: entry {number}", entry


def _parse_row(where: str, entry: Mapping[str, Any]) -> _Row:
    try:
        row = _Row.model_validate(entry)
    except ValidationError as error:
        fault: Any = error.errors(include_url=False)[0]
        column = ".".join(str(part) for part in fault["loc"][:1])
        raise InputError(f"{where}: {_fault_text(column, fault)}; expected {MANIFEST_COLUMNS}") from error
    if row.order is None and row.date is None:
        raise InputError(
            f"{where}: time point {row.timepoint!r} has neither an order nor a date; expected one of them"
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


def _resolve_files(where: str, folder: Path, row: _Row) -> _Row:
    """Resolve the row's paths relative to the manifest's folder and check that the files exist."""
    if not row.scan.name:
        raise InputError(f"{where}: scan is empty; expected the path of a CT")
    given = {column: getattr(row, column) for column in ("scan", "mask", "clicks", "boxes")}
    resolved = {column: folder / path for column, path in given.items() if path is not None}
    for column, path in resolved.items():
        if not is_regular_file(path):
            raise InputError(
                f"{where}: the {column} {given[column]} is missing; expected a file relative to {folder}"
            )
    return row.model_copy(update=resolved)


def _patient(path: Path, patient: str, rows: Sequence[tuple[str, _Row]]) -> PatientFiles:
    """Group a patient's rows into time points in order."""
    by_order = all(row.order is not None for _, row in rows)
    if not by_order and (undated := next((row for _, row in rows if row.date is None), None)) is not None:
        raise InputError(
            f"{path}: patient {patient!r}: time point {undated.timepoint!r} has no date and others have no "
            "order; expected one of the two for all time points of a patient"
        )
    time_points = []
    for name in dict.fromkeys(row.timepoint for _, row in rows):
        own_rows = [(where, row) for where, row in rows if row.timepoint == name]
        time_points.append(_time_point(name, own_rows, by_order))
    return sorted_patient(path, patient, time_points)


def _time_point(name: str, rows: Sequence[tuple[str, _Row]], by_order: bool) -> TimePointFiles:
    scans: list[ScanFiles] = []
    positions = set()
    for where, row in rows:
        positions.add(_position(row, by_order))
        if len(positions) > 1:
            raise InputError(
                f"{where}: time point {name!r} has another {'order' if by_order else 'date'} than in an "
                "earlier row; expected the same for all scans of a time point"
            )
        if any(scan.slot == row.slot for scan in scans):
            raise InputError(
                f"{where}: time point {name!r} already has a {row.slot} scan; expected one per scan_slot"
            )
        scans.append(ScanFiles(row.slot, row.scan, row.mask, row.clicks))
    boxes = {row.slot: row.boxes for _, row in rows if row.boxes is not None}
    ((position, when),) = positions
    return TimePointFiles(name, position, when, _primary_first(scans), boxes)


def _position(row: _Row, by_order: bool) -> tuple[float, str]:
    if by_order:
        assert row.order is not None
        return row.order, f"order {row.order:g}"
    assert row.date is not None
    return float(row.date.toordinal()), row.date.isoformat()


def _primary_first(scans: Sequence[ScanFiles]) -> tuple[ScanFiles, ...]:
    return tuple(sorted(scans, key=lambda scan: list(Slot).index(scan.slot)))
