"""PET/CT studies in memory, to train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.case.geometry import Box, Index
from model.data.pet_ct.prepared_study import UNKNOWN_ORGAN
from model.network.resample import FloatVolume
from model.training.data_source import Patients, ScanPair, patients_of

from .training_phantoms import MemoryScan, cut, scan


@dataclass(frozen=True, eq=False)
class MemoryStudy(MemoryScan):
    """A study held in memory; tumour is hot, and the left half is organ 1, the right half organ 2."""

    pet: FloatVolume
    has_organs: bool = True

    def read_pet(self, box: Box) -> FloatVolume:
        return cut(self.pet, box, 0)

    def read_organs(self, box: Box) -> npt.NDArray[np.uint8]:
        if not self.has_organs:
            return np.full(box.shape_zyx, UNKNOWN_ORGAN, np.uint8)
        organs = np.ones(self.shape_zyx, np.uint8)
        organs[:, :, organs.shape[2] // 2 :] = 2
        return cut(organs, box, 0)

    @property
    def tumor_voxels(self) -> npt.NDArray[np.int32]:
        return np.argwhere(self.labels > 0).astype(np.int32)


def study(
    name: str, shape: Index = (40, 44, 48), seed: int = 0, has_tumor: bool = True, has_organs: bool = True
) -> MemoryStudy:
    """A study with a large and a small tumour, and hot background in a corner."""
    balls = {1: ((14.0, 14.0, 14.0), 6.0), 2: ((28.0, 30.0, 36.0), 3.0)} if has_tumor else {}
    base = scan(name, balls, shape, seed)
    noise = np.random.default_rng(seed + 1000).normal(-0.8, 0.1, shape)
    pet = noise + 2.5 * (base.labels > 0)
    pet[-8:, :8, :8] += 3
    return MemoryStudy(name, base.ct, base.labels, pet.astype(np.float32), has_organs)


def studies(count: int = 3) -> Patients:
    """Patients with a study each."""
    made = [study(f"S{number}", seed=number) for number in range(count)]
    return patients_of([ScanPair(f"P{n}", one, one, ()) for n, one in enumerate(made)])


def patients_with(*made: MemoryStudy) -> Patients:
    """One patient for each study."""
    return patients_of([ScanPair(f"P{n}", one, one, ()) for n, one in enumerate(made)])
