"""Reads lesion maps from files.

Formats:

- LongiSeg's ``tracking.json``, a dictionary per patient, or its second generation, ``trackingTr.json``, also
  with a list of dictionaries per patient, one for each pair of scans;
- the challenge's CSV (``lesion_id, img_id_bl, img_id_fu, cog_bl, cog_fu, cog_propagated``): lesions with the
  same centre in a follow-up scan have merged, those with the same centre in the baseline have split from one;
- a folder of such CSVs, one ``<patient>.csv`` each, as in the challenge's release;
- a plain CSV (``baseline_id, followup_ids`` and optionally ``patient`` and ``scan``).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..case.text_files import TableRow, read_json, read_table, written_number
from ..case.voxel_checks import MAX_LESION_ID
from ..errors import InputError
from .lesion_map import LesionMap, MappedLesion, PatientLesions

_EXPECTED = (
    "LongiSeg's tracking.json, the challenge's CSV (lesion_id, img_id_bl, img_id_fu, cog_bl, cog_fu, "
    "cog_propagated) or a folder of them, or a CSV with baseline_id, followup_ids[, patient, scan]"
)
_PLAIN_COLUMNS = {"baseline_id", "followup_ids"}
_CHALLENGE_COLUMNS = {"lesion_id", "cog_fu"}
_LONGEST_HEADER = 65536  # bytes
_LARGEST_WHOLE = 2.0**53  # largest float up to which all whole numbers are exact
_MISSING = {"", "nan", "none", "null", "na", "n/a", "<na>"}


def read_lesion_map(path: Path) -> LesionMap:
    """Read a lesion map in any of its formats: a file, or a folder of the challenge's CSVs.

    Raises:
        InputError: not readable, another format, an id out of range, or a baseline id twice in a scan; also a
            folder without any of the challenge's CSVs, or with two of one patient.
    """
    if path.is_dir():
        return LesionMap(path, tuple(_read_folder(path)))
    patients = _from_tracking(path) if path.suffix.lower() == ".json" else _from_csv(path)
    for entry in patients:
        _check(path, entry)
    return LesionMap(path, tuple(patients))


def _read_folder(folder: Path) -> Iterable[PatientLesions]:
    """Read the patients of the challenge's release: in a folder each CSV has the name of its patient.

    Tables with other columns are ignored.
    """
    tables: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.csv")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if not _is_challenge_table(path):
            continue
        _, rows = _table(path)
        if path.stem in tables:
            raise InputError(
                f"{path}: is of patient {path.stem}, like {tables[path.stem]}; expected one CSV per patient"
            )
        tables[path.stem] = path
        entry = PatientLesions(path.stem, tuple(_from_challenge(path, rows)))
        _check(path, entry)
        yield entry
    if not tables:
        raise InputError(
            f"{folder}: holds no CSV of the challenge; expected one for each patient, PATIENT.csv with "
            "lesion_id, img_id_bl, img_id_fu, cog_bl, cog_fu, cog_propagated"
        )


def _is_challenge_table(path: Path) -> bool:
    """Check by the first line, in any encoding, if a CSV has the challenge's columns."""
    try:
        with path.open("rb") as file:
            header = file.readline(_LONGEST_HEADER)
    except OSError:
        return True  # unreadable files are reported later, by the reader
    # Tables in other encodings are recognised, too; in UTF-16 each letter is followed by a zero.
    text = header.decode("utf-8-sig", "replace").replace("\0", "").lstrip("\ufffd")
    names = next(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True), [])
    return {name.strip() for name in names} >= _CHALLENGE_COLUMNS


def _check(path: Path, entry: PatientLesions) -> None:
    seen: set[tuple[int, str | None, str | None]] = set()
    for lesion in entry.lesions:
        for lesion_id in (*lesion.baseline_ids, *lesion.followup_ids):
            if not 0 < lesion_id <= MAX_LESION_ID:
                raise InputError(f"{path}: lesion id {lesion_id}; expected 1 to {MAX_LESION_ID}")
        for lesion_id in lesion.baseline_ids:
            key = (lesion_id, lesion.baseline_scan, lesion.followup_scan)
            if key in seen:
                where = "" if entry.patient is None else f" of patient {entry.patient}"
                raise InputError(f"{path}: lesion {lesion_id}{where} is listed twice; expected it once")
            seen.add(key)


def _from_tracking(path: Path) -> list[PatientLesions]:
    document = read_json(path, _EXPECTED, allow_nan=True)
    if not isinstance(document, dict):
        raise InputError(f"{path}: is not a dictionary of patients; expected {_EXPECTED}")
    return [
        PatientLesions(
            str(patient),
            tuple(
                _tracked_lesion(path, str(patient), str(name), lesion)
                for pair in (pairs if isinstance(pairs, list) else [pairs])
                for name, lesion in _items(path, str(patient), pair)
            ),
        )
        for patient, pairs in document.items()
    ]


def _items(path: Path, patient: str, pair: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(pair, dict) or not all(isinstance(lesion, dict) for lesion in pair.values()):
        raise InputError(f"{path}: patient {patient} holds no dictionary of lesions; expected {_EXPECTED}")
    return pair.items()


def _tracked_lesion(path: Path, patient: str, name: str, lesion: Mapping[str, Any]) -> MappedLesion:
    own = _numbers(path, f"lesion {name!r} of patient {patient}", name)
    merged = lesion.get("merged_lesions", list(own))
    joined = merged if isinstance(merged, list) else [merged]
    ids = _numbers(path, f"merged_lesions of lesion {name} of patient {patient}", *joined)
    # A new lesion has no point in the baseline.
    is_new = "bl_point" in lesion and _is_missing(lesion["bl_point"])
    return MappedLesion(
        () if is_new else own,
        ids,
        _scan_name(path, lesion.get("img_bl")),
        _scan_name(path, lesion.get("img_fu")),
    )


def _is_missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, list):
        return not value or all(_is_missing(entry) for entry in value)
    return isinstance(value, str) and value.strip().lower() in _MISSING


