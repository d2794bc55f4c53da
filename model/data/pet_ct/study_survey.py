"""Survey of a study: its grid, CT and PET of its tumour, and faults of its files.

Checks and plan share one reading of each file. Surveys are cached beside the prepared data; a study is read
again only if its files have changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from ...case.geometry import Array, Box, Index, Vector
from ...case.labelmaps import bounding_box
from ...errors import InputError
from ..dataset import Problem, safe_name
from ..provenance import Stamp, stamp_of
from ..scan_survey import INTENSITIES_PER_SCAN, Fault
from ..survey_cache import read_cached_survey, write_cached_survey
from ..workers import run_jobs
from .loaded_study import LoadedStudy, load_study
from .studies import PetCtStudy

_VERSION = 1


class StudySurvey(BaseModel):
    """The survey of one study.

    Attributes:
        scan_id: its name in the data set.
        spacing_zyx: mm of its axial grid; None if there are faults.
        shape_zyx: voxels of the part that preparing keeps.
        tumor_voxels: number of voxels of tumour.
        hu: HU of random voxels of tumour.
        suv: SUV of the same voxels.
        organs: highest label of its organs; 0 without any.
        fault: the reason why it cannot be used.
        notes: warnings from reading.
    """

    scan_id: str
    spacing_zyx: Vector | None = None
    shape_zyx: Index = (0, 0, 0)
    tumor_voxels: int = 0
    hu: tuple[float, ...] = ()
    suv: tuple[float, ...] = ()
    organs: int = 0
    fault: Fault | None = None
    notes: tuple[str, ...] = ()

    def problems(self, study: PetCtStudy) -> list[Problem]:
        """The problems of the study, the fault first."""
        found = []
        if self.fault is not None:
            found.append(Problem(self.fault.file, self.fault.text, "the study is left out"))
        return [*found, *(_note(study, text) for text in self.notes)]


def _note(study: PetCtStudy, text: str) -> Problem:
    """A warning from reading, which begins with the name of the file that it is about."""
    for path in (study.ct, study.pet):
        if text.startswith(f"{path.name}: "):
            return Problem(path, text.removeprefix(f"{path.name}: "), "the study is used", is_note=True)
    return Problem(study.ct, text, "the study is used", is_note=True)


@dataclass(frozen=True, slots=True)
class StudySurveyJob:
    """A study to survey, the file that caches its survey, and the seed of its samples."""

    study: PetCtStudy
    cache_file: Path
    seed: int


def survey_studies(
    studies: Sequence[PetCtStudy], folder: Path, seed: int, workers: int
) -> dict[str, StudySurvey]:
    """Survey studies side by side, except those with an up-to-date survey in the folder.

    Returns:
        The surveys by scan id.
    """
    jobs = [StudySurveyJob(study, folder / f"{safe_name(study.scan_id)}.json", seed) for study in studies]
    cached = {job.study.scan_id: cached_study_survey(job) for job in jobs}
    surveys = {name: survey for name, survey in cached.items() if survey is not None}
    missing = [job for job in jobs if job.study.scan_id not in surveys]
    for job, survey in run_jobs(survey_study, missing, workers, "checking"):
        surveys[job.study.scan_id] = survey
    return surveys


def survey_study(job: StudySurveyJob) -> StudySurvey:
    """Read the files of a study, and cache the survey."""
    stamp = _stamp(job)  # before reading: files that change meanwhile are read again next time
    survey = _survey(job.study, job.seed)
    write_cached_survey(job.cache_file, survey, _VERSION, stamp)
    return survey


def cached_study_survey(job: StudySurveyJob) -> StudySurvey | None:
    """Read the cached survey; None if it is missing or its files have changed."""
    return read_cached_survey(job.cache_file, StudySurvey, _VERSION, _stamp(job))


def _stamp(job: StudySurveyJob) -> Stamp:
    return stamp_of(job.study.files, f"PET/CT, seed {job.seed}")


def _survey(study: PetCtStudy, seed: int) -> StudySurvey:
    try:
        loaded = load_study(study)
    except InputError as error:
        return StudySurvey(scan_id=study.scan_id, fault=_fault(study, error))
    scan = loaded.scan
    kept = bounding_box((scan.ct != 0) | (scan.pet != 0)) or Box.of_shape(scan.ct.shape)
    hu, suv = _intensities(study.scan_id, loaded, seed)
    return StudySurvey(
        scan_id=study.scan_id,
        spacing_zyx=scan.geometry.spacing_zyx,
        shape_zyx=kept.shape_zyx,
        tumor_voxels=int(loaded.tumor.sum()),
        hu=tuple(hu.tolist()),
        suv=tuple(suv.tolist()),
        organs=int(loaded.organs.max()) if loaded.organs is not None else 0,
        notes=scan.warnings,
    )


def _fault(study: PetCtStudy, error: InputError) -> Fault:
    """The file that an error names, and the rest of its message."""
    for path in study.files:
        if str(error).startswith(f"{path}: "):
            return Fault(file=path, text=str(error).removeprefix(f"{path}: "))
    return Fault(file=study.ct, text=str(error))


def _intensities(
    scan_id: str, loaded: LoadedStudy, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """HU and SUV of random voxels of tumour; they depend on the seed and the study's name alone."""
    foreground = np.flatnonzero(loaded.tumor)
    if not foreground.size:
        return np.zeros(0), np.zeros(0)
    random = np.random.default_rng([seed, zlib.crc32(scan_id.encode())])
    chosen = np.unravel_index(random.choice(foreground, INTENSITIES_PER_SCAN), loaded.tumor.shape)
    return _finite(loaded.scan.ct[chosen]), _finite(loaded.scan.pet[chosen])


def _finite(values: Array) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    rounded: npt.NDArray[np.float64] = np.round(numbers[np.isfinite(numbers)], 4)
    return rounded
