"""Lifetime and access of the voxels that `read_image` returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import read_image, write_image

SIZE_XYZ = (7, 6, 5)


def _stored(path: Path) -> np.ndarray:
    array = np.arange(np.prod(SIZE_XYZ), dtype=np.int16).reshape(SIZE_XYZ[::-1])
    write_image(path, array, Geometry(SIZE_XYZ, (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)))
    return array


@pytest.mark.slow
def test_voxels_outlive_their_image(tmp_path: Path) -> None:
    array = _stored(tmp_path / "ct.mha")
    held = [read_image(tmp_path / "ct.mha").array for _ in range(50)]  # freed memory would be taken again
    views = [read_image(tmp_path / "ct.mha").array[1:, ::2] for _ in range(50)]
    assert all(np.array_equal(one, array) for one in held)
    assert all(np.array_equal(one, array[1:, ::2]) for one in views)


def test_the_voxels_are_read_only(tmp_path: Path) -> None:
    _stored(tmp_path / "ct.mha")
    with pytest.raises(ValueError, match="read-only"):
        read_image(tmp_path / "ct.mha").array[0, 0, 0] = 1
