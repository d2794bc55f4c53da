"""Read the series of LongiSeg's tracking files (`case.longiseg_tracking`).

Such a file lies beside the folders of its scans: ``imagesTr/<scan>_0000.*`` and, optionally,
``labelsTr/<scan>.*`` (or with ``Ts``, or with neither) and ``patientsTr.json``, the scans of each patient in
order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..case.case import ScanFiles, Slot
from ..case.geometry import Vector
from ..case.longiseg_tracking import parse_tracking_entry, read_longiseg_object, read_tracking_tables
from ..case.raw_lesion import RawLesion
from ..case.stored_image import IMAGE_SUFFIXES
from ..errors import InputError
from .series_files import PatientFiles, TimePointFiles

FollowupPoints = Literal["verified", "propagated", "none"]
"""The points of follow-ups that are prompts: verified or propagated ones as the file has them, or neither."""

_TRACKING_NAMES = ("trackingTr.json", "trackingTs.json", "tracking.json")


def find_tracking_file(folder: Path) -> Path | None:
    """Find LongiSeg's tracking file in a folder that also holds the images; None if it has none."""
    files = (folder / name for name in _TRACKING_NAMES)
    return next((file for file in files if file.is_file() and _subfolders(file, "images")), None)


def read_tracking_series(path: Path, followup_points: FollowupPoints) -> list[PatientFiles]:
    """Read the patients of a tracking file, with their time points in order; nothing is decoded.

    Each scan is a time point, named like the scan. A lesion has its baseline point where it is first listed,
    and in later scans those that ``followup_points`` selects. The labelmap of a patient's first scan is the
    mask; those of later scans are not read.

    Raises:
        InputError: the file or an entry cannot be used, an image is missing, a lesion has no point, or the
            order of the scans contradicts the pairs.
    """
    entries: dict[str, list[RawLesion]] = {}
    for where, patient, table in read_tracking_tables(path):
        for key in table:
            try:
                entries.setdefault(patient, []).append(parse_tracking_entry(patient, key, table))
            except InputError as error:
                raise InputError(f"{path}: {where}, lesion {key}: {error}") from error
    if not entries:
        raise InputError(f"{path}: lists no lesion; expected {{patient: {{lesion id: {{...}}}}}}")
    orders = _listed_orders(path)
    return [
        _patient(path, patient, own, orders.get(patient), followup_points) for patient, own in entries.items()
    ]


def _subfolders(path: Path, kind: str) -> list[Path]:
    """The folders of images or labels beside a tracking file."""
    part = path.stem[-2:]
    names = [f"{kind}{part}"] if part in ("Tr", "Ts") else [f"{kind}Tr", f"{kind}Ts"]
    return [path.parent / name for name in (*names, kind) if (path.parent / name).is_dir()]


def _listed_orders(path: Path) -> dict[str, list[str]]:
    """The scans of each patient in order of time, as listed beside the tracking file; {} if they are not."""
    file = path.with_name("patientsTs.json" if path.stem.endswith("Ts") else "patientsTr.json")
    orders = read_longiseg_object(file) if file.is_file() else {}
    for patient, scans in orders.items():
        if not isinstance(scans, list) or not all(isinstance(scan, str) for scan in scans):
            raise InputError(f"{file}: {patient} has no list of scans; expected {{patient: [scan, ...]}}")
    return orders


