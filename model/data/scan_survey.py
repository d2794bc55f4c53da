"""Survey of a scan: its grid, its lesions, HU of its foreground, and faults of its files.

Checks and fingerprint share one reading of each file. Surveys are cached beside the prepared data; a scan is
read again only if its files have changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from ..case.case import Scan, Slot
from ..case.geometry import Array, Box, Geometry, Index, Vector
from ..case.images import read_image
from ..case.labelmaps import label_regions, point_on_lesion
from ..case.plausibility import PlausibilityNote, check_extent, check_voxels
from ..case.shear import refuse_sheared
from ..case.voxel_checks import lesion_labels
from ..errors import InputError
from .dataset import RawScan, safe_name
from .provenance import Stamp, stamp_of
from .survey_cache import read_cached_survey, write_cached_survey
from .workers import run_jobs

# Drawn with replacement, the same number from every scan, so that all count alike, as in nnU-Net. It draws
# 10^7 / scans of them; this many are enough for all numbers of a plan.
INTENSITIES_PER_SCAN = 10_000
_VERSION = 1


class SurveyedLesion(BaseModel):
    """A lesion of a labelmap, on the scan's axial grid.

    Attributes:
        lesion_id: its label.
        voxels: number of its voxels.
        start_zyx: first voxel of its bounding box (z, y, x).
        stop_zyx: end of its bounding box, exclusive.
        centre_zyx: centre of gravity, or the lesion voxel nearest to it if it lies outside the lesion.
    """

    lesion_id: int
    voxels: int
    start_zyx: Index
    stop_zyx: Index
    centre_zyx: Vector

    @property
    def box(self) -> Box:
        """The bounding box in voxels of the axial grid (z, y, x)."""
        return Box(self.start_zyx, self.stop_zyx)


class Grid(BaseModel):
    """A file's geometry as JSON stores it."""

    size_xyz: Index
    spacing_xyz: Vector
    origin_xyz: Vector
    direction: tuple[float, ...]

    def geometry(self) -> Geometry:
        """The geometry, as images have it."""
        return Geometry(self.size_xyz, self.spacing_xyz, self.origin_xyz, self.direction)


class Fault(BaseModel):
    """The reason why a scan cannot be used."""

    file: Path
    text: str


