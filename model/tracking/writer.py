"""What a followed series leaves behind: labelmaps, the prompts that were used, and one record per patient.

::

    OUT/<patient>/<time point>/<slot>.mha                   labels are lesion ids, on the scan's own grid
    OUT/<patient>/<time point>/<slot>-lesion-clicks.json    the points, in voxels of the scan; can be fed back
    OUT/<patient>/<time point>/<slot>-lesion-boxes.json     the boxes, where boxes were the prompts
    OUT/<patient>/tracking.json                             fate, confidence, volume, ... of every lesion

Each file is written whole or not at all, a time point as soon as it is answered; `tracking.json` grows with
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..case.boxes import boxes_of_scan, write_boxes
from ..case.case import Scan, Slot
from ..case.clicks import write_clicks
from ..case.images import write_image
from ..case.lesion_json import write_json
from ..errors import InputError, OutputError
from ..propagation.pair_registrations import RegistrationRecord
from .series import PromptKind, Series, TrackedLesion, TrackedTimePoint
from .series_files import PatientFiles

RECORD_NAME = "tracking.json"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Each name -> a file name of letters, digits, dots, dashes and underscores, none of them twice."""
    safe: dict[str, str] = {}
    taken: set[str] = {RECORD_NAME}
    for name in names:
        stem = _UNSAFE.sub("_", name).strip("._") or "unnamed"
        candidate, number = stem, 2
        while candidate.lower() in taken:  # some file systems take "A" and "a" for one
            candidate, number = f"{stem}_{number}", number + 1
        taken.add(candidate.lower())
        safe[name] = candidate
    return safe


def remove_stale(folder: Path, files: PatientFiles) -> None:
    """Delete what an earlier run wrote, so that a run that fails leaves no old answer behind.

    Raises:
        InputError: a file of the series itself would be written over.
        OutputError: the folder cannot be used.
    """
    names = safe_names(point.name for point in files.time_points)
    written = [folder / RECORD_NAME]
    for point in files.time_points:
        written += [path for scan in point.scans for path in _paths(folder / names[point.name], scan.slot)]
    given = {path.resolve() for path in _inputs(files)}
    for path in written:
        if path.resolve() in given:
            raise InputError(f"{path}: belongs to the series; expected another folder for the results")
    try:
        for path in written:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be used ({error.strerror}); expected a writable folder"
        ) from error


def _inputs(files: PatientFiles) -> Iterable[Path]:
    for point in files.time_points:
        yield from point.boxes.values()
        for scan in point.scans:
            yield from (path for path in (scan.ct, scan.mask, scan.clicks) if path is not None)


def _paths(folder: Path, slot: Slot) -> tuple[Path, Path, Path]:
    """The labelmap, the clicks and the boxes of a scan."""
    return folder / f"{slot}.mha", folder / f"{slot}-lesion-clicks.json", folder / f"{slot}-lesion-boxes.json"


