"""The list of back ends, the identity, and custom back ends."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.errors import InputError
from model.propagation.register import Registration, RegistrationImage, backend, backend_names, backend_usage
from model.propagation.register.linear import LinearTransform
from model.propagation.register.names import scan_keys

from ....helpers.registration_scans import phantom

SCAN = phantom((30, 25, 20), 10.0)

USERS = """
import numpy as np
from model.propagation.register import Registration
from model.propagation.register.linear import LinearTransform

def transform(fixed, moving):
    return LinearTransform.translation((0.0, 0.0, 0.0))

def registration(fixed, moving):
    return Registration(LinearTransform.translation((1.0, 2.0, 3.0)), 0.5)

class Backend:
    def register(self, fixed, moving):
        return registration(fixed, moving)

ready = Backend()
number = 7

def nothing(fixed, moving):
    return None

def failing(fixed, moving):
    raise ZeroDivisionError("by zero")

def three(a, b, c):
    pass

def useless():
    return 3

class Crooked(LinearTransform):
    def moving_to_fixed(self, points):
        return np.asarray(points)[:1]

def crooked(fixed, moving):
    return Crooked.identity()

def far(fixed, moving):
    return LinearTransform.translation((np.nan, 0.0, 0.0))
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"users_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def test_usage_lists_every_backend() -> None:
    usage = backend_usage()
    assert all(name in usage for name in backend_names())
    assert "landmarks:FILE" in usage and "unigradicon[:WEIGHTS]" in usage and "MODULE:FUNCTION" in usage


@pytest.mark.parametrize(
    "name", ["", "nonsense", "affine:x", "rigid:", "transform", "transform:", "identity:1"]
)
def test_invalid_backend_names(name: str) -> None:
    with pytest.raises(InputError, match="expected"):
        backend(name)


def test_the_identity_warns_if_scans_do_not_look_aligned() -> None:
    found = backend("identity").register(SCAN, SCAN)
    assert found.is_reliable and found.similarity == pytest.approx(1.0)
    assert np.allclose(found.transform.moving_to_fixed([(1.0, 2.0, 3.0)]), [(1.0, 2.0, 3.0)])
    x, y, z = SCAN.geometry.origin_xyz
    moved = Geometry(SCAN.geometry.size_xyz, SCAN.geometry.spacing_xyz, (x + 90.0, y + 60.0, z))
    elsewhere = backend("identity").register(SCAN, RegistrationImage(SCAN.array, moved))
    assert not elsewhere.is_reliable and "match poorly" in elsewhere.warnings[0]


@pytest.mark.parametrize("hu", [0.0, float("nan")])
def test_the_identity_of_empty_scans(hu: float) -> None:
    empty = RegistrationImage(np.full(SCAN.array.shape, hu, np.float32), SCAN.geometry)
    found = backend("identity").register(SCAN, empty)
    assert not found.similarity > 0.6
    assert np.allclose(found.transform.fixed_to_moving([(1.0, 2.0, 3.0)]), [(1.0, 2.0, 3.0)])


@pytest.mark.parametrize("name", ["transform", "registration", "Backend", "ready"])
def test_custom_backends(users: str, name: str) -> None:
    found = backend(f"{users}:{name}").register(SCAN, SCAN)
    assert isinstance(found, Registration)
    wanted = (0.0, 0.0, 0.0) if name == "transform" else (1.0, 2.0, 3.0)
    assert np.allclose(found.transform.fixed_to_moving([(0.0, 0.0, 0.0)]), [wanted])
    assert found.similarity == pytest.approx(1.0 if name == "transform" else 0.5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "has no 'absent'"),
        ("number", "is a int"),
        ("three", "needs 3 arguments"),
        ("useless", "without 'register'"),
        ("nothing", "without 'fixed_to_moving'"),
        ("failing", "ZeroDivisionError"),
        ("crooked", "returned something else"),
        ("far", "returned something else"),
    ],
)
def test_mistakes_of_custom_backends_are_reported(users: str, name: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        backend(f"{users}:{name}").register(SCAN, SCAN)
    assert f"{users}:{name}" in str(error.value)


def test_a_failing_custom_module_is_reported(users: str) -> None:
    Path("broken_users_module.py").write_text("raise RuntimeError('two\\nlines')")
    for name in ("broken_users_module:f", "no_such_module_at_all:f"):
        with pytest.raises(InputError, match="cannot be imported") as error:
            backend(name)
        assert "\n" not in str(error.value)


def test_near_is_the_transform_itself_unless_refined() -> None:
    coarse, fine = LinearTransform.identity(), LinearTransform.translation((1.0, 0.0, 0.0))
    assert Registration(coarse, 1.0).near([(0.0, 0.0, 0.0)]) is coarse
    assert Registration(coarse, 1.0, refine=lambda points: fine).near([(0.0, 0.0, 0.0)]) is fine


def test_scan_keys() -> None:
    assert scan_keys("data/primary-week12.nii.gz") == (
        "data/primary-week12.nii.gz",
        "primary-week12.nii.gz",
        "primary-week12",
        "week12",
    )
    assert scan_keys("week12") == ("week12",)
    assert scan_keys("") == ()


def test_back_ends_by_name() -> None:
    assert {"affine", "rigid"} <= set(backend_names())
    with pytest.raises(InputError, match="'magic' is unknown, expected one of: rigid, affine"):
        backend("magic")
