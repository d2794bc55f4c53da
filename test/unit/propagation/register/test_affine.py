"""Linear registration of scans with known motions, of real pairs, and of scans that do not match."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from model.case.geometry import AxisMap, FloatArray, Geometry
from model.propagation.register import Registration, RegistrationImage, backend
from model.propagation.register.grids import block_average
from model.propagation.register.linear import LinearTransform

from ....helpers.registration_scans import (
    around,
    centroid_mm,
    elsewhere,
    followup_of,
    grid_like,
    part_of,
    phantom,
    read,
    turn,
)

pytestmark = pytest.mark.slow

CT = "lidc_0314/lidc0314_2mm_ct.nii.gz"
MASK = "lidc_0314/lidc0314_2mm_mask.nii.gz"
Pair = tuple[RegistrationImage, RegistrationImage, LinearTransform]
Motion = Callable[[RegistrationImage], Pair]
Registered = Callable[[Motion], tuple[Registration, LinearTransform]]


@pytest.fixture(scope="module")
def thorax() -> RegistrationImage:
    """The real thorax at 4 mm, so that each test takes about a second."""
    hu, _, geometry = block_average(read(CT), 4.0)
    return RegistrationImage(np.round(hu).astype(np.int16), geometry)


@pytest.fixture(scope="module")
def nodule_mm() -> FloatArray:
    return centroid_mm(MASK)


def moved(thorax: RegistrationImage, degrees: float = 5.0, noise_hu: float = 0.0) -> Pair:
    """Follow-up, baseline, truth: rotated, 64 mm away, on another grid."""
    truth = around(thorax.geometry, turn(degrees), (15.0, 40.0, -48.0))
    grid = grid_like(thorax.geometry, truth, (3.3, 3.3, 5.0))
    return followup_of(thorax, grid, truth, noise_hu), thorax, truth


def couch_only(thorax: RegistrationImage) -> Pair:
    truth = LinearTransform.translation((0.0, 0.0, 45.0))
    return followup_of(thorax, grid_like(thorax.geometry, truth, (4.0, 4.0, 2.5)), truth), thorax, truth


def noisy(thorax: RegistrationImage) -> Pair:
    return moved(thorax, noise_hu=120.0)


def other_table(thorax: RegistrationImage) -> Pair:
    followup, baseline, truth = moved(thorax)
    return _swap(elsewhere(followup, truth, (300.0, -200.0, 800.0)), baseline)


def _swap(moved_scan: tuple[RegistrationImage, LinearTransform], baseline: RegistrationImage) -> Pair:
    return moved_scan[0], baseline, moved_scan[1]


def followup_is_the_top(thorax: RegistrationImage) -> Pair:
    followup, baseline, truth = moved(thorax)
    return _swap(elsewhere(part_of(followup, 0.42, 1.0), truth, (0.0, 45.0, -300.0)), baseline)


def baseline_is_the_top(thorax: RegistrationImage) -> Pair:
    followup, baseline, truth = moved(thorax)
    return _swap(elsewhere(followup, truth, (0.0, 45.0, -300.0)), part_of(baseline, 0.42, 1.0))


def common_third(thorax: RegistrationImage) -> Pair:
    followup, baseline, truth = moved(thorax)
    return _swap(
        elsewhere(part_of(followup, 0.4, 1.0), truth, (0.0, 45.0, 400.0)), part_of(baseline, 0, 0.72)
    )


def oblique_and_flipped(thorax: RegistrationImage) -> Pair:
    """The gantry is tilted, and the file runs against the patient's axes."""
    truth = around(thorax.geometry, turn(4.0), (10.0, -30.0, 40.0))
    straight = grid_like(thorax.geometry, truth, (3.5, 3.5, 4.5))
    tilted = turn(15.0, (1.0, 0.0, 0.0))
    centre = truth.moving_to_fixed(
        thorax.geometry.voxel_to_world((np.array(thorax.geometry.size_xyz) - 1) / 2)
    )
    origin = centre - tilted @ ((np.array(straight.size_xyz) - 1) / 2 * straight.spacing_xyz)
    x, y, z = (float(value) for value in origin)
    grid = Geometry(straight.size_xyz, straight.spacing_xyz, (x, y, z), tuple(tilted.ravel().tolist()))
    followup = followup_of(thorax, grid, truth)
    axes = AxisMap(flipped=(False, True, True))
    flipped = RegistrationImage(axes.array(followup.array), grid.reoriented(axes))
    return flipped, thorax, truth