def _scan_name(path: Path, value: Any) -> str | None:
    if _is_missing(value):
        return None
    if isinstance(value, bool | list | dict) or (isinstance(value, float) and abs(value) > _LARGEST_WHOLE):
        raise InputError(f"{path}: names the scan {value!r}; expected text or a number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text[:-2] if re.fullmatch(r"[0-9]+\.0", text) else text


def _numbers(path: Path, where: str, *values: Any) -> tuple[int, ...]:
    """Parse ids, without 0 (= absent), in order and without repetition."""
    ids: dict[int, None] = {}
    for value in values:
        if _is_missing(value):
            continue
        try:
            number = written_number(value) if isinstance(value, str) else float(value)
            if isinstance(value, bool) or not number.is_integer():
                raise ValueError
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: {where}: {value!r} is not a lesion id; expected a whole number"
            ) from error
        if number:
            ids[int(number)] = None
    return tuple(ids)


def _table(path: Path) -> tuple[dict[str, None], list[TableRow]]:
    """Read the columns of a CSV, in order, and its rows, which have a cell in every column."""
    names, rows = read_table(path, _EXPECTED)
    columns = dict.fromkeys(names)
    return columns, [TableRow(row.line, dict.fromkeys(names, "") | row.cells) for row in rows]


def _from_csv(path: Path) -> list[PatientLesions]:
    columns, rows = _table(path)
    if columns.keys() >= _PLAIN_COLUMNS:
        return _from_plain(path, rows)
    if columns.keys() >= _CHALLENGE_COLUMNS:
        return [PatientLesions(_patient_of_file(path), tuple(_from_challenge(path, rows)))]
    raise InputError(f"{path}: has the columns {', '.join(columns) or '(none)'}; expected {_EXPECTED}")


def _patient_of_file(path: Path) -> str | None:
    """Patient by the file name, if that is one of the challenge: a hash of ten hexadecimal digits."""
    return path.stem if re.fullmatch(r"[0-9a-f]{10}", path.stem) else None


def _from_plain(path: Path, rows: Iterable[TableRow]) -> list[PatientLesions]:
    by_patient: dict[str | None, list[MappedLesion]] = {}
    for line, row in ((row.line, row.cells) for row in rows):
        where = f"line {line}"
        lesion = MappedLesion(
            _numbers(path, where, *re.split(r"[\s;|+,]+", row["baseline_id"])),
            _numbers(path, where, *re.split(r"[\s;|+,]+", row["followup_ids"])),
            followup_scan=row.get("scan") or None,
        )
        by_patient.setdefault(row.get("patient") or None, []).append(lesion)
    return [PatientLesions(patient, tuple(lesions)) for patient, lesions in by_patient.items()]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the challenge's CSV; scans are (baseline, follow-up), () stands for a missing centre."""

    lesion_id: int
    scans: tuple[str | None, str | None]
    before: tuple[float, ...]
    after: tuple[float, ...]
    is_new: bool


def _from_challenge(path: Path, rows: Iterable[TableRow]) -> list[MappedLesion]:
    """Convert rows: lesions with the same centre in a scan share their mask there.

    The mask has one of their ids; the map does not determine which one.
    """
    entries = [_challenge_row(path, row.line, row.cells) for row in rows]
    lesions = []
    for row in entries:
        own, (baseline_scan, scan) = row.lesion_id, row.scans
        merged = [e for e in entries if e.scans[1] == scan and e.after == row.after] if row.after else [row]
        split = [e for e in entries if e.scans == row.scans and e.before == row.before] if row.before else []
        lesions.append(
            MappedLesion(
                () if row.is_new else (own,),
                tuple(e.lesion_id for e in merged),
                baseline_scan,
                scan,
                may_be_absent=not row.after,
                split_ids=tuple(e.lesion_id for e in split if e is not row),
            )
        )
    return lesions


def _challenge_row(path: Path, line: int, row: Mapping[str, str]) -> _Row:
    ids = _numbers(path, f"line {line}", row["lesion_id"])
    if len(ids) != 1:
        raise InputError(f"{path}: line {line} holds no lesion_id; expected a whole number from 1 on")
    scans = (_scan_name(path, row.get("img_id_bl", "")), _scan_name(path, row.get("img_id_fu", "")))
    before, after = (_centre(path, line, column, row.get(column, "")) for column in ("cog_bl", "cog_fu"))
    return _Row(ids[0], scans, before, after, is_new="cog_bl" in row and not before)


def _centre(path: Path, line: int, column: str, text: str) -> tuple[float, ...]:
    """Parse three numbers with any separators and brackets; () for a missing centre."""
    parts = re.sub(r"[\[\](){}]", " ", text).replace(",", " ").replace(";", " ").split()
    if all(_is_missing(part) for part in parts):
        return ()
    try:
        centre = tuple(written_number(part) for part in parts)
    except ValueError:
        centre = ()
    if len(centre) != 3 or not all(map(math.isfinite, centre)):
        raise InputError(f"{path}: line {line}: {column} is {text!r}; expected three numbers, or nothing")
    return centre
