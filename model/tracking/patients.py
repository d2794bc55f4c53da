"""Track all patients of a series, one after the other, from their files to files."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..case.folder_lock import locked_folder
from ..case.lesion_json import check_writable
from ..case.scans import ClickUnits
from ..errors import LongilesionError, one_line
from ..inference.robust import RobustSegmenter, SegmenterOptions, make_segmenter
from ..propagation.register import DEFAULT_BACKEND, Backend, backend
from .discovery import discover_series
from .fates import LesionFate
from .longiseg_series import FollowupPoints
from .series import TrackedTimePoint, TrackingOptions, read_series
from .series_files import PatientFiles
from .tracker import track_time_points
from .writer import RECORD_NAME, SeriesWriter, remove_outputs, safe_names

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackRunOptions:
    """Options of a run over the patients of a series.

    Attributes:
        series: manifest or folder, see `discover_series`.
        output: folder that gets a sub-folder per patient.
        source: name of the time point to start from; None chooses one, see `read_series`.
        units: units of the given clicks and boxes.
        followup_points: which points of follow-ups in tracking files and pair lists are prompts.
        backend: name of the registration back end.
    """

    series: Path
    output: Path
    source: str | None = None
    units: ClickUnits = "voxel"
    followup_points: FollowupPoints = "verified"
    backend: str = DEFAULT_BACKEND
    tracking: TrackingOptions = TrackingOptions()
    segmenter: SegmenterOptions = SegmenterOptions()

    def settings(self) -> dict[str, Any]:
        """The settings that are recorded in ``tracking.json``."""
        return {
            "backend": self.backend,
            "follow": asdict(self.tracking),
            "segmenter": self.segmenter.settings(),
            "clicks": self.units,
            "followup_points": self.followup_points,
        }


@dataclass(frozen=True, slots=True)
class TrackRunResult:
    """Failures of a run, and where its results are.

    Attributes:
        errors: patient -> error, of patients that failed.
        failed_lesions: patient, time point and ids of lesions that failed, in words.
        folders: of the patients that are complete.
    """

    errors: Mapping[str, Exception]
    failed_lesions: tuple[str, ...]
    folders: tuple[Path, ...] = ()

    @property
    def exit_code(self) -> int:
        """Exit code of the first patient that failed, otherwise 0."""
        codes = [getattr(error, "exit_code", LongilesionError.exit_code) for error in self.errors.values()]
        return codes[0] if codes else 0

    @property
    def message(self) -> str | None:
        """One line that names all failures, or None."""
        parts = []
        if self.failed_lesions:
            parts.append(f"lesions that could not be tracked: {'; '.join(self.failed_lesions)}")
        if self.errors:
            reasons = "; ".join(f"{patient} ({one_line(error)})" for patient, error in self.errors.items())
            parts.append(f"patients that failed: {reasons}")
        return f"{'. '.join(parts)}; all others are complete" if parts else None


def track_patients(options: TrackRunOptions) -> TrackRunResult:
    """Track all patients; one patient's failure does not affect the others.

    Raises:
        LongilesionError: the series, weights or options cannot be used, or the only patient failed.
    """
    patients = discover_series(options.series, options.followup_points)
    check_writable(options.output / RECORD_NAME)
    registration = backend(options.backend, options.segmenter.model.registration_device)
    segmenter = make_segmenter(options.segmenter)
    folders = safe_names(files.patient for files in patients)
    errors: dict[str, Exception] = {}
    failed_lesions: list[str] = []
    complete: list[Path] = []
    for number, files in enumerate(patients, 1):
        log.info("patient %s (%d of %d)", files.patient, number, len(patients))
        folder = options.output / folders[files.patient]
        try:
            with locked_folder(folder):
                failed_lesions += _track_patient(files, options, registration, segmenter, folder)
            complete.append(folder)
        except Exception as error:
            if len(patients) == 1:
                raise
            _log_failure(files.patient, error)
            errors[files.patient] = error
    return TrackRunResult(errors, tuple(failed_lesions), tuple(complete))


def _track_patient(
    files: PatientFiles,
    options: TrackRunOptions,
    registration: Backend,
    segmenter: RobustSegmenter,
    folder: Path,
) -> list[str]:
    """Track one patient; returns the lesions that failed, in words."""
    start = time.perf_counter()
    remove_outputs(folder, files)
    series = read_series(files, options.source, options.units)
    for warning in series.warnings:
        log.warning("%s", warning)
    settings = {**options.settings(), "model": segmenter.notes}
    writer = SeriesWriter(folder, series, settings, options.tracking.prompt)
    failed_lesions = []
    for tracked in track_time_points(series, segmenter, registration, options.tracking):
        writer.add(tracked)
        failed_lesions += _failed_lesions(files.patient, tracked)
    writer.check_complete()
    log.info("record: %s (%.0f s)", writer.record_path, time.perf_counter() - start)
    return failed_lesions


def _failed_lesions(patient: str, tracked: TrackedTimePoint) -> list[str]:
    ids = {
        lesion.lesion_id
        for lesion in tracked.lesions
        if lesion.fate is not None and lesion.fate.fate is LesionFate.FAILED
    }
    return [f"{patient} at {tracked.name}: {', '.join(map(str, sorted(ids)))}"] if ids else []


def _log_failure(patient: str, error: Exception) -> None:
    if isinstance(error, LongilesionError):
        log.error("patient %s failed: %s", patient, one_line(error))
    else:
        log.error("patient %s failed: unexpected error", patient, exc_info=error)
