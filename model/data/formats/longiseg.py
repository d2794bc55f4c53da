"""Reader of LongiSeg's raw layout, in both generations.

``dataset.json``, ``imagesTr/<scan>_0000.<ext>``, ``labelsTr/<scan>.<ext>`` (instance maps),
``patientsTr.json`` ({patient: [scan, ...]} in order of time), and the links of lesions: ``tracking.json``
(first generation; a scan is the number in ``<patient>_BL_img_<nn>``) or ``trackingTr.json`` (second; scans by
name, and a list of such tables for several pairs of scans).

Without either file it is a set for pretraining: lesions are linked by their ids, and the *first* scan of a
patient is the follow-up of each other one, as in the published trainers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...case.geometry import Vector
from ...case.stored_image import IMAGE_SUFFIXES
from ...case.text_files import read_json
from ...case.voxel_checks import MAX_LESION_ID
from ...errors import InputError
from ..dataset import Cohort, Links, Problem, RawLesion, RawPair, RawScan

PATIENTS_FILE = "patientsTr.json"
TRACKING_FILES = ("trackingTr.json", "tracking.json")
_POINTS = ("bl_point", "fu_point", "fu_point_prop")


def read_longiseg(folder: Path) -> Cohort:
    """Read the scans and lesions of a LongiSeg folder; no image is opened.

    Faults of single lesions become problems of the cohort.

    Raises:
        InputError: one of its JSON files is missing or malformed as a whole.
    """
    suffix = _mapping(folder / "dataset.json").get("file_ending")
    scans = tuple(_scans(folder, str(suffix) if suffix else ""))
    name = folder.resolve().name
    tracking = next((folder / file for file in TRACKING_FILES if (folder / file).is_file()), None)
    if tracking is None:
        pairs = tuple(_pretraining_pairs(scans))
        return Cohort(name, scans, (), Links.SAME_ID, pairs)
    lesions: list[RawLesion] = []
    problems: list[Problem] = []
    scan_ids = {scan.scan_id for scan in scans}
    for where, patient, table in _tables(tracking):
        for key, entry in table.items():
            try:
                lesions.append(_lesion(patient, key, entry, table, scan_ids))
            except InputError as error:
                problems.append(Problem(tracking, f"{where}, lesion {key}: {error}", "it is left out"))
    return Cohort(name, scans, tuple(lesions), Links.EXPLICIT, problems=tuple(problems))


def _mapping(path: Path) -> dict[str, Any]:
    document = read_json(path, "LongiSeg's layout", allow_nan=True)
    if not isinstance(document, dict):
        raise InputError(f"{path}: is not a JSON object; expected LongiSeg's layout")
    return document


def _scans(folder: Path, suffix: str) -> Iterator[RawScan]:
    path = folder / PATIENTS_FILE
    seen: set[str] = set()
    for patient, names in _mapping(path).items():
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise InputError(f"{path}: {patient} has no list of scans; expected {{patient: [scan, ...]}}")
        for order, name in enumerate(names):
            if name in seen:
                raise InputError(f"{path}: scan {name} is listed twice; expected each scan once")
            seen.add(name)
            image = _file(folder / "imagesTr", f"{name}_0000", suffix)
            yield RawScan(name, patient, order, image, _file(folder / "labelsTr", name, suffix))


def _file(folder: Path, stem: str, suffix: str) -> Path:
    """The file of a scan; if it is missing, the path that was expected."""
    suffixes = ([suffix] if suffix else []) + list(IMAGE_SUFFIXES)
    paths = [folder / f"{stem}{ending}" for ending in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])


def _pretraining_pairs(scans: tuple[RawScan, ...]) -> Iterator[RawPair]:
    firsts = {scan.patient_id: scan for scan in scans if scan.order == 0}
    for scan in scans:
        if scan.order > 0:
            yield RawPair(baseline=scan.scan_id, followup=firsts[scan.patient_id].scan_id)


def _tables(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place in the file, patient and {lesion id: entry} of each pair of scans."""
    for patient, content in _mapping(path).items():
        tables = content if isinstance(content, list) else [content]
        for number, table in enumerate(tables):
            where = f"{patient}[{number}]" if isinstance(content, list) else patient
            if not isinstance(table, dict):
                raise InputError(f"{path}: {where} holds no lesions; expected {{lesion id: {{...}}}}")
            yield where, patient, table


def _lesion(patient: str, key: str, entry: Any, table: Mapping[str, Any], scan_ids: set[str]) -> RawLesion:
    if not isinstance(entry, dict):
        raise InputError(f"is {entry!r}; expected an object with img_bl, img_fu, merged_lesions and points")
    lesion_id, ids = _lesion_id(key), _followup_ids(entry.get("merged_lesions", [key]))
    baseline_point, followup_point, propagated = (_point(name, entry.get(name)) for name in _POINTS)
    if (
        ids and lesion_id not in ids
    ):  # use the points of the lesion that it became, as the published loader does
        target = table.get(str(ids[0]))
        if isinstance(target, dict):
            followup_point = followup_point or _point("fu_point", target.get("fu_point"))
            propagated = propagated or _point("fu_point_prop", target.get("fu_point_prop"))
    return RawLesion(
        lesion_id=lesion_id,
        baseline=_scan_id(patient, "BL", entry.get("img_bl"), scan_ids),
        followup=_scan_id(patient, "FU", entry.get("img_fu"), scan_ids),
        followup_ids=ids,
        baseline_point_xyz=baseline_point,
        followup_point_xyz=followup_point,
        propagated_point_xyz=propagated,
    )


def _lesion_id(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"id {value!r} is not a number; expected 1 to {MAX_LESION_ID}") from None
    if not 0 < number <= MAX_LESION_ID:
        raise InputError(f"id {number} is out of range; expected 1 to {MAX_LESION_ID}")
    return number


def _followup_ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(sorted({_lesion_id(entry) for entry in values if entry not in (0, "0")}))


def _scan_id(patient: str, which: str, value: Any, scan_ids: set[str]) -> str:
    named = isinstance(value, str) and not value.isdigit()
    try:
        name = str(value) if named else f"{patient}_{which}_img_{int(value):02d}"
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"img_{which.lower()} is {value!r}; expected a scan's name or number") from None
    if name not in scan_ids:
        raise InputError(f"img_{which.lower()} is {value!r}; expected a scan of {PATIENTS_FILE}")
    return name


def _point(name: str, value: Any) -> Vector | None:
    """Three finite numbers (x, y, z); None for null, NaN, and lists of those."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        numbers = [math.nan if number is None else float(number) for number in value]
    except (TypeError, ValueError):
        numbers = []
    if numbers and all(map(math.isnan, numbers)):
        return None
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} is {value!r}; expected [x, y, z]")
    return (numbers[0], numbers[1], numbers[2])
