"""Small PET/CTs with references in nnU-Net's layout, and a segmentation without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.geometry import Geometry
from model.case.images import write_image
from model.case.tumor_clicks import TumorClick
from model.protocol.loaded_case import LoadedCase

GRID = Geometry((24, 20, 16), (2.0, 2.0, 3.0), (-24.0, 10.0, 5.0))


def write_protocol_case(folder: Path, name: str, lesions: int = 2, grid: Geometry = GRID) -> None:
    """Write CT, PET and reference of a case with lesions of SUV 6 and hot places of SUV 5."""
    rng = np.random.default_rng(sum(name.encode()))
    shape = grid.shape_zyx
    ct, pet = np.full(shape, 40, np.int16), rng.uniform(0, 1, shape).astype(np.float32)
    ct[0] = -1000
    truth = np.zeros(shape, np.uint8)
    for number in range(lesions):
        truth[4:7, 4:8, 3 + 8 * number : 7 + 8 * number] = 1
    pet[truth > 0] = 6
    pet[11:13, 12:14, 10:12] = 5
    for part, array in (("imagesTr", ct), ("imagesTr", pet), ("labelsTr", truth)):
        ending = {id(ct): "_0000", id(pet): "_0001"}.get(id(array), "")
        write_image(folder / part / f"{name}{ending}.nii.gz", array, grid)


@dataclass
class CubesAtClicks:
    """Segments a cube of 27 voxels around each tumour click; keeps the calls.

    ``broken`` is a case and the number of clicks at which it fails, ``broken_call`` the number of a call.
    """

    broken: tuple[str, int] | None = None
    broken_call: int | None = None
    calls: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, case: LoadedCase, clicks: tuple[TumorClick, ...]) -> npt.NDArray[np.bool_]:
        tumor = [click.point_zyx for click in clicks if click.kind == "tumor"]
        self.calls.append((case.name, len(tumor)))
        if self.broken == self.calls[-1] or self.broken_call == len(self.calls):
            raise RuntimeError("out of luck")
        mask = np.zeros(case.scan.ct.shape, bool)
        for point in tumor:
            z, y, x = (int(value) for value in point)
            mask[max(0, z - 1) : z + 2, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = True
        return mask
