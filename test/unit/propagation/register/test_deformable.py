"""The default back end on phantoms with known deformations: search, refinement, fall-backs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates, shift

from model.case.geometry import AxisMap, FloatArray, Geometry
from model.errors import InputError
from model.propagation.register import Registration, RegistrationImage, convex, deformable, refine
from model.propagation.register.border import _gaussian_at, extrapolate_border
from model.propagation.register.convex import Search, convex_adam, torch_device
from model.propagation.register.deformable import DeformableBackend, unfolded
from model.propagation.register.field import Composition, FieldTransform, folding_share, voxel_centres_mm
from model.propagation.register.linear import LinearTransform
from model.propagation.register.refine import Refiner
from model.propagation.register.warp import PairOnGrid, SmoothedScan, normalise_locally

from ....helpers.registration_scans import RecordedAffine

pytestmark = pytest.mark.slow

SIZE, SPACING_MM = (72, 64, 60), 2.5
PLACES_MM = np.random.default_rng(3).uniform([-55, -45, -45], [55, 45, 45], (60, 3))
TEXTURE = gaussian_filter(np.random.default_rng(4).normal(0, 1, (76, 80, 84)), 2.0)


def body_hu(places: FloatArray) -> FloatArray:
    """HU of a patient at points (N, 3), mm: an oval body of many soft structures."""
    voxels = (places / 3.0 + np.array([84, 80, 76]) / 2)[:, ::-1].T
    hu = 60.0 + 3000.0 * map_coordinates(TEXTURE, voxels, order=1, mode="reflect")
    inside = ((places[:, :2] / [75.0, 62.0]) ** 2).sum(axis=1) < 1
    return np.where(inside, np.clip(hu, -700, 280), -1000.0)


def bump(places: FloatArray) -> FloatArray:
    """Up to 7 mm along z and 4 mm along x."""
    height = np.exp(-(places**2).sum(axis=1) / 45.0**2)
    return np.column_stack([4.0 * height, np.zeros_like(height), 7.0 * height])


def scan(bent: bool, offset_z_mm: float = 0.0, seed: int = 0) -> RegistrationImage:
    sides = np.array(SIZE) * SPACING_MM
    ox, oy, oz = (float(v) for v in -sides / 2 + SPACING_MM / 2)
    geometry = Geometry(SIZE, (SPACING_MM,) * 3, (ox, oy, oz + offset_z_mm))
    seen = voxel_centres_mm(geometry) - [0.0, 0.0, offset_z_mm]
    hu = body_hu(seen + bump(seen) if bent else seen).reshape(geometry.shape_zyx)
    noise = np.random.default_rng(seed).normal(0, 10, hu.shape)
    return RegistrationImage((hu + noise).astype(np.int16), geometry)


def turned(image: RegistrationImage) -> RegistrationImage:
    axes = AxisMap((2, 0, 1), (True, False, True))
    return RegistrationImage(axes.array(image.array), image.geometry.reoriented(axes))


FOLLOWUP, BASELINE = scan(True, 30.0, 1), scan(False, 0.0, 2)
FIXED_MM, MOVING_MM = PLACES_MM + [0.0, 0.0, 30.0], PLACES_MM + bump(PLACES_MM)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Large voxels, as for whole bodies: the small phantom would get small ones and take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deformable, "_VOXELS", 100_000)
        yield


@pytest.fixture(scope="module")
def found_in_steps(quick: None) -> tuple[Registration, Registration]:
    """The affine registration and the final one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedAffine, "results", [])
        patch.setattr(deformable, "LinearBackend", RecordedAffine)
        found = DeformableBackend("cpu").register(FOLLOWUP, BASELINE)
        return RecordedAffine.results[0], found


@pytest.fixture
def found(found_in_steps: tuple[Registration, Registration]) -> Registration:
    return found_in_steps[1]


