"""The golden PET/CT cases: their files, what is expected of them, and their arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.case.geometry import Geometry
from model.case.images import find_image, read_image
from model.case.tumor_clicks import TumorClick, read_tumor_clicks
from model.network.pet_ct import PetCtGrid, network_images, pet_ct_grid
from model.network.plan import PetCtPlan, read_pet_ct_plan
from test.helpers.paths import TEST

PET_CT = TEST / "golden" / "petct"
PET_CT_MODEL = PET_CT / "model"
PET_CT_CASES = sorted(path.name for path in (PET_CT / "cases").iterdir())


def pet_ct_plan() -> PetCtPlan:
    """The plan of the golden PET/CT model."""
    return read_pet_ct_plan(PET_CT_MODEL / "plans.json")


@dataclass(frozen=True)
class GoldenPetCt:
    """One golden PET/CT case, read on demand."""

    name: str

    @property
    def input(self) -> Path:
        return PET_CT / "cases" / self.name / "input"

    @property
    def expected(self) -> Path:
        return PET_CT / "expected" / self.name

    @property
    def clicks_file(self) -> Path:
        return self.input / "lesion-clicks.json"

    @cached_property
    def steps(self) -> Any:
        return json.loads((self.expected / "steps.json").read_text())

    def file(self, kind: str) -> Path:
        """The image of a kind, ct or pet."""
        return find_image(self.input / "images" / kind)

    @cached_property
    def ct(self) -> npt.NDArray[Any]:
        return read_image(self.file("ct")).array

    @cached_property
    def pet(self) -> npt.NDArray[Any]:
        return read_image(self.file("pet")).array

    @cached_property
    def truth(self) -> npt.NDArray[np.bool_]:
        """All lesions of the phantom, (z, y, x) as the CT."""
        return read_image(find_image(PET_CT / "cases" / self.name / "truth")).array > 0

    @cached_property
    def geometry(self) -> Geometry:
        return read_image(self.file("ct")).geometry

    @cached_property
    def clicks(self) -> tuple[TumorClick, ...]:
        return read_tumor_clicks(self.clicks_file)

    @cached_property
    def grid(self) -> PetCtGrid:
        return pet_ct_grid(self.ct, self.pet, self.geometry.spacing_zyx, pet_ct_plan())

    @cached_property
    def images(self) -> npt.NDArray[np.float32]:
        return network_images(self.ct, self.pet, self.grid, pet_ct_plan())

    def stored(self, file: str, name: str) -> npt.NDArray[Any] | None:
        """An expected array; None if the case has none."""
        path = self.expected / "arrays" / file
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return arrays[name] if name in arrays.files else None
