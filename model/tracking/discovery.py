"""Find the patients and time points of a series in a manifest or a folder.

A folder that contains ``series.csv`` or ``series.json`` is read by that manifest (`series_manifest`), one in
LongiSeg's layout by its tracking file (`longiseg_series`). A JSON file may also be such a tracking file, or a
pair list of LongiTrack's viewer (`pair_list`).

Any other folder is one patient, named like the folder, or contains one folder per patient. In a patient's
folder each sub-folder is a time point with ``ct.*`` and optionally ``mask.*``, ``clicks.json`` and
``boxes.json``; the same names with the prefix ``secondary-`` belong to a second scan. The name of a time
point's folder gives its position in time: a date (``2024-03-31``, ``scan_20240331``), otherwise its only
number (``week_12``).
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from ..case.case import ScanFiles, Slot
from ..case.stored_image import IMAGE_SUFFIXES
from ..case.text_files import read_json
from ..errors import InputError
from .longiseg_series import FollowupPoints, find_tracking_file, read_tracking_series
from .pair_list import is_pair_list, read_pair_list
from .series_files import PatientFiles, TimePointFiles, sorted_patient
from .series_manifest import MANIFEST_COLUMNS, read_series_manifest

MANIFEST_NAMES = ("series.csv", "series.json")

_DATE_IN_NAME = re.compile(r"(?<![0-9])([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?![0-9])")
_NUMBER = re.compile(r"[0-9]+")
_PREFIXES = {Slot.PRIMARY: "", Slot.SECONDARY: "secondary-"}


def discover_series(path: Path, followup_points: FollowupPoints = "verified") -> list[PatientFiles]:
    """List the patients of a manifest or folder, with their time points in order; nothing is decoded.

    Args:
        path: manifest or folder.
        followup_points: which points of follow-ups in tracking files and pair lists are prompts.

    Raises:
        InputError: columns or files are missing or unknown, a time point has no position in time, two have
            the same one, or a slot is given twice; the message names the manifest's row or the folder.
    """
    if path.is_dir():
        manifest = next((path / name for name in MANIFEST_NAMES if (path / name).is_file()), None)
        tracking = find_tracking_file(path)
        if manifest is None and tracking is not None:
            return read_tracking_series(tracking, followup_points)
        return read_series_manifest(manifest) if manifest is not None else _read_folder(path)
    if not path.exists():
        raise InputError(
            f"{path}: is missing; expected a folder, or a manifest with the columns {MANIFEST_COLUMNS}"
        )
    if path.suffix.lower() == ".json":
        document = read_json(path, f"a manifest with the keys {MANIFEST_COLUMNS}", allow_nan=True)
        if isinstance(document, dict):
            return read_tracking_series(path, followup_points)
        if is_pair_list(document):
            return read_pair_list(path, followup_points)
    return read_series_manifest(path)


def _read_folder(folder: Path) -> list[PatientFiles]:
    _check_no_loose_scan(folder)
    if _time_point_folders(folder):
        return [_read_patient(folder)]
    patients = [inner for inner in _folders(folder) if _time_point_folders(inner)]
    if not patients:
        raise InputError(
            f"{folder}: contains no series; expected {' or '.join(MANIFEST_NAMES)}, or a folder per time "
            "point with ct.* in it (and mask.*, clicks.json, boxes.json)"
        )
    others = [inner.name for inner in _folders(folder) if inner not in patients]
    if others:
        raise InputError(f"{folder / others[0]}: contains no time point; expected folders with ct.* in it")
    return [_read_patient(inner) for inner in patients]


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _time_point_folders(folder: Path) -> list[Path]:
    return [
        inner
        for inner in _folders(folder)
        if any(_find_image(inner, f"{prefix}ct") for prefix in _PREFIXES.values())
    ]


def _find_image(folder: Path, stem: str) -> Path | None:
    """Find ``stem`` with one of the image suffixes."""
    paths = [folder / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    paths = [path for path in paths if path.is_file()]
    if len(paths) > 1:
        raise InputError(
            f"{folder}: contains {paths[0].name} and {paths[1].name}; expected one image named {stem}"
        )
    return paths[0] if paths else None


def _check_no_loose_scan(folder: Path) -> None:
    """Refuse scans beside the time points' folders, which would otherwise be ignored silently."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(
                f"{path}: belongs to no time point; expected it in a folder of its own, or a manifest"
            )


def _read_patient(folder: Path) -> PatientFiles:
    _check_no_loose_scan(folder)
    others = [inner for inner in _folders(folder) if inner not in _time_point_folders(folder)]
    if others:
        raise InputError(f"{others[0]}: contains no ct.*; expected the CT of time point {others[0].name!r}")
    points = [_read_time_point(inner) for inner in _time_point_folders(folder)]
    kinds = {point.when.startswith("order") for point in points}
    if len(kinds) > 1:
        undated = next(point.name for point in points if point.when.startswith("order"))
        raise InputError(
            f"{folder}: time point {undated!r} has no date in its name and others have; expected one kind "
            "of name"
        )
    return sorted_patient(folder, folder.resolve().name, points)


def _read_time_point(folder: Path) -> TimePointFiles:
    position, when = _position_from_name(folder)
    scans, boxes = [], {}
    for slot, prefix in _PREFIXES.items():
        ct, mask = _find_image(folder, f"{prefix}ct"), _find_image(folder, f"{prefix}mask")
        clicks, box = folder / f"{prefix}clicks.json", folder / f"{prefix}boxes.json"
        if ct is None:
            orphan = next((path for path in (mask, clicks, box) if path is not None and path.is_file()), None)
            if orphan is not None:
                raise InputError(f"{orphan}: belongs to no scan; expected {prefix}ct.* beside it")
            continue
        scans.append(ScanFiles(slot, ct, mask, clicks if clicks.is_file() else None))
        if box.is_file():
            boxes[slot] = box
    return TimePointFiles(folder.name, position, when, tuple(scans), boxes)


def _position_from_name(folder: Path) -> tuple[float, str]:
    """Position in time by the date in the folder's name, otherwise by its only number."""
    dates = []
    for match in _DATE_IN_NAME.finditer(folder.name):
        try:
            dates.append(datetime.date(*map(int, match.groups())))
        except ValueError:  # eight digits that are not a date
            continue
    if len(dates) == 1:
        return float(dates[0].toordinal()), dates[0].isoformat()
    numbers = _NUMBER.findall(folder.name)
    if not dates and len(numbers) == 1:
        return float(numbers[0]), f"order {int(numbers[0])}"
    raise InputError(
        f"{folder}: the position in time of time point {folder.name!r} is unknown; expected one date "
        "(2024-03-31) or one number in the folder's name, or a manifest"
    )