def other_couch(thorax: RegistrationImage) -> Pair:
    """The patient has moved relative to the couch, which both scans show."""
    followup, baseline, truth = moved(thorax)
    scans = []
    for scan, row_mm in ((followup, 320.0), (baseline, 350.0)):
        array = scan.array.copy()
        row = int(row_mm / scan.geometry.spacing_xyz[1])
        couch = array[:, row : row + 2]
        couch[couch < -500] = 200
        scans.append(RegistrationImage(array, scan.geometry))
    return scans[0], scans[1], truth


def padded_and_broken(thorax: RegistrationImage) -> Pair:
    """Round field of view with GE's padding, NaN and infinities in one scan."""
    followup, baseline, truth = moved(thorax)
    array = followup.array.astype(np.float32)
    _, height, width = array.shape
    y, x = np.ogrid[:height, :width]
    array[:, (y - height / 2) ** 2 + (x - width / 2) ** 2 > (width / 2) ** 2] = -3024
    array[::7, ::5, ::3] = np.nan
    array[3, :10, :10] = np.inf
    return RegistrationImage(array, followup.geometry), baseline, truth


@pytest.fixture(scope="module")
def registered(thorax: RegistrationImage) -> Registered:
    """Registers the thorax that was moved in some way, once; also returns the true transform."""

    @cache
    def register(make: Motion) -> tuple[Registration, LinearTransform]:
        followup, baseline, truth = make(thorax)
        return backend("affine").register(followup, baseline), truth

    return register


@pytest.mark.parametrize(
    "make",
    [
        couch_only,
        moved,
        noisy,
        other_table,
        followup_is_the_top,
        baseline_is_the_top,
        common_third,
        oblique_and_flipped,
        other_couch,
        padded_and_broken,
    ],
)
def test_known_motions_of_a_nodule_are_recovered(
    registered: Registered, nodule_mm: FloatArray, make: Motion
) -> None:
    found, truth = registered(make)
    assert found.is_reliable, found.warnings
    assert not found.warnings
    assert found.similarity > 0.9
    true_mm = truth.moving_to_fixed(nodule_mm)
    assert _error_mm(found.transform.moving_to_fixed(nodule_mm), true_mm) < 2.0
    assert _error_mm(found.transform.fixed_to_moving(true_mm), nodule_mm) < 2.0


def _error_mm(found: FloatArray, wanted: FloatArray) -> float:
    """Mean distance of two lists of points."""
    return float(np.linalg.norm(found - wanted, axis=1).mean())


def test_a_stretched_patient_needs_the_affine_transform(
    thorax: RegistrationImage, nodule_mm: FloatArray
) -> None:
    truth = around(thorax.geometry, np.diag([1.05, 0.95, 1.08]), (15.0, 40.0, -50.0))
    followup = followup_of(thorax, grid_like(thorax.geometry, truth, (4.0, 4.0, 4.0)), truth)
    wanted = truth.moving_to_fixed(nodule_mm)
    rigid, affine = (backend(name).register(followup, thorax).transform for name in ("rigid", "affine"))
    assert _error_mm(affine.moving_to_fixed(nodule_mm), wanted) < 1.0
    assert _error_mm(rigid.moving_to_fixed(nodule_mm), wanted) < 10.0
    assert isinstance(rigid, LinearTransform)
    np.testing.assert_allclose(rigid.matrix @ rigid.matrix.T, np.eye(3), atol=1e-9)


def test_registration_is_reproducible(
    registered: Registered, thorax: RegistrationImage, nodule_mm: FloatArray
) -> None:
    followup, baseline, _ = moved(thorax)
    first, second = registered(moved)[0].transform, backend("affine").register(followup, baseline).transform
    np.testing.assert_allclose(first.moving_to_fixed(nodule_mm), second.moving_to_fixed(nodule_mm), atol=1e-4)


def test_half_a_turn_is_found_and_flagged(thorax: RegistrationImage, nodule_mm: FloatArray) -> None:
    """The header says supine, and the patient is prone."""
    truth = around(thorax.geometry, turn(175.0, (0.0, 0.0, 1.0)), (0.0, 30.0, 40.0))
    followup = followup_of(thorax, grid_like(thorax.geometry, truth, (4.0, 4.0, 5.0)), truth)
    found = backend("rigid").register(followup, thorax)
    assert not found.is_reliable and "half a turn" in found.warnings[0]
    true_mm = truth.moving_to_fixed(nodule_mm)
    assert _error_mm(found.transform.moving_to_fixed(nodule_mm), true_mm) < 2.0


