"""The back end of Greedy, with a stand-in for its package that runs in the same process of its own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from model.case.geometry import FloatArray, Geometry
from model.errors import InputError
from model.propagation.register import Registration, RegistrationImage, backend, greedy
from model.propagation.register.field import FieldTransform, voxel_centres_mm
from model.propagation.register.linear import LinearTransform

pytestmark = pytest.mark.slow

SHIFT_MM = np.array([6.0, -3.0, 0.0])
GEOMETRY = Geometry((48, 44, 40), (4.0, 4.0, 4.0), (-94.0, -86.0, -78.0))
PLACES_MM = np.random.default_rng(3).uniform(-30, 30, (20, 3))

# Finds the shift, and proves that all files are there and finite, on one grid, with masks of 0 and 1.
SHIFTED = """
import SimpleITK as sitk
import numpy as np

class Greedy3D:
    def execute(self, command):
        words = command.split()
        assert words[words.index("-i") + 1 : words.index("-i") + 3] == ["fixed.mha", "moving.mha"]
        names = ["fixed.mha", "moving.mha", words[words.index("-gm") + 1], words[words.index("-mm") + 1]]
        images = [sitk.ReadImage(name) for name in names]
        arrays = [sitk.GetArrayFromImage(image) for image in images]
        assert all(np.isfinite(array).all() and array.shape == arrays[0].shape for array in arrays)
        assert all(set(np.unique(mask)) <= {0, 1} and mask.any() for mask in arrays[2:])
        field = np.broadcast_to(np.array(SHIFT), (*arrays[0].shape, 3))
        image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
        image.CopyInformation(images[0])
        sitk.WriteImage(image, words[words.index("-o") + 1])
"""


def scan(shift_mm: FloatArray) -> RegistrationImage:
    """A body of soft blobs; the one at p is that of the unmoved body at p + shift."""
    wide = gaussian_filter(np.random.default_rng(5).normal(0, 1, (60, 60, 60)), 1.5)
    voxels = GEOMETRY.world_to_voxel(voxel_centres_mm(GEOMETRY) + shift_mm)[:, ::-1].round().astype(int) + 6
    hu = np.clip(50 + 3000 * wide[tuple(voxels.T)], -700, 290).reshape(GEOMETRY.shape_zyx)
    return RegistrationImage(hu.astype(np.int16), GEOMETRY)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large voxels, as for whole bodies, and the identity in place of the affine step."""
    monkeypatch.setattr(greedy, "_VOXELS", 100_000)
    known = SimpleNamespace(register=lambda fixed, moving: Registration(LinearTransform.identity(), 0.1))
    monkeypatch.setattr(greedy, "LinearBackend", lambda affine: known)


def register_with(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registration:
    """Register two shifted scans with a package of this source."""
    (folder / "picsl_greedy.py").write_text(program)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return backend("greedy", "cpu").register(scan(SHIFT_MM), scan(np.zeros(3)))


def test_displacements_are_read_in_world_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"SHIFT = {SHIFT_MM.tolist()}\n{SHIFTED}"
    found = register_with(program, tmp_path, monkeypatch)
    assert found.is_reliable and not found.warnings and found.refine is not None
    assert isinstance(found.transform, FieldTransform) and found.similarity > 0.5
    moved = found.transform.fixed_to_moving(PLACES_MM)
    assert np.allclose(moved, PLACES_MM + SHIFT_MM, atol=0.01)
    assert "picsl_greedy" not in sys.modules


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os.abort()", "its process ended with -6"),
        ("raise RuntimeError('no registration today')", "no registration today"),
        ("pass", "field.mha"),
        ("import time; time.sleep(60)", "did not come to an end"),
        (f"SHIFT = {[float('nan')] * 3}".replace("nan", "float('nan')"), "finite"),
    ],
)
def test_failures_of_the_package_leave_the_affine_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, body: str, reason: str
) -> None:
    monkeypatch.setattr(greedy, "_SECONDS", 1.0 if "sleep" in body else 60.0)
    is_field = body.startswith("SHIFT")
    program = (
        f"{body}\n{SHIFTED}"
        if is_field
        else f"class Greedy3D:\n    def execute(self, command):\n        {body}\n"
    )
    found = register_with(program, tmp_path, monkeypatch)
    assert isinstance(found.transform, LinearTransform)
    assert not found.is_reliable and "the deformable registration failed" in found.warnings[0]
    assert reason in caplog.text


def test_a_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(InputError, match="greedy: the package is not installed"):
        backend("greedy")
