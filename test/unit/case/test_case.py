"""Scans from arrays in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.case import Click, Scan, ScanFiles, Slot
from model.case.clicks import write_clicks
from model.case.geometry import AxisMap, Geometry, Vector, flip_order
from model.case.images import write_image
from model.case.scans import read_scans
from model.errors import InputError
from test.helpers.orientations import ORIENTATIONS

SHAPE = (4, 5, 6)
SPACING_ZYX = (2.0, 0.9, 0.8)
HU = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
MASK = (HU % 7 == 0).astype(np.uint8) * 3


def test_a_scan_from_arrays_views_them() -> None:
    clicks: dict[Any, Sequence[float]] = {7: (1, 2.5, 3), np.int64(8): [0, 0, 0]}
    scan = Scan.from_array(HU, SPACING_ZYX, mask=MASK, clicks=clicks)
    assert np.shares_memory(scan.ct, HU) and np.array_equal(scan.ct, HU) and scan.ct.dtype == HU.dtype
    assert scan.mask is not None and np.shares_memory(scan.mask, MASK) and np.array_equal(scan.mask, MASK)
    assert scan.geometry == scan.file_geometry == Geometry((6, 5, 4), (0.8, 0.9, 2.0), (0.0, 0.0, 0.0))
    assert scan.clicks == (Click(7, (1.0, 2.5, 3.0)), Click(8, (0.0, 0.0, 0.0)))
    assert scan.path is None and scan.name == "primary-scan" and scan.axes.is_identity


def test_a_scan_without_mask_and_clicks() -> None:
    scan = Scan.from_array(HU, SPACING_ZYX, time_point="t1", slot=Slot.SECONDARY)
    assert scan.mask is None and scan.clicks == () and scan.name == "secondary-t1"


@pytest.mark.slow
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.tuples(*[st.floats(-900, 900)] * 3),
    st.tuples(*[st.floats(0, 3)] * 3),
)
@settings(deadline=None, max_examples=25)
def test_arrays_give_the_scan_that_their_files_give(
    tmp_path_factory: pytest.TempPathFactory, axes: AxisMap, spacing: Vector, origin: Vector, point: Vector
) -> None:
    stored = Geometry((6, 5, 4), spacing, origin).reoriented(axes)
    hu, labels = axes.array(HU), axes.array(MASK)
    folder = tmp_path_factory.mktemp("scan")
    files = ScanFiles(Slot.PRIMARY, folder / "ct.mha", folder / "mask.mha", folder / "clicks.json")
    click = tuple(round(value, 2) for value in point)
    write_image(files.ct, hu, stored)
    write_image(folder / "mask.mha", labels, stored)
    write_clicks(folder / "clicks.json", {7: flip_order(click)})
    (read,), _ = read_scans([("scan", files)])
    made = Scan.from_array(
        hu,
        read.file_geometry.spacing_zyx,
        origin_xyz=read.file_geometry.origin_xyz,
        direction=np.reshape(read.file_geometry.direction, (3, 3)),
        mask=labels,
        clicks={7: click},
    )
    assert (made.file_geometry, made.axes, made.clicks) == (read.file_geometry, read.axes, read.clicks)
    assert np.array_equal(made.ct, read.ct) and made.mask is not None and read.mask is not None
    assert np.array_equal(made.mask, read.mask)


@pytest.mark.parametrize(
    ("values", "kind"), [(MASK > 0, np.uint16), (MASK.astype(float), np.uint16), (MASK, np.uint8)]
)
def test_masks_of_any_number_type_become_integers(values: Any, kind: type) -> None:
    mask = Scan.from_array(HU, SPACING_ZYX, mask=values).mask
    assert mask is not None and mask.dtype == kind and np.array_equal(mask, values)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("hu", {"hu": HU[0]}, "has the shape (5, 6); expected three axes (z, y, x)"),
    ("hu", {"hu": HU[None]}, "has the shape (1, 4, 5, 6); expected three axes"),
    ("hu", {"hu": HU[:0]}, "expected at least one voxel"),
    ("hu", {"hu": HU.astype(complex)}, "complex128; expected integers or floats"),
    ("hu", {"hu": HU.astype(">i2")}, "expected integers or floats"),
    ("spacing_zyx", {"spacing_zyx": (1, 1)}, "is (1, 1); expected three positive numbers of mm (z, y, x)"),
    ("spacing_zyx", {"spacing_zyx": (1, 0, 1)}, "expected three positive numbers"),
    ("spacing_zyx", {"spacing_zyx": (1, float("nan"), 1)}, "expected three positive numbers"),
    ("spacing_zyx", {"spacing_zyx": 2.0}, "expected three positive numbers"),
    ("origin_xyz", {"origin_xyz": (0, float("inf"), 0)}, "expected three finite numbers of mm (x, y, z)"),
    ("direction", {"direction": (1, 0, 0)}, "expected a 3x3 matrix of numbers"),
    ("direction", {"direction": np.zeros(9)}, "expected a matrix with columns of length 1"),
    ("direction", {"direction": np.full(9, np.nan)}, "expected a matrix with columns of length 1"),
    ("direction", {"direction": (1, 0, 0.6, 0, 1, 0.8, 0, 0, 0)}, "its axes lie in one plane"),
    ("mask", {"mask": MASK[1:]}, "has the shape (3, 5, 6); expected (4, 5, 6), that of hu"),
    ("mask", {"mask": MASK + 0.5}, "holds values that are not whole numbers"),
    ("mask", {"mask": MASK.astype(np.int32) * 30_000}, "labels from 0 to 90000; expected lesion ids"),
    ("mask", {"mask": MASK.astype(np.int8) - 1}, "labels from -1 to 2; expected lesion ids from 1 to 65535"),
    ("clicks", {"clicks": {0: (1, 2, 3)}}, "holds the lesion id 0; expected whole numbers from 1 to 65535"),
    ("clicks", {"clicks": {65_536: (1, 2, 3)}}, "expected whole numbers from 1 to 65535"),
    ("clicks", {"clicks": {"7": (1, 2, 3)}}, "holds the lesion id '7'; expected whole numbers"),
    ("clicks[7]", {"clicks": {7: (1, 2)}}, "is (1, 2); expected three finite numbers"),
    ("clicks[7]", {"clicks": {7: (1, 2, float("nan"))}}, "expected three finite numbers"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG)
def test_errors_begin_with_the_argument(name: str, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"hu": HU, "spacing_zyx": SPACING_ZYX, **arguments}
    from_array: Callable[..., Scan] = Scan.from_array
    with pytest.raises(InputError) as raised:
        from_array(given.pop("hu"), given.pop("spacing_zyx"), **given)
    assert str(raised.value).startswith(f"{name}: ") and message in str(raised.value)


def test_unusual_voxels_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    hu = HU.astype(np.float32)
    hu[0, 0, 0], hu[1, 0, 0] = np.nan, 9000
    with caplog.at_level(logging.WARNING):
        Scan.from_array(hu, SPACING_ZYX, mask=np.zeros(SHAPE, np.uint8))
    assert [message.split(":")[0] for message in caplog.messages] == ["ct", "ct", "mask"]
    assert "1 voxels are NaN" in caplog.text and "9000 HU exceed" in caplog.text
    assert "mask: holds no lesion" in caplog.text


def test_points_return_to_the_axes_of_the_array(tmp_path: Path) -> None:
    sagittal = Geometry((6, 5, 4), (0.8, 0.9, 2.0), (1.0, 2.0, 3.0)).reoriented(AxisMap((2, 1, 0)))
    scan = Scan.from_array(
        np.zeros(sagittal.shape_zyx),
        sagittal.spacing_zyx,
        direction=sagittal.direction,
        clicks={7: (4.0, 3.0, 2.0)},
    )
    assert scan.geometry.shape_zyx == SHAPE and scan.clicks == (Click(7, (2.0, 3.0, 4.0)),)
    assert scan.file_point_xyz(scan.clicks[0].point_zyx) == (2.0, 3.0, 4.0)
