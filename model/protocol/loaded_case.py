"""A case in memory: scan and reference, and clicks that the challenge's simulation draws from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..case.geometry import AxisMap
from ..case.images import read_image
from ..case.pet_ct_scan import PetCtScan, read_pet_ct
from ..case.tumor_clicks import TumorClick
from ..case.voxel_checks import lesion_labels
from ..click_simulation.challenge_clicks import ChallengeRules, challenge_clicks
from ..errors import InputError
from .protocol_cases import ProtocolCase

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """A PET/CT and its reference.

    Attributes:
        name: of the case.
        scan: CT, PET and given clicks on the axial grid.
        truth: all tumour, booleans (z, y, x) as the CT's file stores them.
    """

    name: str
    scan: PetCtScan
    truth: BoolArray

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel of the CT's file."""
        return self.scan.file_grid.geometry.voxel_volume_ml

    def in_file(self, mask: BoolArray) -> BoolArray:
        """Bring a mask to the grid of the CT's file.

        Args:
            mask: booleans (z, y, x) on the axial grid.

        Returns:
            Booleans (z, y, x) of the shape of ``truth``.
        """
        return self.scan.file_grid.file_labels(mask.astype(np.uint8)) > 0

    def on_axial(self, mask: BoolArray) -> BoolArray:
        """Bring a mask from the grid of the CT's file to the axial grid.

        Args:
            mask: booleans (z, y, x) of the shape of ``truth``.

        Returns:
            Booleans (z, y, x) of the shape of the scan.
        """
        return self.scan.file_grid.axial_labels(mask.astype(np.uint8)) > 0


def load_protocol_case(case: ProtocolCase) -> LoadedCase:
    """Read and check a case.

    Raises:
        InputError: a file cannot be used, or the reference lies on another grid than the CT.
    """
    scan = read_pet_ct(case.files)
    labels = read_image(case.labels)
    if not labels.geometry.same_grid(scan.file_grid.geometry):
        raise InputError(
            f"{case.labels}: lies on another grid than {case.files.ct.name}: {labels.geometry.describe()}; "
            f"expected {scan.file_grid.geometry.describe()}"
        )
    return LoadedCase(case.name, scan, lesion_labels(case.labels, labels.array) > 0)


def simulated_clicks(case: LoadedCase, rules: ChallengeRules, seed: int) -> tuple[TumorClick, ...]:
    """Draw the clicks of a case by the challenge's rules, in the order of axes of the CT's file.

    Args:
        case: scan and reference.
        rules: of the simulation.
        seed: of the case, as the published script sets it for every case anew.

    Returns:
        Clicks on the axial grid: voxel indices (z, y, x).

    Raises:
        LongilesionError: the published script would not end, or stop.
    """
    grid = case.scan.file_grid
    # A sheared file's voxels are no grid on which PET is known; the orthogonal scan takes its place.
    to_file = AxisMap() if grid.shear is not None else grid.axes.inverse()
    pet = to_file.array(case.scan.pet)
    lesions = to_file.array(case.on_axial(case.truth))
    drawn = challenge_clicks(lesions, pet, rules, np.random.RandomState(seed))
    back = to_file.inverse()
    return tuple(replace(click, point_zyx=back.point(click.point_zyx, pet.shape)) for click in drawn)
