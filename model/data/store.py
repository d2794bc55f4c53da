"""The prepared data set on disk.

::

    plans.json, dataset.json   the network's plan, as inference reads it
    fingerprint.json           input of the planner
    checks.json                problems of the data set and their consequences
    splits_final.json          the patients of each fold
    folds.json                 seed and number of the folds, patients in no fold
    index.json                 pairs of scans, and their lesions with points on the prepared grids
    sources.json               original files, and the lesions with points on their grids: `original_files`
    scans/<scan>/              ct.b2nd (float32, normalised), labels.b2nd (uint16, lesion ids),
                               voxels.npz (voxels to draw points from), scan.json (written last)
    survey/                    surveys of the scans' files: `scan_survey`

Volumes lie on the network grid (z, y, x), points are voxel indices of it. Nothing here is a pickle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from ..case.geometry import Box, Index, Vector
from ..case.text_files import read_json
from ..errors import InputError
from ..network.resample import FloatVolume
from .dataset import safe_name
from .point_tables import NO_VOXELS, LesionVoxels, read_voxels
from .provenance import Stamp, digest

CT_FILE, LABELS_FILE, VOXELS_FILE, SCAN_FILE = "ct.b2nd", "labels.b2nd", "voxels.npz", "scan.json"
INDEX_FILE = "index.json"
SCANS_FOLDER = "scans"


class LesionDocument(BaseModel):
    """A lesion of a prepared scan, with its bounding box (z, y, x), empty if resampling lost all of it."""

    model_config = ConfigDict(frozen=True)

    lesion_id: int
    voxels: int
    start_zyx: Index
    stop_zyx: Index


class ScanDocument(BaseModel):
    """Content of `scan.json`.

    Attributes:
        stamp: original files and settings that it was prepared from.
        scan_id: the scan.
        patient_id: its patient.
        shape_zyx: shape of the prepared volumes.
        spacing_zyx: their spacing in mm.
        source_shape: shape before resampling, axes as prepared (z, y, x).
        source_spacing_mm: spacing before resampling, axes as prepared (z, y, x).
        axis_order: permutation from the scan's axial array to the prepared one.
        axis_flipped: prepared axes that run against those of the axial array.
        lesions: the lesions of its labelmap.
        digest: the `voxel_digest`; None if written by an earlier version.
    """

    model_config = ConfigDict(frozen=True)

    stamp: Stamp
    scan_id: str
    patient_id: str
    shape_zyx: Index
    spacing_zyx: Vector
    source_shape: Index
    source_spacing_mm: Vector
    axis_order: Index
    axis_flipped: tuple[bool, bool, bool]
    lesions: tuple[LesionDocument, ...]
    digest: str | None = None

    @property
    def image(self) -> Path | None:
        """The CT file that the scan was prepared from; None if the stamp names no file."""
        path = self.stamp.files[0].path if self.stamp.files else None
        return None if path is None else Path(path)


@dataclass(frozen=True)
class PreparedLesion:
    """A lesion of a baseline and its counterpart in a follow-up, on the prepared grids.

    Points are voxel indices (z, y, x), fractions allowed, None if unknown; `train prepare` always gives the
    baseline point, and the true or the propagated follow-up point.

    Attributes:
        lesion_id: id in the baseline's labelmap.
        followup_ids: ids of its voxels in the follow-up's labelmap; () if it has vanished.
        baseline_point_zyx: its point in the baseline.
        followup_point_zyx: its true point in the follow-up.
        propagated_point_zyx: its baseline point as a registration propagated it to the follow-up.
        has_baseline_mask: whether the prepared baseline shows voxels of it.
    """

    lesion_id: int
    followup_ids: tuple[int, ...]
    baseline_point_zyx: Vector | None
    followup_point_zyx: Vector | None = None
    propagated_point_zyx: Vector | None = None
    has_baseline_mask: bool = True

    @property
    def is_absent(self) -> bool:
        """True if it has vanished from the follow-up."""
        return not self.followup_ids


class PairDocument(BaseModel):
    """A pair of scans in `index.json`."""

    model_config = ConfigDict(frozen=True)

    patient_id: str
    baseline: str
    followup: str
    lesions: tuple[PreparedLesion, ...]


class IndexDocument(BaseModel):
    """Content of `index.json`; ``preparation`` is the plan's part that scans depend on (`preparation_of`)."""

    model_config = ConfigDict(frozen=True)

    name: str
    preparation: str
    excluded: tuple[str, ...]
    pairs: tuple[PairDocument, ...]