class ScanSurvey(BaseModel):
    """The survey of one scan.

    Attributes:
        scan_id: its name in the data set.
        grid: the CT file's geometry; None if there are faults.
        lesions: the lesions of its labelmap.
        intensities: HU of random voxels with a label above 0.
        faults: reasons why it cannot be used.
        doubts: what is implausible about its voxels and its grid, in sentences.
    """

    scan_id: str
    grid: Grid | None = None
    lesions: tuple[SurveyedLesion, ...] = ()
    intensities: tuple[float, ...] = ()
    faults: tuple[Fault, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """The CT file's geometry; only for scans without faults."""
        assert self.grid is not None
        return self.grid.geometry()

    @property
    def by_id(self) -> dict[int, SurveyedLesion]:
        """The lesions by their ids."""
        return {lesion.lesion_id: lesion for lesion in self.lesions}


@dataclass(frozen=True, slots=True)
class SurveyJob:
    """A scan to survey, the file that caches its survey, and the seed of its HU samples."""

    scan: RawScan
    cache_file: Path
    seed: int


def survey_scans(scans: Sequence[RawScan], folder: Path, seed: int, workers: int) -> dict[str, ScanSurvey]:
    """Survey scans side by side, except those with an up-to-date survey in the folder.

    Returns:
        The surveys by scan id.
    """
    jobs = [SurveyJob(scan, folder / f"{safe_name(scan.scan_id)}.json", seed) for scan in scans]
    cached = {job.scan.scan_id: cached_survey(job) for job in jobs}
    surveys = {name: survey for name, survey in cached.items() if survey is not None}
    missing = [job for job in jobs if job.scan.scan_id not in surveys]
    for job, survey in run_jobs(survey_scan, missing, workers, "checking"):
        surveys[job.scan.scan_id] = survey
    return surveys


def survey_scan(job: SurveyJob) -> ScanSurvey:
    """Read the files of a scan, and cache the survey."""
    stamp = _stamp(job)  # before reading: files that change meanwhile are read again next time
    survey = _survey(job.scan, job.seed)
    write_cached_survey(job.cache_file, survey, _VERSION, stamp)
    return survey


def cached_survey(job: SurveyJob) -> ScanSurvey | None:
    """Read the cached survey; None if it is missing or its files have changed."""
    return read_cached_survey(job.cache_file, ScanSurvey, _VERSION, _stamp(job))


def _stamp(job: SurveyJob) -> Stamp:
    return stamp_of(job.scan.files, f"seed {job.seed}")


def _survey(scan: RawScan, seed: int) -> ScanSurvey:
    faults = [
        Fault(file=path, text="is missing; expected an image") for path in scan.files if not path.is_file()
    ]
    if scan.labels is None:
        faults.append(Fault(file=scan.image, text="has no labelmap; expected one of lesion ids"))
    if faults:
        return ScanSurvey(scan_id=scan.scan_id, faults=tuple(faults))
    try:
        loaded = load_scan(scan)
    except InputError as error:
        file, text = _fault_of(scan, error)
        return ScanSurvey(scan_id=scan.scan_id, faults=(Fault(file=file, text=text),))
    geometry = loaded.file_geometry
    return ScanSurvey(
        scan_id=scan.scan_id,
        grid=Grid(
            size_xyz=geometry.size_xyz,
            spacing_xyz=geometry.spacing_xyz,
            origin_xyz=geometry.origin_xyz,
            direction=geometry.direction,
        ),
        lesions=_lesions(loaded),
        intensities=tuple(_intensities(loaded, seed).tolist()),
        doubts=tuple(f"{note.seen}; expected {note.expected}" for note in _doubts(loaded)),
    )


def _doubts(scan: Scan) -> tuple[PlausibilityNote, ...]:
    return (*check_voxels(scan.name, scan.ct, scan.geometry), *check_extent(scan.name, scan.geometry))


def _fault_of(scan: RawScan, error: InputError) -> tuple[Path, str]:
    """The file that an error names, and the rest of its message."""
    for path in filter(None, (scan.labels, scan.image)):
        if str(error).startswith(f"{path}: "):
            return path, str(error).removeprefix(f"{path}: ")
    return scan.image, str(error)


def load_scan(scan: RawScan) -> Scan:
    """Read CT and labelmap into axial order, as inference does.

    Raises:
        InputError: a file cannot be read, the grids differ, the axes are sheared, or the labelmap holds other
            values than ids.
    """
    image = read_image(scan.image)
    refuse_sheared(scan.image, image.geometry)
    axes = image.geometry.axial_map()
    labels: Array | None = None
    if scan.labels is not None:
        mask = read_image(scan.labels)
        if not mask.geometry.same_grid(image.geometry):
            raise InputError(
                f"{scan.labels}: lies on another grid than its CT {scan.image.name}: "
                f"{mask.geometry.describe()}; expected {image.geometry.describe()}"
            )
        labels = axes.array(lesion_labels(scan.labels, mask.array))
    return Scan(
        time_point=scan.scan_id,
        slot=Slot.PRIMARY,
        path=scan.image,
        file_geometry=image.geometry,
        axes=axes,
        ct=axes.array(image.array),
        mask=labels,
    )


def _lesions(scan: Scan) -> tuple[SurveyedLesion, ...]:
    assert scan.mask is not None
    return tuple(
        SurveyedLesion(
            lesion_id=lesion_id,
            voxels=region.voxels,
            start_zyx=region.box.start_zyx,
            stop_zyx=region.box.stop_zyx,
            centre_zyx=point_on_lesion(scan.mask, lesion_id, region, scan.geometry.spacing_zyx),
        )
        for lesion_id, region in label_regions(scan.mask).items()
    )


def _intensities(scan: Scan, seed: int) -> npt.NDArray[np.float64]:
    """HU of random foreground voxels; they depend on the seed and the scan's name alone."""
    assert scan.mask is not None
    foreground = np.flatnonzero(scan.mask)
    if not foreground.size:
        return np.zeros(0)
    random = np.random.default_rng([seed, zlib.crc32(scan.time_point.encode())])
    chosen = np.unravel_index(random.choice(foreground, INTENSITIES_PER_SCAN), scan.mask.shape)
    values = np.asarray(scan.ct[chosen], np.float64)
    return np.round(values[np.isfinite(values)], 3)
