"""Reading a PET/CT: both images on one axial grid, checked, and its clicks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..errors import InputError
from .file_grid import FileGrid
from .geometry import Array, Geometry, flip_order
from .images import Image, find_image, read_image, to_sitk, write_image
from .input_files import path_exists
from .plausibility import check_extent, check_voxels
from .scans import ClickUnits
from .shear import shear_warning
from .suv_checks import InjectedDose, check_not_exchanged, check_suv, converted_activity
from .task_choice import CLICKS_FILE, CT_FOLDER, PET_FOLDER
from .tumor_clicks import TumorClick, read_tumor_clicks
from .voxel_checks import hu_warnings

# Voxels of the CT that lie in the PET's field of view; a smaller share gives a warning.
_WHOLE_SHARE = 0.995


@dataclass(frozen=True, slots=True)
class PetCtFiles:
    """Files of one PET/CT; ``clicks`` is None if there is no click file."""

    ct: Path
    pet: Path
    clicks: Path | None = None


def find_pet_ct(input_dir: Path) -> PetCtFiles:
    """Find the files of a PET/CT in the platform's input folder (interface of autoPET/CT IV, Task 1).

    Raises:
        InputError: the CT or the PET is missing, or there are several.
    """
    clicks = input_dir / CLICKS_FILE
    is_given = path_exists(clicks) or clicks.is_symlink()  # a link that leads nowhere is a fault
    return PetCtFiles(
        find_image(input_dir / CT_FOLDER), find_image(input_dir / PET_FOLDER), clicks if is_given else None
    )


@dataclass(frozen=True, eq=False)
class PetCtScan:
    """CT and PET on one axial grid, with clicks on it.

    Attributes:
        ct: HU (z, y, x).
        pet: SUV of the same shape.
        file_grid: from the grid of the CT's file to the axial one.
        clicks: voxel indices (z, y, x) on the axial grid, may lie outside.
        warnings: from reading.
    """

    ct: Array
    pet: Array
    file_grid: FileGrid
    clicks: tuple[TumorClick, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """Geometry of the axial arrays."""
        return self.file_grid.axial

    def write_mask(self, path: Path, mask: npt.NDArray[np.bool_]) -> None:
        """Write a mask on the grid of the CT's file, verified.

        Args:
            path: the file; its suffix gives the format.
            mask: booleans (z, y, x) on the axial grid; stored as 0 and 1, uint8.

        Raises:
            OutputError: it cannot be written, or does not read back as it was written.
        """
        write_image(path, self.file_grid.file_labels(mask.astype(np.uint8)), self.file_grid.geometry)


def read_pet_ct(
    files: PetCtFiles, click_units: ClickUnits = "voxel", dose: InjectedDose | None = None
) -> PetCtScan:
    """Read and check a PET/CT; a PET on another grid is resampled to the CT's.

    Args:
        files: CT in HU, PET in SUV, and points on the CT.
        click_units: ``voxel`` for voxel indices (x, y, z) of the CT's file, ``world`` for LPS mm.
        dose: of a PET in Bq/ml, which is converted to SUV; None for one in SUV.

    Raises:
        InputError: a file cannot be used, the images do not overlap, are exchanged, or the PET is not in SUV.
    """
    paths = (files.ct, files.pet)
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="read") as pool:
        ct, pet = pool.map(lambda path: read_image(path, _no_log), paths)
    clicks = read_tumor_clicks(files.clicks) if files.clicks is not None else ()
    scan = make_pet_ct(ct, pet, dose, paths)
    return replace(scan, clicks=_axial_clicks(clicks, scan.file_grid, click_units))


def make_pet_ct(
    ct: Image,
    pet: Image,
    dose: InjectedDose | None = None,
    paths: tuple[Path, Path] = (Path("ct"), Path("pet")),
) -> PetCtScan:
    """Check CT and PET and bring them to one axial grid, that of the CT.

    Args:
        ct: in HU.
        pet: in SUV, or in Bq/ml with a dose.
        dose: as for `read_pet_ct`.
        paths: files of CT and PET, or names for messages.

    Returns:
        The scan, without clicks.

    Raises:
        InputError: as `read_pet_ct`.
    """
    ct_path, pet_path = paths
    grid = FileGrid.of(ct.geometry)
    check_not_exchanged(ct_path, ct.array, pet_path, pet.array)
    warnings = [f"{ct_path.name}: {note}" for note in ct.notes]
    warnings += [f"{pet_path.name}: {note}" for note in pet.notes]
    warnings += hu_warnings(ct_path.name, ct.array)
    if dose is not None:
        pet = replace(pet, array=converted_activity(pet_path, pet.array, dose))
        warnings.append(f"{pet_path.name}: is converted from Bq/ml to SUV, times {dose.suv_per_bq_ml:.6g}")
    warnings += check_suv(pet_path, pet.array)
    if grid.shear is not None:
        warnings.append(shear_warning(ct_path.name, ct.geometry))
    axial_ct = grid.axial_ct(ct.array)
    doubts = [*check_voxels(ct_path.name, axial_ct, grid.axial), *check_extent(ct_path.name, grid.axial)]
    warnings += [doubt.sentence for doubt in doubts]
    is_same = pet.geometry.same_grid(ct.geometry)
    if not is_same:
        warnings.append(f"{pet_path.name}: lies on another grid than {ct_path.name}; it is resampled to it")
    if is_same and grid.shear is None:
        axial_pet = grid.axes.array(pet.array)
    else:
        axial_pet, notes = _resampled_pet(pet_path, pet, grid.axial, ct_path)
        warnings += notes
    return PetCtScan(axial_ct, axial_pet, grid, warnings=tuple(warnings))


def _no_log(_note: str) -> None:
    """An image's notes are among the warnings of its scan."""


def _axial_clicks(clicks: Sequence[TumorClick], grid: FileGrid, units: ClickUnits) -> tuple[TumorClick, ...]:
    if units == "world":
        return tuple(
            replace(click, point_zyx=grid.axial_world_point(flip_order(click.point_zyx))) for click in clicks
        )
    return tuple(replace(click, point_zyx=grid.axial_point(click.point_zyx)) for click in clicks)


def _resampled_pet(path: Path, pet: Image, grid: Geometry, ct_path: Path) -> tuple[Array, list[str]]:
    """The PET on the axial grid of the CT through physical space, 0 outside of its field of view."""
    finite = np.where(np.isfinite(pet.array), pet.array, 0).astype(np.float32)
    values = _on_grid(finite, pet.geometry, grid, sitk.sitkLinear)
    seen = _on_grid(np.ones(finite.shape, np.uint8), pet.geometry, grid, sitk.sitkNearestNeighbor)
    share = float(np.count_nonzero(seen)) / seen.size
    if share == 0:
        raise InputError(
            f"{path}: does not overlap with {ct_path.name}: {pet.geometry.describe()}; expected a PET of the "
            f"same patient in the same place, {grid.describe()}"
        )
    notes = []
    if share < _WHOLE_SHARE:
        notes.append(
            f"{path.name}: covers {100 * share:.1f} % of {ct_path.name}; the PET is taken as 0 elsewhere"
        )
    return values, notes


def _on_grid(array: Array, geometry: Geometry, grid: Geometry, interpolator: int) -> Array:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size_xyz)
    resampler.SetOutputSpacing(grid.spacing_xyz)
    resampler.SetOutputOrigin(grid.origin_xyz)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(0)
    resampled: Array = sitk.GetArrayFromImage(resampler.Execute(to_sitk(array, geometry)))
    return resampled
