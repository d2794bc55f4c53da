"""Write the results of a tracked series: labelmaps, the prompts that were used, and one record per patient.

::

    OUT/<patient>/<time point>/<slot>.mha                   labels are lesion ids, on the scan's grid
    OUT/<patient>/<time point>/<slot>-lesion-clicks.json    the points, in voxels of the scan
    OUT/<patient>/<time point>/<slot>-lesion-boxes.json     the boxes, if boxes were the prompts
    OUT/<patient>/tracking.json                             fate, confidence, volume, ... of each lesion

Measurements of the results are added beside the record (`report.measure_run`).

Files are written atomically, each time point as soon as it is done; `tracking.json` is extended each time.
Click and box files can be used as prompts of another run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..case.atomic_files import remove_partial_files, shortened_name
from ..case.boxes import boxes_from_scan_grid, write_boxes
from ..case.case import Scan, Slot
from ..case.clicks import write_clicks
from ..case.images import write_image
from ..case.lesion_json import write_json
from ..errors import InputError, OutputError
from ..measure.measurement_names import MEASUREMENT_NAMES
from ..propagation.pair_registrations import RegistrationRecord
from .series import PromptKind, Series, TrackedLesion, TrackedTimePoint
from .series_files import PatientFiles

RECORD_NAME = "tracking.json"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")  # on Windows


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to a unique file name of letters, digits, dots, dashes and underscores.

    Names that differ by case alone, or are reserved on Windows, get file names that hold there as well.
    """
    safe: dict[str, str] = {}
    taken: set[str] = {RECORD_NAME, *MEASUREMENT_NAMES}
    for name in names:
        stem = shortened_name(_UNSAFE.sub("_", name).strip("._") or "unnamed")
        if _RESERVED.fullmatch(stem):
            stem = f"_{stem}"
        candidate, number = stem, 2
        while candidate.lower() in taken:  # some file systems do not distinguish "A" and "a"
            candidate, number = f"{stem}_{number}", number + 1
        taken.add(candidate.lower())
        safe[name] = candidate
    return safe


def remove_outputs(folder: Path, files: PatientFiles) -> None:
    """Delete the outputs of an earlier run, so that a run that fails leaves no outdated files.

    Raises:
        InputError: a file of the series itself would be overwritten.
        OutputError: the folder cannot be used.
    """
    names = safe_names(point.name for point in files.time_points)
    outputs = [folder / name for name in (RECORD_NAME, *MEASUREMENT_NAMES)]
    for point in files.time_points:
        outputs += [
            path for scan in point.scans for path in _output_paths(folder / names[point.name], scan.slot)
        ]
    inputs = {path.resolve() for path in _input_files(files)}
    for path in outputs:
        if path.resolve() in inputs:
            raise InputError(f"{path}: belongs to the series; expected another folder for the results")
    remove_partial_files(*{path.parent: None for path in outputs})
    try:
        for path in outputs:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be used ({error.strerror}); expected a writable folder"
        ) from error


def _input_files(files: PatientFiles) -> Iterable[Path]:
    for point in files.time_points:
        yield from point.boxes.values()
        for scan in point.scans:
            yield from (path for path in (scan.ct, scan.mask, scan.clicks) if path is not None)


def _output_paths(folder: Path, slot: Slot) -> tuple[Path, Path, Path]:
    """The labelmap, click and box file of a scan."""
    return folder / f"{slot}.mha", folder / f"{slot}-lesion-clicks.json", folder / f"{slot}-lesion-boxes.json"