class PreparedScan:
    """One prepared scan; its files are opened on first use, in each process anew."""

    def __init__(self, folder: Path) -> None:
        document = read_scan_document(folder)
        if document is None:
            raise InputError(f"{folder}: holds no prepared scan; expected {SCAN_FILE} in it")
        self.folder = folder
        self.document = document
        self.scan_id: str = document.scan_id
        self.patient_id: str = document.patient_id
        self.shape_zyx: Index = document.shape_zyx
        self.spacing_zyx: Vector = document.spacing_zyx

    def __reduce__(self) -> tuple[type[PreparedScan], tuple[Path]]:
        return PreparedScan, (self.folder,)

    @property
    def digest(self) -> str:
        """The `voxel_digest`: it depends on the voxels, not on when and where they were prepared."""
        if self.document.digest is not None:
            return self.document.digest
        return _cached_digest(self.folder, (self.folder / SCAN_FILE).stat().st_mtime_ns)

    def read_ct(self, box: Box) -> FloatVolume:
        """Read the normalised CT in a box.

        Args:
            box: voxels of the prepared grid (z, y, x), also outside of the scan.

        Returns:
            float32 (z, y, x) of the box's shape; 0, the mean HU, outside of the scan.
        """
        return self._read(self._ct, box, np.float32)

    def read_labels(self, box: Box) -> npt.NDArray[np.uint16]:
        """Read the labelmap in a box.

        Args:
            box: voxels of the prepared grid (z, y, x), also outside of the scan.

        Returns:
            Lesion ids, uint16 (z, y, x) of the box's shape; 0 is background, also outside of the scan.
        """
        return self._read(self._labels, box, np.uint16)

    def voxels(self, lesion_id: int) -> LesionVoxels:
        """Voxels of a lesion to draw points from; an empty table for an id that the scan does not have."""
        return self._tables.get(lesion_id, NO_VOXELS)

    def lesion(self, lesion_id: int) -> LesionDocument | None:
        """A lesion of the scan; None for an id that its labelmap does not have."""
        return next((entry for entry in self.document.lesions if entry.lesion_id == lesion_id), None)

    def _read(self, array: blosc2.NDArray, box: Box, kind: type[Any]) -> npt.NDArray[Any]:
        values = np.zeros(box.shape_zyx, kind)
        inside = box.intersection(Box.of_shape(self.shape_zyx))
        if not inside.is_empty:
            values[inside.relative_to(box).slices] = array[inside.slices]
        return values

    @cached_property
    def _ct(self) -> blosc2.NDArray:
        return open_volume(self.folder / CT_FILE)

    @cached_property
    def _labels(self) -> blosc2.NDArray:
        return open_volume(self.folder / LABELS_FILE)

    @cached_property
    def _tables(self) -> dict[int, LesionVoxels]:
        return read_voxels(self.folder / VOXELS_FILE)


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A baseline and a follow-up of one patient, and the lesions that link them."""

    patient_id: str
    baseline: PreparedScan
    followup: PreparedScan
    lesions: tuple[PreparedLesion, ...]


@dataclass(frozen=True, eq=False)
class PreparedCohort:
    """A prepared data set.

    Attributes:
        folder: its folder.
        name: of the data set.
        preparation: the plan's part that the scans depend on (`preparation_of`).
        excluded: patients left out of everything.
        pairs: its pairs of scans.
    """

    folder: Path
    name: str
    preparation: str
    excluded: tuple[str, ...]
    pairs: tuple[PreparedPair, ...]


def scan_folder(folder: Path, scan_id: str) -> Path:
    """The folder of a scan in a prepared data set."""
    return folder / SCANS_FOLDER / safe_name(scan_id)


def read_scan_document(folder: Path) -> ScanDocument | None:
    """Read `scan.json` of a prepared scan; None if it is missing or invalid."""
    try:
        return ScanDocument.model_validate(read_json(folder / SCAN_FILE, "a prepared scan"))
    except (InputError, ValidationError):
        return None


def read_prepared(folder: Path, scan_type: type[PreparedScan] = PreparedScan) -> PreparedCohort:
    """Open a prepared data set; volumes are read later.

    Args:
        folder: of the data set.
        scan_type: class of its scans.

    Raises:
        InputError: the folder is no prepared data set, or scans are missing.
    """
    path = folder / INDEX_FILE
    try:
        index = IndexDocument.model_validate(read_json(path, "a data set made by 'train prepare'"))
    except ValueError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a data set made by 'train prepare'"
        ) from error
    names = {name for pair in index.pairs for name in (pair.baseline, pair.followup)}
    scans = {name: scan_type(scan_folder(folder, name)) for name in sorted(names)}
    pairs = tuple(
        PreparedPair(pair.patient_id, scans[pair.baseline], scans[pair.followup], pair.lesions)
        for pair in index.pairs
    )
    return PreparedCohort(folder, index.name, index.preparation, index.excluded, pairs)


def voxel_digest(folder: Path, names: Sequence[str] = (CT_FILE, LABELS_FILE)) -> str:
    """SHA-256 of a prepared scan's voxels, whatever their compression.

    Args:
        folder: of the scan.
        names: of its volumes.

    Raises:
        InputError: a volume cannot be read.
    """
    return digest(_voxel_values(folder, names))


def _voxel_values(folder: Path, names: Sequence[str]) -> Iterator[object]:
    for name in names:
        array = open_volume(folder / name)
        yield (name, array.shape, str(array.dtype))
        for start in range(0, array.shape[0], array.chunks[0]):
            yield array[start : start + array.chunks[0]].tobytes()


@lru_cache(maxsize=4096)
def _cached_digest(folder: Path, mtime_ns: int) -> str:
    """Digest of a scan without one in its `scan.json`, computed once per process until it changes."""
    return voxel_digest(folder)


def open_volume(path: Path) -> blosc2.NDArray:
    """Open a volume of a prepared scan; its voxels are read later.

    Returns:
        The volume (z, y, x) of the prepared grid, read box by box.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return blosc2.open(urlpath=str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a volume of a prepared scan") from error
