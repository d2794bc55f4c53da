"""Reading PET/CT: one axial grid for both images, clicks, and the mask on the grid of the CT's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.case.geometry import Geometry
from model.case.images import read_image, write_image
from model.case.pet_ct_scan import PetCtFiles, PetCtScan, find_pet_ct, read_pet_ct
from model.case.suv_checks import InjectedDose
from model.errors import InputError

GRID = Geometry((24, 22, 20), (3.0, 3.0, 3.0), (-30.0, 12.0, 100.0))
# Axes in the order (z, x, y), one of them reversed.
TURNED = Geometry((20, 24, 22), (3.0, 3.0, 3.0), (-30.0, 12.0, 100.0), (0, 1, 0, 0, 0, -1, 1, 0, 0))


def _suv(geometry: Geometry) -> npt.NDArray[np.float32]:
    """SUV that rise linearly in space, so that linear interpolation is exact."""
    indices = np.stack(np.meshgrid(*map(np.arange, geometry.size_xyz), indexing="ij"), -1)
    world = geometry.voxel_to_world(indices)
    values = 20 + world @ (0.02, -0.03, 0.05)
    return values.transpose(2, 1, 0).astype(np.float32)


def _hu(geometry: Geometry) -> npt.NDArray[np.int16]:
    return np.random.default_rng(1).integers(-1000, 300, geometry.shape_zyx).astype(np.int16)


def _read(
    folder: Path,
    ct: Geometry,
    pet: Geometry,
    points: list[list[float]] | None = None,
    world: bool = False,
    suv: npt.NDArray[np.float32] | None = None,
) -> PetCtScan:
    write_image(folder / "ct.mha", _hu(ct), ct)
    write_image(folder / "pet.mha", _suv(pet) if suv is None else suv, pet, verify=False)
    clicks = None
    if points is not None:
        clicks = folder / "clicks.json"
        clicks.write_text(json.dumps({"tumor": points}))
    files = PetCtFiles(folder / "ct.mha", folder / "pet.mha", clicks)
    return read_pet_ct(files, "world" if world else "voxel")


def test_images_on_one_grid_are_read_as_they_are(tmp_path: Path) -> None:
    scan = _read(tmp_path, GRID, GRID, [[1, 2, 3]])
    np.testing.assert_array_equal(scan.ct, _hu(GRID))
    np.testing.assert_array_equal(scan.pet, _suv(GRID))
    assert scan.warnings == () and [click.point_zyx for click in scan.clicks] == [(3, 2, 1)]


def test_permuted_axes_become_axial_and_the_mask_goes_back(tmp_path: Path) -> None:
    scan = _read(tmp_path, TURNED, TURNED, [[1, 2, 3]])
    assert scan.geometry.shape_zyx == (20, 22, 24) and scan.ct.shape == scan.pet.shape
    np.testing.assert_allclose(scan.pet, _suv(scan.geometry), atol=1e-5)
    (click,) = scan.clicks
    assert scan.geometry.zyx_to_world(click.point_zyx) == pytest.approx(TURNED.voxel_to_world((1, 2, 3)))
    mask = scan.ct > 250
    scan.write_mask(tmp_path / "mask.nii.gz", mask)
    written = read_image(tmp_path / "mask.nii.gz")
    assert written.array.dtype == np.uint8 and written.geometry.same_grid(TURNED)
    np.testing.assert_array_equal(written.array, _hu(TURNED) > 250)


def test_world_points(tmp_path: Path) -> None:
    world = TURNED.voxel_to_world((4, 5, 6)).tolist()
    by_world = _read(tmp_path, TURNED, GRID, [world], world=True)
    by_voxel = _read(tmp_path, TURNED, GRID, [[4, 5, 6]])
    assert by_world.clicks[0].point_zyx == pytest.approx(by_voxel.clicks[0].point_zyx, abs=1e-5)


def test_a_pet_on_another_grid_is_resampled_through_space_with_a_warning(tmp_path: Path) -> None:
    finer = Geometry((20, 18, 20), (4.0, 4.5, 3.4), (48.0, 84.0, 98.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    suv = _suv(finer)
    scan = _read(tmp_path, GRID, finer, suv=suv)
    inside = finer.world_to_voxel(
        GRID.voxel_to_world(np.stack(np.meshgrid(*map(np.arange, GRID.size_xyz), indexing="ij"), -1))
    )
    is_inside = np.all((inside >= 0) & (inside <= np.subtract(finer.size_xyz, 1)), axis=-1)
    is_inside = np.transpose(is_inside, (2, 1, 0))
    assert is_inside.mean() > 0.5
    np.testing.assert_allclose(scan.pet[is_inside], _suv(GRID)[is_inside], atol=1e-3)
    assert any("another grid" in warning for warning in scan.warnings)


def test_a_pet_that_covers_a_part_is_zero_elsewhere_with_a_warning(tmp_path: Path) -> None:
    half = Geometry((24, 22, 10), GRID.spacing_xyz, GRID.origin_xyz)
    suv = _suv(half)
    suv[0, 0, 0] = np.nan
    scan = _read(tmp_path, GRID, half, suv=suv)
    assert not scan.pet[10:].any() and np.isfinite(scan.pet).all()
    np.testing.assert_allclose(scan.pet[1:9], suv[1:9], atol=1e-4)
    assert any("covers 50.0 %" in warning for warning in scan.warnings)
    assert any("NaN" in warning for warning in scan.warnings)


def test_a_pet_of_the_same_size_in_another_place_is_not_taken_as_it_is(tmp_path: Path) -> None:
    shifted = Geometry(GRID.size_xyz, GRID.spacing_xyz, (-24.0, 12.0, 100.0))
    scan = _read(tmp_path, GRID, shifted)
    np.testing.assert_allclose(scan.pet[:, :, 2:], _suv(GRID)[:, :, 2:], atol=1e-4)
    assert not scan.pet[:, :, 0].any()


def test_images_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    away = Geometry(GRID.size_xyz, GRID.spacing_xyz, (-30.0, 12.0, 900.0))
    with pytest.raises(InputError, match=r"pet.mha: does not overlap with ct.mha"):
        _read(tmp_path, GRID, away, suv=_suv(GRID))


def test_exchanged_images_are_refused(tmp_path: Path) -> None:
    _read(tmp_path, GRID, GRID)
    with pytest.raises(InputError, match="not exchanged"):
        read_pet_ct(PetCtFiles(tmp_path / "pet.mha", tmp_path / "ct.mha"))


def test_the_platforms_files(tmp_path: Path) -> None:
    for kind, name in (("ct", "a1.nii.gz"), ("pet", "b2.mha")):
        (tmp_path / "images" / kind).mkdir(parents=True)
        (tmp_path / "images" / kind / name).touch()
    files = find_pet_ct(tmp_path)
    assert (files.ct.name, files.pet.name, files.clicks) == ("a1.nii.gz", "b2.mha", None)
    (tmp_path / "lesion-clicks.json").write_text("{}")
    assert find_pet_ct(tmp_path).clicks == tmp_path / "lesion-clicks.json"
    (tmp_path / "images" / "pet" / "b2.mha").unlink()
    with pytest.raises(InputError, match="pet: holds no image"):
        find_pet_ct(tmp_path)


def test_a_pet_in_bq_per_ml_is_converted_with_a_warning(tmp_path: Path) -> None:
    _read(tmp_path, GRID, GRID)
    dose = InjectedDose(70, 350, 0, 110)
    write_image(tmp_path / "pet.mha", _suv(GRID) * np.float32(5000), GRID)
    files = PetCtFiles(tmp_path / "ct.mha", tmp_path / "pet.mha")
    scan = read_pet_ct(files, dose=dose)
    np.testing.assert_allclose(scan.pet, _suv(GRID), rtol=1e-5)
    assert any("converted from Bq/ml" in warning for warning in scan.warnings)
    with pytest.raises(InputError, match="--activity"):
        read_pet_ct(files)