class SeriesWriter:
    """Writes the time points of a patient, in any order.

    Args:
        settings: recorded in ``tracking.json``.
        kind: boxes are written if they are the prompts, and for lesions with a given box.
    """

    def __init__(
        self, folder: Path, series: Series, settings: Mapping[str, Any], kind: PromptKind = PromptKind.POINT
    ) -> None:
        self._folder = folder
        self._series = series
        self._settings = dict(settings)
        self._kind = kind
        self._names = safe_names(point.name for point in series.time_points)
        self._written: dict[str, dict[str, Any]] = {}

    @property
    def record_path(self) -> Path:
        """Path of the patient's ``tracking.json``."""
        return self._folder / RECORD_NAME

    def add(self, tracked: TrackedTimePoint) -> None:
        """Write a time point's labelmaps and prompts, and update the record.

        Raises:
            OutputError: a file cannot be written, or reads back differently.
        """
        for scan in tracked.time_point.scans:
            image, clicks, boxes = self._paths(tracked.name, scan.slot)
            write_image(image, tracked.labelmaps[scan.slot], scan.file_geometry)
            lesions = [lesion for lesion in tracked.lesions if lesion.slot == scan.slot]
            _write_clicks(clicks, scan, lesions)
            boxed = [lesion for lesion in lesions if self._kind is PromptKind.BOX or lesion.has_given_box]
            if boxed:
                _write_boxes(boxes, scan, boxed)
        self._written[tracked.name] = self._time_point_entry(tracked)
        write_json(self.record_path, self._document())

    def check_complete(self) -> None:
        """Check that nothing has vanished since it was written.

        Raises:
            OutputError: a labelmap or the record is missing.
        """
        labelmaps = [
            self._paths(point.name, scan.slot)[0]
            for point in self._series.time_points
            if point.name in self._written
            for scan in point.scans
        ]
        for path in (*labelmaps, self.record_path):
            if not path.is_file():
                raise OutputError(
                    f"{path}: has vanished during the run; expected a folder that is left alone"
                )

    def _paths(self, name: str, slot: Slot) -> tuple[Path, Path, Path]:
        return _output_paths(self._folder / self._names[name], slot)

    def _document(self) -> dict[str, Any]:
        names = [point.name for point in self._series.time_points if point.name in self._written]
        return {
            "version": __version__,
            "patient": self._series.patient,
            "source": self._series.time_points[self._series.source].name,
            "is_whole": len(names) == len(self._series.time_points),
            "settings": self._settings,
            "time_points": [self._written[name] for name in names],
            "warnings": list(self._series.warnings),
        }

    def _time_point_entry(self, tracked: TrackedTimePoint) -> dict[str, Any]:
        point = tracked.time_point
        return {
            "name": point.name,
            "when": point.when,
            "scans": {str(scan.slot): self._scan_entry(point.name, scan) for scan in point.scans},
            "lesions": [_lesion_entry(lesion) for lesion in tracked.lesions],
            "registrations": [_registration_entry(record) for record in tracked.registrations],
            "plausibility": [note.document() for note in tracked.notes],
            "warnings": list(tracked.warnings),
            "seconds": tracked.seconds,
        }

    def _scan_entry(self, name: str, scan: Scan) -> dict[str, Any]:
        labelmap, clicks, boxes = self._paths(name, scan.slot)
        return {
            "ct": str(scan.path) if scan.path is not None else None,
            "labelmap": str(labelmap.relative_to(self._folder)),
            "clicks": str(clicks.relative_to(self._folder)),
            "boxes": str(boxes.relative_to(self._folder)) if boxes.exists() else None,
        }


def _registration_entry(record: RegistrationRecord) -> dict[str, Any]:
    return {
        "fixed": record.followup,
        "moving": record.baseline,
        "seconds": record.seconds,
        "similarity": record.similarity,
        "is_reliable": record.is_reliable,
        "warnings": list(record.warnings),
    }


def _lesion_entry(lesion: TrackedLesion) -> dict[str, Any]:
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
        "carried_from": lesion.propagated_from,
        "confidence_mm": lesion.confidence_mm,
        "is_flagged": lesion.is_flagged,
        "warnings": list(lesion.warnings),
        "seconds": lesion.seconds,
    }


def _write_clicks(path: Path, scan: Scan, lesions: list[TrackedLesion]) -> None:
    """Write the prompt points of the lesions of a scan, in voxels of the scan's file."""
    prompted = {lesion.lesion_id: lesion for lesion in lesions if lesion.prompt is not None}
    write_clicks(
        path,
        {
            lesion_id: scan.file_point_xyz(lesion.prompt.followup_point.point_zyx)
            for lesion_id, lesion in prompted.items()
            if lesion.prompt is not None
        },
        {
            lesion_id: {
                "source": str(lesion.origin),
                "confidence_mm": lesion.confidence_mm,
                "in_view": lesion.in_view,
                "is_flagged": lesion.is_flagged,
            }
            for lesion_id, lesion in prompted.items()
        },
    )


def _write_boxes(path: Path, scan: Scan, lesions: list[TrackedLesion]) -> None:
    boxes = {
        lesion.lesion_id: lesion.prompt.followup_box
        for lesion in lesions
        if lesion.prompt is not None and lesion.prompt.followup_box is not None
    }
    write_boxes(path, boxes_from_scan_grid(boxes, scan, "voxel"))
