"""Sheared grids in files of every format: read as the header says, never as a rotation beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from model.case.geometry import Geometry
from model.case.images import read_geometry, read_image, write_image
from model.errors import InputError
from test.helpers.sheared_grids import tilted

GRID = tilted((6, 5, 4), (0.8, 0.9, 3.0), 18.0, (-120.0, 35.5, 810.0))
VOXELS = np.arange(120, dtype=np.int16).reshape(4, 5, 6)


def _affine(grid: Geometry) -> np.ndarray:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    world = grid.voxel_to_world(corners) * (-1, -1, 1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = (world[1:] - world[0]).T, world[0]
    return affine


def _write(path: Path, sform: int, qform: int, of_qform: np.ndarray | None = None) -> Path:
    image = nibabel.Nifti1Image(VOXELS.transpose(2, 1, 0), _affine(GRID))
    image.set_qform(_affine(GRID) if of_qform is None else of_qform, code=qform)
    image.set_sform(_affine(GRID), code=sform)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "ct.nrrd", "ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("degrees", [0.2, 18.0, -25.0])
def test_a_sheared_grid_is_written_and_read_in_every_format(
    tmp_path: Path, name: str, degrees: float
) -> None:
    grid = tilted((6, 5, 4), (0.8, 0.9, 3.0), degrees, (-120.0, 35.5, 810.0))
    write_image(tmp_path / name, VOXELS, grid, verify=name != "ct.mhd")
    image = read_image(tmp_path / name)
    assert np.array_equal(image.array, VOXELS) and image.array.dtype == np.int16
    assert np.allclose(image.geometry.voxel_to_world((5, 4, 3)), grid.voxel_to_world((5, 4, 3)), atol=1e-3)
    assert image.geometry.same_grid(grid)
    assert read_geometry(tmp_path / name) == image.geometry


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (1, 1), (2, 0), (2, 1), (4, 4)])
def test_the_sform_counts_if_the_qform_is_its_rotation(tmp_path: Path, sform: int, qform: int) -> None:
    """SimpleITK reads the qform, whose slices lie elsewhere, or refuses the file."""
    read = read_geometry(_write(tmp_path / "ct.nii.gz", sform, qform))
    assert read.same_grid(GRID)
    if qform:
        itk = sitk.ReadImage(str(tmp_path / "ct.nii.gz")).TransformIndexToPhysicalPoint((5, 4, 3))
        assert np.linalg.norm(np.subtract(itk, GRID.voxel_to_world((5, 4, 3)))) > 1.0


def test_the_affine_to_an_atlas_does_not_count(tmp_path: Path) -> None:
    position = np.diag([-0.8, -0.9, 3.0, 1.0])
    image = read_image(_write(tmp_path / "ct.nii", sform=4, qform=1, of_qform=position))
    assert not image.geometry.is_sheared
    assert np.allclose(image.geometry.voxel_to_world((1, 0, 0)), (0.8, 0, 0), atol=1e-5)
    assert "holds a sheared affine to another space" in image.notes[0]
    assert read_geometry(_write(tmp_path / "ct.nii", sform=1, qform=1, of_qform=position)).same_grid(GRID)


def test_a_nifti_in_metres_or_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    (x, y, z), (a, b, c) = GRID.spacing_xyz, GRID.origin_xyz
    in_metres = Geometry(
        GRID.size_xyz, (x / 1e3, y / 1e3, z / 1e3), (a / 1e3, b / 1e3, c / 1e3), GRID.direction
    )
    image = nibabel.Nifti1Image(VOXELS.transpose(2, 1, 0), _affine(in_metres))
    image.set_qform(None, code=0)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "ct.nii")
    assert read_geometry(tmp_path / "ct.nii").same_grid(GRID)
    assert any(
        "lengths in metres; they are converted to mm" in n for n in read_image(tmp_path / "ct.nii").notes
    )
    swapped = nibabel.Nifti1Image(VOXELS.transpose(2, 1, 0), _affine(GRID), image.header.as_byteswapped(">"))
    swapped.set_qform(None, code=0)
    swapped.header.set_xyzt_units("mm")
    nibabel.save(swapped, tmp_path / "ct.nii")
    assert read_geometry(tmp_path / "ct.nii").same_grid(GRID)
    assert np.array_equal(read_image(tmp_path / "ct.nii").array, VOXELS)


def test_a_singular_direction_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "ct.mha", VOXELS, GRID)
    text = (tmp_path / "ct.mha").read_bytes()
    line = next(line for line in text.split(b"\n") if line.startswith(b"TransformMatrix"))
    flat = text.replace(line, b"TransformMatrix = 1 0 0 0 1 0 1 0 0")
    (tmp_path / "ct.mha").write_bytes(flat)
    with pytest.raises(InputError, match=r"ct.mha: (its axes lie in one plane|has a direction)"):
        read_image(tmp_path / "ct.mha")


def test_axes_that_are_not_of_length_one_are_spacing(tmp_path: Path) -> None:
    write_image(tmp_path / "ct.mha", VOXELS, replace(GRID, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)))
    text = (tmp_path / "ct.mha").read_bytes()
    (tmp_path / "ct.mha").write_bytes(
        text.replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 0 0 2")
    )
    read = read_geometry(tmp_path / "ct.mha")
    assert read.spacing_xyz == pytest.approx((0.8, 0.9, 6.0))
    assert read.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
