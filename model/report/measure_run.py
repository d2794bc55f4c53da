"""Measure patients from their files to files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..case.folder_lock import locked_folder
from ..case.lesion_json import check_writable
from ..errors import ExitCode
from ..measure.measurement_names import JSON_NAME
from .findings import FORMAT, MeasuredPatient, Measurements
from .labelmap_sources import PatientSource
from .measurement_files import write_measurements
from .patient_measures import ResponseOptions, follow_patient
from .scan_measures import measure_time_point

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """What a run has measured.

    Attributes:
        failures: patient, time point and error of each time point that could not be measured.
        exit_code: of the first one, otherwise 0.
    """

    measurements: Measurements
    paths: tuple[Path, ...]
    failures: tuple[str, ...]
    exit_code: int

    @property
    def message(self) -> str | None:
        """One line that names all failures; None if there are none."""
        if not self.failures:
            return None
        return f"time points that could not be measured: {'; '.join(self.failures)}; all others are complete"


def measure_patients(
    sources: Sequence[PatientSource], output: Path, options: ResponseOptions | None = None
) -> MeasureResult:
    """Measure the lesions of patients and write their files; a time point's failure leaves the others whole.

    Args:
        sources: the patients' files.
        output: folder for the files.
        options: what the response is judged by; None for the defaults.

    Raises:
        OutputError: the folder cannot be written.
    """
    check_writable(output / JSON_NAME)
    patients: list[MeasuredPatient] = []
    failures: list[str] = []
    exit_code: int = ExitCode.SUCCESS
    with locked_folder(output):
        for source in sources:
            points = []
            for one in source.time_points:
                points.append(measured := measure_time_point(one))
                log.info("%s, %s: %s", source.patient, one.facts.name, _words(measured.failure))
                if measured.failure is not None:
                    failures.append(f"{source.patient} at {one.facts.name} ({measured.failure})")
                    exit_code = exit_code or measured.exit_code
            patients.append(follow_patient(source.patient, points, source.warnings, options))
            for warning in patients[-1].warnings:
                log.warning("%s: %s", source.patient, warning)
        measurements = Measurements(FORMAT, __version__, tuple(patients))
        paths = write_measurements(output, measurements)
    return MeasureResult(measurements, tuple(paths), tuple(failures), exit_code)


def _words(failure: str | None) -> str:
    return "measured" if failure is None else f"not measured: {failure}"