@pytest.mark.parametrize("backwards", [False, True])
def test_two_phases_of_breathing(backwards: bool) -> None:
    baseline, followup = (
        read("opentps_4dct/phase00_ct_2mm.nii.gz"),
        read("opentps_4dct/phase60_ct_originfixed.nii.gz"),
    )
    before = centroid_mm("opentps_4dct/phase00_2mm_lesion_semiauto.nii.gz")
    after = centroid_mm("opentps_4dct/phase60_lesion_semiauto_originfixed.nii.gz")
    if backwards:
        baseline, followup, before, after = followup, baseline, after, before
    found = backend("affine").register(followup, baseline)
    assert found.is_reliable
    assert _error_mm(found.transform.moving_to_fixed(before), after) < 7.0


@pytest.mark.parametrize("name", ["affine", "rigid"])
def test_known_motions_of_a_phantom_are_recovered(name: str) -> None:
    baseline = phantom()
    truth = around(baseline.geometry, turn(4.0), (20.0, -15.0, 60.0))
    followup = followup_of(baseline, grid_like(baseline.geometry, truth, (4.0, 4.0, 6.0)), truth, 20.0)
    found = backend(name).register(followup, baseline)
    points = baseline.geometry.voxel_to_world([(20, 25, 20), (40, 20, 25), (30, 35, 15)])
    assert found.is_reliable
    assert _error_mm(found.transform.moving_to_fixed(points), truth.moving_to_fixed(points)) < 2.5


def filled(size_xyz: tuple[int, int, int], spacing_mm: float, hu: float = 0.0) -> RegistrationImage:
    array = np.full(size_xyz[::-1], hu, np.float32)
    return RegistrationImage(array, Geometry(size_xyz, (spacing_mm,) * 3, (1.0, 2.0, 3.0)))


def static(size_xyz: tuple[int, int, int], spacing_mm: float) -> RegistrationImage:
    scan = filled(size_xyz, spacing_mm)
    noise = np.random.default_rng(3).normal(-300.0, 300.0, scan.array.shape)
    return RegistrationImage(noise.astype(np.int16), scan.geometry)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (static((10, 10, 3), 1.0), "too small"),
        (static((17, 17, 40), 1.0), "too small"),
        (static((1, 1, 1), 1.0), "too small"),
        (static((200, 200, 1), 1.0), "too small"),
        (filled((30, 30, 30), 5.0), "could not be aligned"),
        (filled((30, 30, 30), 5.0, -1000.0), "could not be aligned"),
        (filled((30, 30, 30), 5.0, float("nan")), "could not be aligned"),
    ],
)
@pytest.mark.parametrize("bad_is_followup", [False, True])
def test_scans_that_cannot_be_registered_fall_back_to_headers(
    bad: RegistrationImage, says: str, bad_is_followup: bool
) -> None:
    good = phantom()
    x, y, z = good.geometry.voxel_to_world((30, 25, 20)) - 10
    geometry = Geometry(bad.geometry.size_xyz, bad.geometry.spacing_xyz, (x, y, z))
    bad = RegistrationImage(bad.array, geometry)
    found: Registration = backend("affine").register(*((bad, good) if bad_is_followup else (good, bad)))
    assert not found.is_reliable
    assert len(found.warnings) == 1
    assert says in found.warnings[0]
    assert found.transform.moving_to_fixed([(1.0, 2.0, 3.0)]) == pytest.approx(np.array([[1.0, 2.0, 3.0]]))


def test_scans_without_overlap_give_a_warning() -> None:
    far = elsewhere(static((30, 30, 30), 5.0), LinearTransform.identity(), (2000.0, 0.0, 0.0))[0]
    found = backend("affine").register(phantom(), far)
    assert not found.is_reliable
    assert found.warnings


def test_the_input_is_not_modified() -> None:
    scan = phantom()
    scan.array.flags.writeable = False
    assert backend("rigid").register(scan, scan).similarity == pytest.approx(1.0, abs=1e-6)


def test_importing_the_package_imports_neither_torch_nor_itk() -> None:
    code = "import sys, model.propagation.points; print({'torch', 'SimpleITK'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
