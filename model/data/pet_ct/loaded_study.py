"""The files of a study in memory, read and checked as at inference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...case.geometry import Array
from ...case.images import read_image
from ...case.pet_ct_scan import PetCtFiles, PetCtScan, read_pet_ct
from ...case.shear import refuse_sheared
from ...case.voxel_checks import lesion_labels
from ...errors import InputError
from .studies import PetCtStudy

MOST_ORGANS = 100


@dataclass(frozen=True, eq=False)
class LoadedStudy:
    """A study on one axial grid.

    Attributes:
        scan: CT and PET.
        tumor: booleans (z, y, x).
        organs: labels (z, y, x), uint8, 0 outside of organs; None if the study has none.
    """

    scan: PetCtScan
    tumor: npt.NDArray[np.bool_]
    organs: npt.NDArray[np.uint8] | None


def load_study(study: PetCtStudy) -> LoadedStudy:
    """Read CT, PET and labelmaps of a study.

    Raises:
        InputError: a file cannot be read or used, its axes are sheared, or a labelmap lies on another grid
            than the CT or holds other values than labels.
    """
    scan = read_pet_ct(PetCtFiles(study.ct, study.pet))
    refuse_sheared(study.ct, scan.file_grid.geometry)
    if study.labels is None:
        raise InputError(f"{study.ct}: has no labelmap; expected one of all tumour")
    tumor = _axial_labels(study.labels, study.ct, scan) > 0
    if study.organs is None:
        return LoadedStudy(scan, tumor, None)
    organs = _axial_labels(study.organs, study.ct, scan)
    highest = int(organs.max())
    if highest > MOST_ORGANS:
        raise InputError(f"{study.organs}: holds organ {highest}; expected labels from 1 to {MOST_ORGANS}")
    return LoadedStudy(scan, tumor, organs.astype(np.uint8))


def _axial_labels(path: Path, ct: Path, scan: PetCtScan) -> Array:
    image = read_image(path)
    grid = scan.file_grid
    if not image.geometry.same_grid(grid.geometry):
        raise InputError(
            f"{path}: lies on another grid than its CT {ct.name}: {image.geometry.describe()}; expected "
            f"{grid.geometry.describe()}"
        )
    return grid.axial_labels(lesion_labels(path, image.array))
