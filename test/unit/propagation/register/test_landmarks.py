"""Registration by landmarks: exact at the landmarks, and strict about its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import FloatArray
from model.errors import InputError
from model.propagation.register import RegistrationImage, backend
from model.propagation.register.field import voxel_centres_mm
from model.propagation.register.landmarks import LandmarkBackend, rigid_fit, spline_fit
from model.propagation.register.linear import LinearTransform

from ....helpers.registration_scans import phantom, turn

SCAN = phantom((30, 25, 20), 10.0)
BASELINE = RegistrationImage(SCAN.array, SCAN.geometry, "primary-week00")
FOLLOWUP = RegistrationImage(SCAN.array, SCAN.geometry, "data/week12.nii.gz")
TRUTH = LinearTransform(turn(12.0), np.asarray([5.0, -20.0, 60.0]))


def spread(count: int = 12, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(-80, 80, (count, 3))


def rows(points: FloatArray, prefix: str = "") -> str:
    lines = (f"{prefix}p{n},{x:.17g},{y:.17g},{z:.17g}" for n, (x, y, z) in enumerate(points.tolist()))
    return "\n".join(lines) + "\n"


def two_files(folder: Path, fixed: FloatArray, moving: FloatArray) -> str:
    paths = folder / "before.csv", folder / "after.csv"
    for path, points in zip(paths, (moving, fixed), strict=True):
        path.write_text("name,x,y,z\n" + rows(points))
    return ",".join(map(str, paths))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-170, 170), st.integers(3, 8))
def test_a_rigid_motion_is_recovered(seed: int, degrees: float, count: int) -> None:
    fixed = spread(count, seed)
    truth = LinearTransform(turn(degrees), np.random.default_rng(seed).normal(0, 100, 3))
    found = rigid_fit(fixed, truth.fixed_to_moving(fixed))
    assert np.allclose(found.matrix, truth.matrix, atol=1e-6)
    assert np.allclose(found.offset_mm, truth.offset_mm, atol=1e-4)
    assert found.determinant == pytest.approx(1.0)


def test_the_rigid_fit_excludes_reflections() -> None:
    fixed = spread()
    assert rigid_fit(fixed, fixed * [-1.0, 1.0, 1.0]).determinant == pytest.approx(1.0)


def test_the_spline_interpolates_landmarks_and_is_inverted() -> None:
    fixed = spread(20)
    moving = TRUTH.fixed_to_moving(fixed) + np.random.default_rng(1).normal(0, 2.0, fixed.shape)
    found = spline_fit(fixed, moving, rigid_fit(fixed, moving))
    assert np.allclose(found.fixed_to_moving(fixed), moving, atol=1e-6)
    assert np.allclose(found.moving_to_fixed(moving), fixed, atol=0.02)
    others = spread(50, 7)
    assert np.allclose(found.moving_to_fixed(found.fixed_to_moving(others)), others, atol=0.05)
    assert found.fixed_to_moving([]).shape == found.moving_to_fixed([]).shape == (0, 3)


def test_two_scans_of_one_name_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("scan,name,x,y,z\n" + rows(spread(), "ct,"))
    scan = RegistrationImage(SCAN.array, SCAN.geometry, "primary-ct")
    with pytest.raises(InputError, match="both scans are called 'primary-ct'"):
        backend(f"landmarks:{path}").register(scan, scan)


@pytest.mark.parametrize("name", ["landmarks", "landmarks-rigid"])
def test_one_landmark_file_per_scan(tmp_path: Path, name: str) -> None:
    files = two_files(tmp_path, spread(), TRUTH.fixed_to_moving(spread()))
    found = backend(f"{name}:{files}").register(FOLLOWUP, BASELINE).transform
    points = voxel_centres_mm(SCAN.geometry)[::97]
    assert np.allclose(found.fixed_to_moving(points), TRUTH.fixed_to_moving(points), atol=1e-3)


@pytest.mark.slow
def test_one_landmark_file_for_all_scans(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    after, before = spread(), TRUTH.fixed_to_moving(spread())
    other = rows(spread(), "week30,")
    path.write_text(
        "\ufeffName , Scan,x,y,z\n".replace("Name , Scan", "scan,NAME ")
        + rows(before, "week00,")
        + rows(after, "week12,")
        + other
    )
    chosen = backend(f"landmarks:{path}")
    found = chosen.register(FOLLOWUP, BASELINE).transform
    assert np.allclose(found.fixed_to_moving(after), before, atol=1e-3)
    assert np.allclose(
        chosen.register(BASELINE, FOLLOWUP).transform.fixed_to_moving(before), after, atol=1e-3
    )
    with pytest.raises(InputError, match="no landmarks of scan 'week99'"):
        chosen.register(RegistrationImage(SCAN.array, SCAN.geometry, "week99"), BASELINE)


def test_landmarks_in_the_platforms_json(tmp_path: Path) -> None:
    after, before = spread(5), TRUTH.fixed_to_moving(spread(5))
    for name, points in (("before", before), ("after", after)):
        entries = [{"name": f"Lesion {n}", "point": point} for n, point in enumerate(points.tolist(), 1)]
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": "x", "points": entries}))
    found = backend(f"landmarks-rigid:{tmp_path}/before.json,{tmp_path}/after.json").register(
        FOLLOWUP, BASELINE
    )
    assert np.allclose(found.transform.fixed_to_moving(after), before, atol=1e-3)


def test_landmarks_in_a_plane_are_aligned_rigidly_with_a_warning(tmp_path: Path) -> None:
    fixed = spread() * [1.0, 1.0, 0.0]
    files = two_files(tmp_path, fixed, TRUTH.fixed_to_moving(fixed))
    found = LandmarkBackend(files).register(FOLLOWUP, BASELINE)
    assert not found.is_reliable and any("one plane" in warning for warning in found.warnings)
    assert np.allclose(found.transform.fixed_to_moving(spread()), TRUTH.fixed_to_moving(spread()), atol=1e-6)


def test_contradictory_landmarks_give_a_warning(tmp_path: Path) -> None:
    fixed = spread(30)
    files = two_files(tmp_path, fixed, np.roll(fixed, 1, axis=0))
    found = LandmarkBackend(files).register(FOLLOWUP, BASELINE)
    assert not found.is_reliable and any("folds" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (spread(3), "have 3 landmarks"),
        (np.empty((0, 3)), "have 0 landmarks"),
        (spread(6) * [1.0, 0.0, 0.0], "one line"),
        (np.ones((5, 3)), "one line"),
    ],
)
def test_too_few_landmarks_are_rejected(tmp_path: Path, points: FloatArray, says: str) -> None:
    files = two_files(tmp_path, points, points + 1.0)
    with pytest.raises(InputError, match=says):
        LandmarkBackend(files).register(FOLLOWUP, BASELINE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,x,y\np0,1,2\n", "column 'z'"),
        ("", "column 'name'"),
        ("name,x,y,z\np0,1,2,nan\n", "line 2"),
        ("name,x,y,z\np0,1,2\n", "line 2"),
        ("name,x,y,z\np0,1,2,3\np0,4,5,6\n", "'p0' is there twice"),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, text: str, says: str) -> None:
    files = two_files(tmp_path, spread(), spread())
    (tmp_path / "after.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        LandmarkBackend(files).register(FOLLOWUP, BASELINE)


def test_invalid_names_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one, or BASELINE,FOLLOWUP"):
        backend("landmarks:a.csv,b.csv,c.csv")
    with pytest.raises(InputError, match="cannot be read"):
        backend(f"landmarks:{tmp_path}/none.csv").register(FOLLOWUP, BASELINE)
    with pytest.raises(InputError, match="expected landmarks:FILE"):
        backend("landmarks")