class SeriesWriter:
    """Writes a patient's time points as they come."""

    def __init__(
        self, folder: Path, series: Series, settings: Mapping[str, Any], kind: PromptKind = PromptKind.POINT
    ) -> None:
        self._folder = folder
        self._series = series
        self._settings = dict(settings)
        self._kind = kind
        self._names = safe_names(point.name for point in series.time_points)
        self._answered: dict[str, dict[str, Any]] = {}

    @property
    def record_path(self) -> Path:
        return self._folder / RECORD_NAME

    def add(self, answered: TrackedTimePoint) -> None:
        """Write a time point's labelmaps and prompts, and the record of all that was answered so far.

        Raises:
            OutputError: a file cannot be written, or does not read back.
        """
        for scan in answered.time_point.scans:
            image, clicks, boxes = self._paths(answered.name, scan.slot)
            write_image(image, answered.labelmaps[scan.slot], scan.file_geometry)
            mine = [lesion for lesion in answered.lesions if lesion.slot == scan.slot]
            _write_clicks(clicks, scan, mine)
            shown = [lesion for lesion in mine if self._kind is PromptKind.BOX or lesion.has_given_box]
            if shown:
                _write_boxes(boxes, scan, shown)
        self._answered[answered.name] = self._time_point(answered)
        write_json(self.record_path, self._document())

    def _paths(self, name: str, slot: Slot) -> tuple[Path, Path, Path]:
        return _paths(self._folder / self._names[name], slot)

    def _document(self) -> dict[str, Any]:
        names = [point.name for point in self._series.time_points if point.name in self._answered]
        return {
            "version": __version__,
            "patient": self._series.patient,
            "source": self._series.time_points[self._series.source].name,
            "is_whole": len(names) == len(self._series.time_points),
            "settings": self._settings,
            "time_points": [self._answered[name] for name in names],
            "warnings": list(self._series.warnings),
        }

    def _time_point(self, answered: TrackedTimePoint) -> dict[str, Any]:
        point = answered.time_point
        return {
            "name": point.name,
            "when": point.when,
            "scans": {str(scan.slot): self._scan(point.name, scan) for scan in point.scans},
            "lesions": [_lesion(lesion) for lesion in answered.lesions],
            "registrations": [_registration(record) for record in answered.registrations],
            "warnings": list(answered.warnings),
            "seconds": answered.seconds,
        }

    def _scan(self, name: str, scan: Scan) -> dict[str, Any]:
        labelmap, clicks, boxes = self._paths(name, scan.slot)
        return {
            "ct": str(scan.path) if scan.path is not None else None,
            "labelmap": str(labelmap.relative_to(self._folder)),
            "clicks": str(clicks.relative_to(self._folder)),
            "boxes": str(boxes.relative_to(self._folder)) if boxes.exists() else None,
        }


def _registration(record: RegistrationRecord) -> dict[str, Any]:
    return {
        "fixed": record.followup,
        "moving": record.baseline,
        "seconds": record.seconds,
        "similarity": record.similarity,
        "is_reliable": record.is_reliable,
        "warnings": list(record.warnings),
    }


def _lesion(lesion: TrackedLesion) -> dict[str, Any]:
    fate, point = lesion.fate, None
    if lesion.prompt is not None:
        scan, zyx = lesion.prompt.followup, lesion.prompt.followup_point.point_zyx
        point = {"voxel_xyz": scan.file_point_xyz(zyx), "world_mm": scan.geometry.zyx_to_world(zyx)}
    return {
        "lesion_id": lesion.lesion_id,
        "scan": lesion.slot,
        "fate": fate.fate if fate is not None else "source",
        "reason": fate.reason if fate is not None else "",
        "merged_with": list(fate.merged_with) if fate is not None else [],
        "pieces": fate.pieces if fate is not None else None,
        "volume_ml": lesion.volume_ml,
        "point": point,
        "point_source": lesion.origin,
        "carried_from": lesion.carried_from,
        "confidence_mm": lesion.confidence_mm,
        "is_flagged": lesion.is_flagged,
        "warnings": list(lesion.warnings),
        "seconds": lesion.seconds,
    }


def _write_clicks(path: Path, scan: Scan, lesions: list[TrackedLesion]) -> None:
    """The points that the lesions of a scan were segmented at, by voxel of the scan's file."""
    asked = {lesion.lesion_id: lesion for lesion in lesions if lesion.prompt is not None}
    write_clicks(
        path,
        {
            lesion_id: scan.file_point_xyz(lesion.prompt.followup_point.point_zyx)
            for lesion_id, lesion in asked.items()
            if lesion.prompt is not None
        },
        {
            lesion_id: {
                "source": str(lesion.origin),
                "confidence_mm": lesion.confidence_mm,
                "in_view": lesion.in_view,
                "is_flagged": lesion.is_flagged,
            }
            for lesion_id, lesion in asked.items()
        },
    )


def _write_boxes(path: Path, scan: Scan, lesions: list[TrackedLesion]) -> None:
    boxes = {
        lesion.lesion_id: lesion.prompt.followup_box
        for lesion in lesions
        if lesion.prompt is not None and lesion.prompt.followup_box is not None
    }
    write_boxes(path, boxes_of_scan(boxes, scan, "voxel"))
