"""A prepared study on disk: one scan of the prepared data set (`store`) with a PET and, optionally, organs.

`pet.b2nd` (float32, normalised) and `organs.b2nd` (uint8) lie beside `ct.b2nd` and `labels.b2nd`, in which 1
is tumour; `voxels.npz` has voxels of tumour, of equal weight. In `index.json` a study is its own follow-up,
without lesions, and `sources.json` lists its original files.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import blosc2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from ...case.geometry import Box
from ...case.lesion_json import write_json
from ...case.text_files import read_json
from ...errors import InputError
from ...network.resample import FloatVolume
from ..original_files import SOURCES_FILE
from ..store import PreparedScan, open_volume
from .studies import PetCtCohort, PetCtStudy

PET_FILE, ORGANS_FILE = "pet.b2nd", "organs.b2nd"
TUMOR_LABEL = 1
UNKNOWN_ORGAN = 255
"""Value of voxels without a known organ label."""


class PreparedStudy(PreparedScan):
    """One prepared study; its files are opened on first use, in each process anew."""

    def __reduce__(self) -> tuple[type[PreparedStudy], tuple[Path]]:
        return PreparedStudy, (self.folder,)

    def read_pet(self, box: Box) -> FloatVolume:
        """Read the normalised PET in a box.

        Args:
            box: voxels of the prepared grid (z, y, x), also outside of the scan.

        Returns:
            float32 (z, y, x) of the box's shape; 0, the mean SUV of tumour, outside of the scan.
        """
        return self._read(self._pet, box, np.float32)

    def read_organs(self, box: Box) -> npt.NDArray[np.uint8]:
        """Read the organs in a box.

        Args:
            box: voxels of the prepared grid (z, y, x), also outside of the scan.

        Returns:
            Labels, uint8 (z, y, x) of the box's shape; 0 outside of organs and of the scan, `UNKNOWN_ORGAN`
            everywhere if the study has no organ labels.
        """
        if not (self.folder / ORGANS_FILE).is_file():
            return np.full(box.shape_zyx, UNKNOWN_ORGAN, np.uint8)
        return self._read(self._organs, box, np.uint8)

    @property
    def tumor_voxels(self) -> npt.NDArray[np.int32]:
        """At most 10 000 random voxels (z, y, x) of tumour, int32 (N, 3)."""
        return self.voxels(TUMOR_LABEL).voxels_zyx

    @cached_property
    def _pet(self) -> blosc2.NDArray:
        return open_volume(self.folder / PET_FILE)

    @cached_property
    def _organs(self) -> blosc2.NDArray:
        return open_volume(self.folder / ORGANS_FILE)


class StudySourcesDocument(BaseModel):
    """Content of `sources.json`: the studies with absolute paths."""

    model_config = ConfigDict(frozen=True)

    studies: tuple[PetCtStudy, ...]


def write_study_sources(folder: Path, cohort: PetCtCohort) -> None:
    """Write the original files of the studies of a data set.

    Raises:
        OutputError: it cannot be written.
    """
    document = StudySourcesDocument(studies=tuple(study.with_absolute_paths() for study in cohort.studies))
    write_json(folder / SOURCES_FILE, document.model_dump(mode="json"), decimals=None)


def read_study_sources(folder: Path) -> tuple[PetCtStudy, ...]:
    """Read the original files of a prepared PET/CT data set; the files themselves are not opened.

    Raises:
        InputError: there is no list of them.
    """
    path = folder / SOURCES_FILE
    try:
        return StudySourcesDocument.model_validate(read_json(path, "the list of original files")).studies
    except ValueError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected the file that 'train prepare' writes"
        ) from error
