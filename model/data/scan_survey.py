"""What one look at the files of a scan tells: its grid, its lesions, intensities of its foreground, faults.

Each file is read once here, for the checks and for the fingerprint together. Answers are kept beside the
prepared data; a scan whose files are the same is not looked at again.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from ..case.case import Scan, Slot
from ..case.geometry import Array, Box, Geometry, Index, Vector
from ..case.images import read_image
from ..case.lesion_json import write_json
from ..case.scans import lesion_labels
from ..errors import InputError
from ..inference.locate import mask_labels, mask_point
from .dataset import RawScan
from .provenance import Stamp, stamp_of

# Drawn with replacement, the same number in every scan, so that each counts alike, as in nnU-Net; it draws
# 10^7 / scans of them, of which no number that the plan holds needs more than a part.
INTENSITIES_PER_SCAN = 10_000
_VERSION = 1


class SurveyedLesion(BaseModel):
    """A lesion of a labelmap; its box and centre are on the scan's axial grid (z, y, x).

    The centre is the centre of gravity, or the lesion voxel nearest to it where that lies outside.
    """

    lesion_id: int
    voxels: int
    start_zyx: Index
    stop_zyx: Index
    centre_zyx: Vector

    @property
    def box(self) -> Box:
        return Box(self.start_zyx, self.stop_zyx)


class Grid(BaseModel):
    """A file's geometry, as JSON holds it."""

    size_xyz: Index
    spacing_xyz: Vector
    origin_xyz: Vector
    direction: tuple[float, ...]

    def geometry(self) -> Geometry:
        return Geometry(self.size_xyz, self.spacing_xyz, self.origin_xyz, self.direction)


class Fault(BaseModel):
    """Why a scan cannot be used."""

    file: Path
    text: str


class ScanSurvey(BaseModel):
    """One scan. Without faults it has a grid; intensities are HU of voxels with a label above 0."""

    scan_id: str
    grid: Grid | None = None
    lesions: tuple[SurveyedLesion, ...] = ()
    intensities: tuple[float, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """Of the CT's file; only for scans without faults."""
        assert self.grid is not None
        return self.grid.geometry()

    @property
    def by_id(self) -> dict[int, SurveyedLesion]:
        return {lesion.lesion_id: lesion for lesion in self.lesions}


class _Kept(BaseModel):
    version: int
    stamp: Stamp
    survey: ScanSurvey


@dataclass(frozen=True, slots=True)
class SurveyJob:
    """``kept`` is the file that the answer is kept in."""

    scan: RawScan
    kept: Path
    seed: int


def survey_scan(job: SurveyJob) -> ScanSurvey:
    """Look at a scan, and keep what was seen."""
    survey = _look(job.scan, job.seed)
    kept = _Kept(version=_VERSION, stamp=_stamp(job), survey=survey)
    write_json(job.kept, kept.model_dump(mode="json"), decimals=None)
    return survey


def known_survey(job: SurveyJob) -> ScanSurvey | None:
    """What an earlier look at the same files told; None when there was none."""
    try:
        kept = _Kept.model_validate(json.loads(job.kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None
    return kept.survey if (kept.version, kept.stamp) == (_VERSION, _stamp(job)) else None


def _stamp(job: SurveyJob) -> Stamp:
    return stamp_of(job.scan.files, f"seed {job.seed}")


def _look(scan: RawScan, seed: int) -> ScanSurvey:
    faults: list[Fault] = []
    for path in filter(None, (scan.image, scan.labels)):
        if not path.is_file():
            faults.append(Fault(file=path, text="is missing; expected an image"))
    if scan.labels is None:
        faults.append(Fault(file=scan.image, text="has no labelmap; expected one of lesion ids"))
    if faults:
        return ScanSurvey(scan_id=scan.scan_id, faults=tuple(faults))
    try:
        loaded = load_scan(scan)
    except InputError as error:
        file, text = fault_of(scan, error)
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
    )


def fault_of(scan: RawScan, error: InputError) -> tuple[Path, str]:
    """The file that an error names, and the rest of its text."""
    for path in filter(None, (scan.labels, scan.image)):
        if str(error).startswith(f"{path}: "):
            return path, str(error).removeprefix(f"{path}: ")
    return scan.image, str(error)


def load_scan(scan: RawScan) -> Scan:
    """CT and labelmap in axial order, as inference reads them.

    Raises:
        InputError: a file cannot be read, both lie on different grids, or the labelmap is none.
    """
    image = read_image(scan.image)
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
            voxels=label.voxels,
            start_zyx=label.box.start_zyx,
            stop_zyx=label.box.stop_zyx,
            centre_zyx=mask_point(scan.mask, lesion_id, label, scan),
        )
        for lesion_id, label in mask_labels(scan.mask).items()
    )


def _intensities(scan: Scan, seed: int) -> npt.NDArray[np.float64]:
    """HU of random foreground voxels; the same for a seed and a scan's name, whatever comes before it."""
    assert scan.mask is not None
    places = np.flatnonzero(scan.mask)
    if not places.size:
        return np.zeros(0)
    random = np.random.default_rng([seed, zlib.crc32(scan.time_point.encode())])
    chosen = np.unravel_index(random.choice(places, INTENSITIES_PER_SCAN), scan.mask.shape)
    values = np.asarray(scan.ct[chosen], np.float64)
    return np.round(values[np.isfinite(values)], 3)