def _patient(
    path: Path,
    patient: str,
    entries: Sequence[RawLesion],
    listed: Sequence[str] | None,
    followup_points: FollowupPoints,
) -> PatientFiles:
    where = f"{path}: patient {patient!r}"
    named = list(dict.fromkeys(scan for entry in entries for scan in (entry.baseline, entry.followup)))
    order = named if listed is None else [scan for scan in listed if scan in named]
    for entry in entries:
        if not {entry.baseline, entry.followup} <= set(order):
            raise InputError(
                f"{where}: the list of patients lacks {entry.baseline} or {entry.followup}; expected both"
            )
        if order.index(entry.baseline) >= order.index(entry.followup):
            raise InputError(
                f"{where}: {entry.followup} comes before its baseline {entry.baseline}; expected pairs in "
                "order of time"
            )
    points = _points(entries, _tracked_ids(where, entries, order), followup_points)
    time_points = []
    for position, scan in enumerate(order):
        ct = _scan_file(path, "images", f"{scan}_0000")
        if ct is None:
            raise InputError(
                f"{where}: the image {scan}_0000.* is missing; expected it in imagesTr, imagesTs or images "
                "beside the file"
            )
        mask = _scan_file(path, "labels", scan) if position == 0 else None
        files = ScanFiles(Slot.PRIMARY, ct, mask, points_xyz=points.get(scan, {}))
        time_points.append(TimePointFiles(scan, float(position), f"order {position}", (files,)))
    _check_prompts(where, entries, points, time_points[0])
    return PatientFiles(patient, tuple(time_points))


def _scan_file(path: Path, kind: str, stem: str) -> Path | None:
    files = (folder / f"{stem}{suffix}" for folder in _subfolders(path, kind) for suffix in IMAGE_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _tracked_ids(
    where: str, entries: Sequence[RawLesion], order: Sequence[str]
) -> dict[tuple[str, int], int]:
    """(scan, id in it) -> id of the lesion where it is first listed, which it keeps."""
    tracked: dict[tuple[str, int], int] = {}
    links = [(entry, number) for entry in entries for number in (entry.followup_ids or (0,))]
    # Of lesions that merge, the one that keeps its id goes on with it.
    links.sort(key=lambda link: (order.index(link[0].baseline), link[1] != link[0].lesion_id))
    for entry, number in links:
        own = tracked.setdefault((entry.baseline, entry.lesion_id), entry.lesion_id)
        tracked.setdefault((entry.followup, number), own)
    arrived = {(entry.followup, tracked[entry.baseline, entry.lesion_id]) for entry in entries}
    linked = {(entry.followup, number) for entry, number in links}
    for entry in entries:
        own_id = (entry.baseline, entry.lesion_id)
        if own_id in arrived - linked:
            raise InputError(
                f"{where}: lesion {entry.lesion_id} of {entry.baseline} is another one than before; "
                "expected different ids"
            )
    return tracked


def _points(
    entries: Sequence[RawLesion], tracked: dict[tuple[str, int], int], followup_points: FollowupPoints
) -> dict[str, dict[int, Vector]]:
    """The given points by scan and lesion id."""
    points: dict[str, dict[int, Vector]] = {}
    linked = {(entry.followup, number) for entry in entries for number in entry.followup_ids}
    for entry in entries:
        later = {"verified": entry.followup_point_xyz, "propagated": entry.propagated_point_xyz, "none": None}
        goes_on = (entry.baseline, entry.lesion_id) in linked
        given = [(entry.followup, later[followup_points])]
        given += [] if goes_on else [(entry.baseline, entry.baseline_point_xyz)]
        for scan, point in given:
            if point is not None:
                lesion_id = tracked[entry.baseline, entry.lesion_id]
                points.setdefault(scan, {}).setdefault(lesion_id, point)
    return points


def _check_prompts(
    where: str, entries: Sequence[RawLesion], points: dict[str, dict[int, Vector]], first: TimePointFiles
) -> None:
    """Refuse a lesion without a point where no labelmap can hold it: it would be lost silently."""
    placed = {lesion_id for of_scan in points.values() for lesion_id in of_scan}
    linked = {(entry.followup, number) for entry in entries for number in entry.followup_ids}
    has_mask = any(scan.mask is not None for scan in first.scans)
    for entry in entries:
        goes_on = (entry.baseline, entry.lesion_id) in linked
        may_be_labelled = has_mask and entry.baseline == first.name
        if entry.lesion_id not in placed and not goes_on and not may_be_labelled:
            raise InputError(
                f"{where}: lesion {entry.lesion_id} of {entry.baseline} has no point; expected a bl_point"
            )
