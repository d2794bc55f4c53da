"""Clicks in world units, and scans from SimpleITK images in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from model.case.case import ScanFiles, Slot
from model.case.file_grid import FileGrid
from model.case.geometry import Geometry, flip_order
from model.case.scans import _clicks, read_scans, scan_from_image
from model.errors import InputError

ANGLE = float(np.deg2rad(20))
COS, SIN = float(np.cos(ANGLE)), float(np.sin(ANGLE))
OBLIQUE = Geometry((60, 56, 34), (1.5, 1.5, 2.0), (12.5, -7.25, 300.0), (COS, -SIN, 0, SIN, COS, 0, 0, 0, 1))
whole = st.integers(0, 55)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clicks")


@given(point=st.tuples(whole, whole, whole))
def test_a_world_click_lies_in_its_voxel(folder: Path, point: tuple[int, int, int]) -> None:
    """Truncation afterwards must not move it to the previous voxel."""
    document = {
        "name": "Points of interest",
        "type": "Multiple points",
        "points": [{"name": "1", "point": OBLIQUE.voxel_to_world(point).tolist()}],
        "version": {"major": 1, "minor": 0},
    }
    (folder / "clicks.json").write_text(json.dumps(document))
    files = ScanFiles(Slot.PRIMARY, folder / "ct.mha", clicks=folder / "clicks.json")
    (click,) = _clicks(files, FileGrid.of(OBLIQUE), "world")
    assert flip_order(click.point_zyx) == tuple(map(float, point))


# --- images in memory ------------------------------------------------------------------------------------

HU = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def _image(array: np.ndarray, spacing_xyz: tuple[float, ...] = (0.8, 0.9, 2.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_xyz)
    image.SetOrigin((1.0, 2.0, 3.0))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    return image


def test_a_scan_from_images_equals_that_of_their_files(tmp_path: Path) -> None:
    ct, mask = _image(HU), _image((HU % 7 == 0).astype(np.uint8))
    sitk.WriteImage(ct, str(tmp_path / "ct.mha"))
    sitk.WriteImage(mask, str(tmp_path / "mask.mha"))
    files = ScanFiles(Slot.SECONDARY, tmp_path / "ct.mha", tmp_path / "mask.mha")
    (read,), _ = read_scans([("t1", files)])
    scan = scan_from_image(ct, mask=mask, clicks={7: (3, 2, 1)}, time_point="t1", slot=Slot.SECONDARY)
    assert (scan.name, scan.file_geometry, scan.axes) == (read.name, read.file_geometry, read.axes)
    assert scan.path is None and np.array_equal(scan.ct, read.ct)
    assert scan.mask is not None and read.mask is not None and np.array_equal(scan.mask, read.mask)
    assert scan.file_point_xyz(scan.clicks[0].point_zyx) == (1, 2, 3)


def test_the_voxels_outlive_the_image() -> None:
    scans = [scan_from_image(_image(HU)) for _ in range(50)]  # freed memory would be used again
    assert all(np.array_equal(scan.axes.inverse().array(scan.ct), HU) for scan in scans)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": HU}, "image: is a ndarray; expected a SimpleITK image"),
        ({"image": sitk.GetImageFromArray(HU[0])}, "image: is 2-dimensional; expected three dimensions"),
        ({"image": sitk.GetImageFromArray(HU, isVector=True)}, "image: is 2-dimensional"),
        ({"image": sitk.Image((3, 3, 3), sitk.sitkVectorUInt8)}, "image: has voxels of type vector of 8-bit"),
        ({"image": sitk.Image((3, 3, 3), sitk.sitkComplexFloat32)}, "expected one number per voxel"),
        ({"mask": _image(HU, (0.8, 0.9, 2.5))}, "mask: lies on another grid than the image: size"),
        ({"mask": _image(-HU)}, "mask: holds labels from -119 to 0; expected lesion ids from 1 to 65535"),
        ({"clicks": {7: (1, 2)}}, "clicks[7]: is (1, 2); expected three finite numbers"),
    ],
)
def test_errors_of_images_begin_with_the_argument(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"image": _image(HU), **arguments}
    with pytest.raises(InputError) as raised:
        scan_from_image(given.pop("image"), **given)
    assert message in str(raised.value)


@pytest.mark.parametrize("off", [0.0, 1e-7, 0.009])
def test_labels_near_whole_numbers_are_rounded_with_a_warning(tmp_path: Path, off: float) -> None:
    labels = np.zeros((3, 4, 5), np.float32)
    labels[1, 1, 1] = 2 - off
    sitk.WriteImage(_image(np.zeros((3, 4, 5), np.int16)), str(tmp_path / "ct.mha"))
    sitk.WriteImage(_image(labels), str(tmp_path / "mask.nii.gz"))
    files = ScanFiles(Slot.PRIMARY, tmp_path / "ct.mha", tmp_path / "mask.nii.gz")
    (scan,), warnings = read_scans([("baseline", files)])
    assert scan.mask is not None and scan.mask.dtype == np.uint16 and scan.mask[1, 1, 1] == 2
    assert any("they are rounded" in warning for warning in warnings) == (off > 0)


@pytest.mark.parametrize("off", [0.011, 0.4, float("nan"), float("inf")])
def test_other_fractions_are_refused(tmp_path: Path, off: float) -> None:
    labels = np.zeros((3, 4, 5), np.float32)
    labels[1, 1, 1] = 2 - off
    sitk.WriteImage(_image(np.zeros((3, 4, 5), np.int16)), str(tmp_path / "ct.mha"))
    sitk.WriteImage(_image(labels), str(tmp_path / "mask.mha"))
    files = ScanFiles(Slot.PRIMARY, tmp_path / "ct.mha", tmp_path / "mask.mha")
    with pytest.raises(InputError, match=r"mask.mha: .* not whole numbers"):
        read_scans([("baseline", files)])