@pytest.fixture
def affine_is_known(
    found_in_steps: tuple[Registration, Registration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replace the affine step of the two scans by its result."""
    known = SimpleNamespace(register=lambda fixed, moving: found_in_steps[0])
    monkeypatch.setattr(deformable, "LinearBackend", lambda affine: known)


def test_a_deformation_is_estimated_in_both_directions(found: Registration) -> None:
    assert found.is_reliable and not found.warnings and found.similarity > 0.9
    assert isinstance(found.transform, FieldTransform) and folding_share(found.transform) == 0
    assert np.linalg.norm(MOVING_MM - PLACES_MM, axis=1).max() > 6
    forth = np.linalg.norm(found.transform.fixed_to_moving(FIXED_MM) - MOVING_MM, axis=1)
    back = np.linalg.norm(found.transform.moving_to_fixed(MOVING_MM) - FIXED_MM, axis=1)
    assert forth.mean() < 1.0 and back.mean() < 1.0


def test_registration_does_not_depend_on_file_orientation(found: Registration) -> None:
    other = DeformableBackend("cpu").register(turned(FOLLOWUP), BASELINE)
    moved = other.transform.fixed_to_moving(FIXED_MM)
    assert np.linalg.norm(moved - found.transform.fixed_to_moving(FIXED_MM), axis=1).max() < 0.2


def test_registration_is_reproducible(found: Registration, affine_is_known: None) -> None:
    again = DeformableBackend("cpu").register(FOLLOWUP, BASELINE)
    np.testing.assert_array_equal(
        again.transform.fixed_to_moving(FIXED_MM), found.transform.fixed_to_moving(FIXED_MM)
    )


@pytest.mark.parametrize(
    "baseline",
    [
        replace(BASELINE, array=np.zeros_like(BASELINE.array)),
        replace(BASELINE, array=np.full(BASELINE.array.shape, np.nan, np.float32)),
        RegistrationImage(BASELINE.array[:4], replace(BASELINE.geometry, size_xyz=(*SIZE[:2], 4))),
    ],
    ids=["constant", "NaN", "a slab"],
)
def test_scans_that_cannot_be_registered_give_a_warning(baseline: RegistrationImage) -> None:
    found = DeformableBackend("cpu").register(FOLLOWUP, baseline)
    assert not found.is_reliable and found.warnings
    assert np.isfinite(found.near(FIXED_MM).fixed_to_moving(FIXED_MM)).all()


def test_a_failing_search_falls_back_to_affine(
    affine_is_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory for 1 TiB")

    monkeypatch.setattr(deformable, "convex_adam", fail)
    found = DeformableBackend("cpu").register(FOLLOWUP, BASELINE)
    assert isinstance(found.transform, LinearTransform) and not found.is_reliable
    assert "affine one alone" in found.warnings[-1]


def test_a_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device("auto") == "cpu"
    with pytest.raises(InputError, match="cuda:1: 0 CUDA devices"):
        DeformableBackend("cuda:1")


def test_gpu_out_of_memory_retries_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def run(fixed: object, moving: object, search: Search, device: str) -> np.ndarray:
        devices.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError
        return np.zeros((2, 2, 2, 3), np.float32)

    monkeypatch.setattr(convex, "_run", run)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    volume = np.zeros((2, 2, 2), np.float32)
    assert convex_adam(volume, volume, 1.0, Search(6, 4), "cuda").shape == (2, 2, 2, 3)
    assert devices == ["cuda", "cpu"]


def test_search_displacements_are_in_mm_and_world_order() -> None:
    rng = np.random.default_rng(0)
    moving = (gaussian_filter(rng.normal(0, 1, (48, 48, 48)), 2) * 3000).astype(np.float32)
    fixed = shift(moving, (0, 2, -4), order=1, mode="nearest")  # fixed(z, y, x) = moving(z, y - 2, x + 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        u = convex_adam(fixed, moving, 2.0, Search(4, 3), "cpu")
    middle = u[14:34, 14:34, 14:34].reshape(-1, 3)
    np.testing.assert_allclose(np.median(middle, axis=0), [8.0, -4.0, 0.0], atol=0.4)


class TestRefinement:
    """Boxes near points, on top of a transform that is 3 mm off everywhere."""

    @staticmethod
    def refiner(fixed: RegistrationImage = BASELINE) -> Refiner:
        off = LinearTransform(np.eye(3), np.array([3.0, 0.0, 0.0]))
        return Refiner(fixed, BASELINE, off, 6.0, "cpu")

    def test_a_box_reduces_the_error_and_keeps_the_rest(self) -> None:
        refiner = self.refiner()
        places = np.array([[0.0, 0.0, 0.0], [4.0, -5.0, 3.0]])
        near = refiner.near(places)
        assert np.linalg.norm(near.fixed_to_moving(places) - places, axis=1).max() < 1.0
        assert np.linalg.norm(near.moving_to_fixed(places) - places, axis=1).max() < 1.0
        far = np.array([[0.0, 0.0, 200.0]])
        np.testing.assert_array_equal(near.fixed_to_moving(far), far + [3.0, 0.0, 0.0])

    def test_points_in_one_box_share_it(self) -> None:
        refiner = self.refiner()
        first = refiner.near([[0.0, 0.0, 0.0]])
        assert isinstance(first, Composition)
        assert refiner.near([[5.0, 5.0, 5.0], [np.nan, 0.0, 0.0]]) is first

    def test_a_box_without_improvement_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worse = np.full((60, 60, 60, 3), 2.0, np.float32)
        monkeypatch.setattr(refine, "convex_adam", lambda *_: worse)
        refiner = self.refiner()
        assert refiner.near([[0.0, 0.0, 0.0]]) is refiner.start

    def test_a_box_that_fails_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(refine, "convex_adam", fail)
        refiner = self.refiner()
        assert refiner.near([[0.0, 0.0, 0.0]]) is refiner.start

    def test_no_box_outside_of_the_scans(self) -> None:
        refiner = self.refiner()
        assert refiner.near([[0.0, 0.0, 900.0]]) is refiner.start

    def test_no_box_without_finer_voxels(self) -> None:
        refiner = replace(self.refiner(), working_mm=2.6)
        assert refiner.near([[0.0, 0.0, 0.0]]) is refiner.start


def test_outside_of_a_scan_its_border_is_continued() -> None:
    geometry = Geometry((8, 8, 8), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    image = RegistrationImage(np.full((8, 8, 8), 40, np.int16), geometry)
    wide = Geometry((12, 8, 8), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    pair = PairOnGrid.of(wide, *(SmoothedScan.of(image, 2.0),) * 2, LinearTransform.identity())
    assert (pair.fixed == 40).all()
    assert pair.fixed_seen[..., :8].all() and not pair.fixed_seen[..., 9:].any()


def test_local_normalisation_is_insensitive_to_density() -> None:
    hu = (TEXTURE[:40, :40, :40] * 3000).astype(np.float32)
    seen = np.ones(hu.shape, bool)
    np.testing.assert_allclose(
        normalise_locally(hu, seen, 4.0), normalise_locally(hu + 150, seen, 4.0), atol=1e-2
    )
    assert not normalise_locally(hu, ~seen, 4.0).any()


class TestEndsOfTheOverlap:
    """Displacements of 3 mm, and nonsense in the outer 10 mm of the region that both scans cover."""

    GRID = Geometry((30, 28, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))

    def pair(self, seen: np.ndarray) -> PairOnGrid:
        hu = np.zeros(self.GRID.shape_zyx, np.float32)
        return PairOnGrid(self.GRID, hu, hu, np.ones_like(seen), seen)

    def test_displacements_are_extrapolated_from_inside(self) -> None:
        seen = np.ones(self.GRID.shape_zyx, bool)
        seen[30:] = False  # the baseline ends here
        field = np.full((*self.GRID.shape_zyx, 3), -2.0, np.float32)
        field[5:25, 5:-5, 5:-5] = (3.0, 0.0, 0.0)
        continued = extrapolate_border(field, self.pair(seen))
        assert np.allclose(continued[:30], (3.0, 0.0, 0.0), atol=1e-3)

    def test_inner_displacements_are_kept(self) -> None:
        field = np.random.default_rng(5).normal(0, 2, (*self.GRID.shape_zyx, 3)).astype(np.float32)
        seen = np.ones(self.GRID.shape_zyx, bool)
        continued = extrapolate_border(field, self.pair(seen))
        assert np.array_equal(continued[10:-10, 10:-10, 10:-10], field[10:-10, 10:-10, 10:-10])
        assert not np.array_equal(continued[:4], field[:4]) and np.isfinite(continued).all()

    @pytest.mark.parametrize("sigma", [0.7, 5.0, 40.0])
    def test_means_at_some_voxels_are_those_of_the_whole_filter(self, sigma: float) -> None:
        rng = np.random.default_rng(6)
        volume = rng.normal(size=self.GRID.shape_zyx).astype(np.float32)
        for share in (0.5, 0.001, 0.0):
            voxels = rng.random(volume.shape) < share
            expected = gaussian_filter(volume, sigma)[voxels]
            np.testing.assert_array_equal(_gaussian_at(voxels, volume, sigma), expected)

    def test_scans_with_almost_no_overlap(self) -> None:
        field = np.ones((*self.GRID.shape_zyx, 3), np.float32)
        seen = np.zeros(self.GRID.shape_zyx, bool)
        seen[:3] = True
        assert extrapolate_border(field, self.pair(seen)) is field


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is at hand")
def test_gpu_and_cpu_agree(found: Registration) -> None:
    on_gpu = DeformableBackend("cuda").register(FOLLOWUP, BASELINE)
    one, other = (way.transform.fixed_to_moving(FIXED_MM) for way in (found, on_gpu))
    assert np.linalg.norm(one - other, axis=1).max() <= 0.5


def test_a_field_that_folds_is_smoothed_until_it_does_not() -> None:
    grid = Geometry((40, 40, 40), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    u = np.full((40, 40, 40, 3), 5.0, np.float32)
    assert unfolded(calm := FieldTransform(LinearTransform.identity(), u, grid)) is calm
    u[15:25, 15:25, 15:25] += np.random.default_rng(6).normal(0.0, 8.0, (10, 10, 10, 3))
    torn = FieldTransform(LinearTransform.identity(), u, grid)
    assert folding_share(torn) > 0.001
    mended = unfolded(torn)
    assert folding_share(mended) <= 0.001
    assert mended.displacement([(6.0, 6.0, 6.0)])[0] == pytest.approx([5.0, 5.0, 5.0], abs=0.01)
