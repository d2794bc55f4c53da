"""B-splines, and uniGradICON with a fake network, on phantoms with known deformations."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial import KDTree

from model.case.geometry import AxisMap, FloatArray, Geometry
from model.errors import InputError
from model.propagation.register import Registration, RegistrationImage, backend, bspline
from model.propagation.register.field import FieldTransform, folding_share, voxel_centres_mm
from model.propagation.register.linear import LinearTransform
from model.propagation.register.similarity import accept_if_better

from ....helpers.registration_scans import RecordedAffine

pytestmark = pytest.mark.slow

SIZE, SPACING_MM = (54, 46, 40), 5.0


def textured(displacement: Callable[[FloatArray], FloatArray], shift_z_mm: float = 0.0) -> RegistrationImage:
    """A body full of blobs at fixed places, warped by a displacement (of the body's points, mm)."""
    geometry = Geometry(SIZE, (SPACING_MM,) * 3, (-132.5, -112.5, shift_z_mm - 97.5))
    seen = voxel_centres_mm(geometry) - [0.0, 0.0, shift_z_mm]
    places = seen + displacement(seen)
    rng = np.random.default_rng(4)
    hu = np.full(len(places), -1000.0)
    body = np.flatnonzero(((places[:, :2] / [105.0, 85.0]) ** 2).sum(axis=1) < 1)
    hu[body] = -50.0
    inside = KDTree(places[body])
    for _ in range(220):
        centre, radius = rng.uniform([-90, -75, -110], [90, 75, 110]), rng.uniform(6, 13)
        hu[body[inside.query_ball_point(centre, radius)]] += rng.choice([-350.0, 250.0])
    array = np.clip(hu, -1000, 600).astype(np.float32).reshape(geometry.shape_zyx)
    return RegistrationImage(array + rng.normal(0, 5, array.shape).astype(np.float32), geometry)


def wave(places: FloatArray) -> FloatArray:
    """Up to 8 mm along z, and 5 mm along x."""
    y, x = places[:, 1], places[:, 0]
    bump = np.exp(-(x**2 + y**2) / 60.0**2)
    return np.column_stack([5.0 * bump, np.zeros_like(x), 8.0 * bump])


def still(places: FloatArray) -> FloatArray:
    return np.zeros_like(places)


PLACES = np.random.default_rng(3).uniform([-60, -50, -60], [60, 50, 60], (60, 3))


def errors_mm(found: Registration, shift_mm: float = 0.0) -> FloatArray:
    """Distances (mm) of propagated follow-up points from those by the wave that warps the follow-up."""
    ends = found.transform.fixed_to_moving(PLACES + [0.0, 0.0, shift_mm])
    distances: FloatArray = np.linalg.norm(ends - (PLACES + wave(PLACES)), axis=1)
    return distances


@pytest.fixture(scope="module")
def bent() -> RegistrationImage:
    return textured(wave, 30.0)


@pytest.fixture(scope="module")
def straight() -> RegistrationImage:
    return textured(still)


def turned(scan: RegistrationImage) -> RegistrationImage:
    """The same scan in a file of another orientation."""
    axes = AxisMap((2, 0, 1), (True, False, True))
    return RegistrationImage(axes.array(scan.array), scan.geometry.reoriented(axes))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voxels, samples and steps that suffice for the phantom."""
    monkeypatch.setattr(bspline, "_SPACING_MM", 4.0)
    few = tuple(replace(stage, samples=5000, iterations=15) for stage in bspline._STAGES)
    monkeypatch.setattr(bspline, "_STAGES", few)


def test_bsplines_recover_a_deformation(
    few_steps: None, monkeypatch: pytest.MonkeyPatch, bent: RegistrationImage, straight: RegistrationImage
) -> None:
    monkeypatch.setattr(bspline, "LinearBackend", RecordedAffine)
    monkeypatch.setattr(RecordedAffine, "results", [])
    found = backend("bspline").register(turned(bent), straight)
    (affine,) = RecordedAffine.results
    assert isinstance(found.transform, FieldTransform) and found.is_reliable and not found.warnings
    assert folding_share(found.transform) == 0.0
    assert found.similarity > affine.similarity
    assert errors_mm(found, 30.0).mean() < min(2.0, 0.6 * errors_mm(affine, 30.0).mean())
    there = found.transform.fixed_to_moving(PLACES)
    assert np.allclose(found.transform.moving_to_fixed(there), PLACES, atol=0.05)
    assert found.transform.displacement_mm.dtype == np.float32


def test_equal_scans_are_not_deformed(few_steps: None, no_affine: None, straight: RegistrationImage) -> None:
    found = backend("bspline").register(straight, straight)
    assert found.is_reliable and not found.warnings
    assert np.allclose(found.transform.fixed_to_moving(PLACES), PLACES, atol=0.5)


def of(scan: RegistrationImage, hu: float) -> RegistrationImage:
    return RegistrationImage(np.full(scan.array.shape, hu, np.float32), scan.geometry)


def make_identity(shape: tuple[int, int, int]) -> torch.Tensor:
    axes = [torch.linspace(0, 1, n) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


class FakeNetwork:
    """Returns one shift for any pair, in mm of its input box."""

    def __init__(self, shift: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.identity_map = make_identity((24, 28, 32))
        self._shift = shift
        self.seen: list[torch.Tensor] = []

    def to(self, device: object) -> FakeNetwork:
        return self

    def eval(self) -> FakeNetwork:
        return self

    def __call__(self, moving: torch.Tensor, fixed: torch.Tensor) -> None:
        self.seen = [moving, fixed]
        self.phi_AB_vectorfield = self._shift(self.identity_map)


@pytest.fixture
def no_affine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the affine step by the identity."""
    still_standing = Registration(LinearTransform.identity(), 0.9)
    stand_in = SimpleNamespace(register=lambda fixed, moving: still_standing)
    for name in ("bspline", "unigradicon"):
        monkeypatch.setattr(f"model.propagation.register.{name}.LinearBackend", lambda affine: stand_in)


Install = Callable[..., tuple[FakeNetwork, Path]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a fake package under the real one's name."""

    def installed(shift: Callable[[torch.Tensor], torch.Tensor], **wrong: object) -> tuple[FakeNetwork, Path]:
        weights = tmp_path / "Step_2_final.trch"
        weights.write_bytes(b"weights")
        network = FakeNetwork(shift)
        package, config = ModuleType("unigradicon"), ModuleType("icon_registration.config")
        package.__spec__ = importlib.machinery.ModuleSpec("unigradicon", None)

        def get_unigradicon(weights_location: str) -> FakeNetwork:
            assert weights_location == str(weights)
            return network

        package.__dict__.update({"get_unigradicon": get_unigradicon, **wrong})
        for module in (package, config, ModuleType("icon_registration")):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return network, weights

    return installed


def test_unigradicon_maps_are_read_in_their_axes(
    install: Install, no_affine: None, bent: RegistrationImage, straight: RegistrationImage
) -> None:
    """The fake network returns the wave; the adapter's transform must invert it."""
    box: dict[str, FloatArray] = {}

    def shift(identity: torch.Tensor) -> torch.Tensor:
        zyx = identity[0].reshape(3, -1).T.numpy()
        places = box["low"] + zyx[:, ::-1] * (box["high"] - box["low"])
        moved = (wave(places) / (box["high"] - box["low"]))[:, ::-1]
        added = torch.from_numpy(np.ascontiguousarray(moved.T, np.float32)).reshape(identity.shape)
        return identity + added

    network, weights = install(shift)
    count = np.asarray(network.identity_map.shape[2:])[::-1]
    first, last = (
        straight.geometry.voxel_to_world(np.multiply(straight.geometry.size_xyz, k) - 0.5) for k in (0, 1)
    )
    voxel = (last - first) / count
    box.update(low=first + voxel / 2, high=last - voxel / 2)
    bent_here = RegistrationImage(bent.array, straight.geometry)
    found = backend(f"unigradicon:{weights}", "cpu").register(bent_here, straight)
    assert network.seen[0].shape == (1, 1, 24, 28, 32)
    assert all(0.0 <= float(t.min()) < float(t.max()) <= 1.0 for t in network.seen)
    assert isinstance(found.transform, FieldTransform)
    u = found.transform.displacement(PLACES)
    assert np.abs(u - wave(PLACES)).max() < 1.0


def test_a_useless_unigradicon_deformation_is_dropped(
    install: Install, no_affine: None, straight: RegistrationImage
) -> None:
    for shift, is_reliable in (
        (lambda identity: identity + 0.1, True),
        (lambda identity: identity * float("nan"), False),
        (lambda identity: 1 - identity, False),
    ):
        _, weights = install(shift)
        found = backend(f"unigradicon:{weights}").register(straight, straight)
        assert isinstance(found.transform, LinearTransform)
        assert found.is_reliable is is_reliable and bool(found.warnings) is not is_reliable


@pytest.mark.parametrize("name", ["bspline", "unigradicon"])
@pytest.mark.parametrize(("hu", "bad_is_followup"), [(0.0, False), (-1000.0, True), (float("nan"), True)])
def test_scans_that_cannot_be_aligned_fall_back_to_headers(
    install: Install, straight: RegistrationImage, name: str, hu: float, bad_is_followup: bool
) -> None:
    _, weights = install(lambda identity: identity)
    pair = (of(straight, hu), straight) if bad_is_followup else (straight, of(straight, hu))
    found = backend(f"{name}:{weights}" if name == "unigradicon" else name).register(*pair)
    assert not found.is_reliable and found.warnings
    assert np.allclose(found.transform.fixed_to_moving(PLACES), PLACES)


def test_scans_without_overlap(straight: RegistrationImage) -> None:
    far = Geometry(SIZE, (SPACING_MM,) * 3, (5000.0, 0.0, 0.0))
    found = backend("bspline").register(straight, RegistrationImage(of(straight, 0.0).array, far))
    assert not found.is_reliable and found.warnings
    assert np.isfinite(found.transform.fixed_to_moving(PLACES)).all()


def test_a_missing_unigradicon_is_reported(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: RegistrationImage
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(InputError, match="package is not installed"):
        backend("unigradicon")
    monkeypatch.undo()
    _, weights = install(lambda identity: identity)
    monkeypatch.chdir(tmp_path / "..")
    with pytest.raises(InputError, match="weights of uniGradICON are not there"):
        backend("unigradicon")
    with pytest.raises(InputError, match="other.trch: the weights"):
        backend(f"unigradicon:{tmp_path}/other.trch")


def test_another_version_of_unigradicon_is_reported(install: Install, straight: RegistrationImage) -> None:
    _, weights = install(lambda identity: identity, get_unigradicon=lambda: SimpleNamespace())
    with pytest.raises(InputError, match="cannot be loaded"):
        backend(f"unigradicon:{weights}").register(straight, straight)


def field(u: npt.NDArray[np.float32], geometry: Geometry) -> FieldTransform:
    return FieldTransform(LinearTransform.identity(), u, geometry)


def test_a_deformation_must_be_plausible_and_better(straight: RegistrationImage) -> None:
    start = Registration(LinearTransform.identity(), 0.9)
    shape = (*straight.geometry.shape_zyx, 3)
    torn = field(np.random.default_rng(0).normal(0, 30, shape).astype(np.float32), straight.geometry)
    for bad in (None, torn):
        kept = accept_if_better(start, bad, straight, straight)
        assert kept.transform is start.transform and not kept.is_reliable and kept.warnings
    worse = field(np.full(shape, 9.0, np.float32), straight.geometry)
    assert accept_if_better(start, worse, straight, straight) is start
