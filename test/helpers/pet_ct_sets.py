"""Small PET/CT data sets: bodies with hot tumour, CT and PET in both layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.geometry import Geometry
from model.case.images import write_image

SHAPE = (20, 28, 28)
GRID = Geometry((28, 28, 20), (2.0, 2.0, 3.0), (-30.0, 12.0, -500.0))
_PET_GRID = Geometry((14, 14, 20), (4.0, 4.0, 3.0), (-29.0, 13.0, -500.0))


def pet_ct_phantom(seed: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """CT (HU), PET (SUV) and tumour (z, y, x) of a body with two tumours and a hot bladder."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    body = np.hypot(y - 14, x - 14) < 12
    ct = np.where(body, 30, -1000) + rng.normal(0, 10, SHAPE)
    pet = np.where(body, 0.8, 0.05) + np.abs(rng.normal(0, 0.1, SHAPE))
    tumor = np.zeros(SHAPE, np.uint8)
    for centre, radius in (((6 + seed % 3, 10, 9), 4.0), ((14, 17, 18), 3.0)):
        inside = (1.5 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
        tumor[inside], ct[inside], pet[inside] = 1, ct[inside] + 25, 6 + rng.normal(0, 0.5, int(inside.sum()))
    bladder = (1.5 * (z - 17)) ** 2 + (y - 9) ** 2 + (x - 14) ** 2 < 9
    pet[bladder] = 9 + rng.normal(0, 0.3, int(bladder.sum()))
    return ct.astype(np.int16), pet.astype(np.float32), tumor


def organ_labels(tumor: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two organs: the left and the right half of the body."""
    _, y, x = np.indices(tumor.shape)
    return np.where(np.hypot(y - 14, x - 14) < 12, 1 + (x > 14), 0).astype(np.uint8)


def write_pet_ct_folder(folder: Path, cases: tuple[str, ...], with_organs: bool = False) -> Path:
    """nnU-Net's layout with two channels; every second PET lies on a coarser grid of its own."""
    described = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "tumor": 1}}
    for number, case in enumerate(cases):
        ct, pet, tumor = pet_ct_phantom(number)
        write_image(folder / "imagesTr" / f"{case}_0000.nii.gz", ct, GRID, verify=False)
        coarse = np.mean([pet[:, y::2, x::2] for y in (0, 1) for x in (0, 1)], axis=0)
        pet_file = folder / "imagesTr" / f"{case}_0001.nii.gz"
        if number % 2:
            write_image(pet_file, coarse.astype(np.float32), _PET_GRID, verify=False)
        else:
            write_image(pet_file, pet, GRID, verify=False)
        write_image(folder / "labelsTr" / f"{case}.nii.gz", tumor, GRID, verify=False)
        if with_organs:
            write_image(folder / "organsTr" / f"{case}.nii.gz", organ_labels(tumor), GRID, verify=False)
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder
