"""Uptake of lesions on phantoms with known values: balls, slopes, borders, single voxels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from model.case.geometry import Geometry
from model.interactive.lesion_uptake import (
    PEAK_RADIUS_MM,
    measure_uptake,
    number_lesions,
    peak_sphere,
    total_uptake,
)

FINE = Geometry((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
FLAT = Geometry((36, 30, 16), (1.5, 2.0, 3.0), (0.0, 0.0, 0.0))


def _distances_mm(geometry: Geometry, centre_zyx: tuple[float, ...]) -> npt.NDArray[np.float64]:
    lines = [
        (np.arange(n) - c) * s
        for n, c, s in zip(geometry.shape_zyx, centre_zyx, geometry.spacing_zyx, strict=True)
    ]
    z, y, x = np.meshgrid(*lines, indexing="ij")
    distances: npt.NDArray[np.float64] = np.sqrt(z**2 + y**2 + x**2)
    return distances


def _peak_by_definition(
    inside: npt.NDArray[np.bool_], pet: npt.NDArray[np.float64], geometry: Geometry
) -> float:
    """The largest mean over the voxels within the radius of any voxel of the lesion, voxel by voxel."""
    spheres = (_distances_mm(geometry, tuple(voxel)) <= PEAK_RADIUS_MM for voxel in np.argwhere(inside))
    return max(float(np.nanmean(pet[sphere])) for sphere in spheres)


@pytest.mark.parametrize("geometry", [FINE, FLAT])
def test_a_uniform_ball(geometry: Geometry) -> None:
    centre = tuple((n - 1) / 2 for n in geometry.shape_zyx)
    inside = _distances_mm(geometry, centre) <= 14
    pet = np.where(inside, 8.0, 1.0).astype(np.float32)
    (lesion,) = measure_uptake(inside.astype(np.uint8), pet, geometry)
    assert (lesion.suv_max, lesion.suv_mean) == (8, 8)
    assert lesion.suv_peak == pytest.approx(8, rel=1e-12)  # the sphere fits into the ball
    assert lesion.volume_ml == pytest.approx(4 / 3 * math.pi * 1.4**3, rel=0.02)
    assert lesion.glycolysis_ml == pytest.approx(8 * lesion.volume_ml)
    assert lesion.voxels == inside.sum()


def test_the_peak_of_a_smooth_ball_is_its_mean_over_1_ml() -> None:
    sigma_mm, radius_mm = 6.0, PEAK_RADIUS_MM
    distance = _distances_mm(FINE, (20, 19, 21))
    pet = 10 * np.exp(-((distance / sigma_mm) ** 2) / 2)
    (lesion,) = measure_uptake((pet > 4).astype(np.uint8), pet, FINE)
    t = radius_mm / sigma_mm
    integral = math.sqrt(math.pi / 2) * math.erf(t / math.sqrt(2)) - t * math.exp(-t * t / 2)
    assert lesion.suv_peak == pytest.approx(10 * 3 / t**3 * integral, rel=0.01)
    assert lesion.suv_max == 10 and lesion.hottest_zyx == lesion.peak_zyx == (20, 19, 21)


def test_the_peak_need_not_lie_at_the_hottest_voxel() -> None:
    pet = np.ones(FINE.shape_zyx)
    pet[10, 10, 10] = 50  # a single hot voxel adds less to its millilitre than a warm region does
    pet[_distances_mm(FINE, (25, 25, 25)) <= 9] = 6
    inside = np.zeros(FINE.shape_zyx, np.uint8)
    inside[8:32, 8:32, 8:32] = 1
    (lesion,) = measure_uptake(inside, pet, FINE)
    assert lesion.suv_max == 50 and lesion.hottest_zyx == (10, 10, 10)
    assert lesion.suv_peak == pytest.approx(6)
    assert math.dist(lesion.peak_zyx, (25, 25, 25)) < 4


def test_a_lesion_at_the_border_is_measured_within_the_image() -> None:
    rng = np.random.default_rng(0)
    pet = rng.gamma(2.0, 2.0, FLAT.shape_zyx)
    inside = np.zeros(FLAT.shape_zyx, bool)
    inside[:2, -3:, :4] = True
    (lesion,) = measure_uptake(inside.astype(np.uint8), pet, FLAT)
    assert lesion.suv_peak == pytest.approx(_peak_by_definition(inside, pet, FLAT), rel=1e-9)
    assert lesion.suv_max == pet[inside].max() and lesion.suv_mean == pytest.approx(pet[inside].mean())
    assert lesion.volume_ml == pytest.approx(2 * 3 * 4 * 9e-3)


def test_a_lesion_of_one_voxel() -> None:
    pet = np.zeros(FLAT.shape_zyx, np.float32)
    pet[5, 6, 7] = 30
    (lesion,) = measure_uptake((pet > 0).astype(np.uint8), pet, FLAT)
    assert (lesion.voxels, lesion.suv_max, lesion.suv_mean) == (1, 30, 30)
    assert lesion.suv_peak == pytest.approx(30 / peak_sphere(FLAT.spacing_zyx).sum())
    assert lesion.glycolysis_ml == pytest.approx(30 * 9e-3)


def test_the_sphere_has_one_millilitre_on_fine_grids_and_one_voxel_on_coarse_ones() -> None:
    assert peak_sphere((0.5, 0.4, 0.6)).sum() * 0.12e-3 == pytest.approx(1, rel=0.02)
    assert peak_sphere((7.0, 7.0, 7.0)).shape == (1, 1, 1)
    assert peak_sphere((3.0, 2.0, 6.3)).shape == (5, 7, 1)


def test_voxels_that_are_not_finite_count_in_the_volume_only() -> None:
    rng = np.random.default_rng(1)
    pet = rng.gamma(2.0, 2.0, FLAT.shape_zyx)
    labels = np.zeros(FLAT.shape_zyx, np.uint8)
    labels[4:7, 8:12, 9:13] = 1
    labels[0, 0, 0] = 2
    pet[5, 9, 10], pet[4, 8, 8], pet[0, 0, 0] = np.nan, np.nan, np.inf
    first, second = measure_uptake(labels, pet, FLAT)
    seen = np.where(np.isfinite(pet), pet, np.nan)
    assert first.voxels == 48 and first.suv_mean == pytest.approx(np.nanmean(seen[labels == 1]))
    candidates = (labels == 1) & np.isfinite(pet)
    assert first.suv_peak == pytest.approx(_peak_by_definition(candidates, seen, FLAT), rel=1e-9)
    assert second.volume_ml == pytest.approx(9e-3) and math.isnan(second.suv_max)
    total = total_uptake([first, second])
    assert total.volume_ml == pytest.approx(49 * 9e-3) and total.suv_mean == pytest.approx(first.suv_mean)
    assert total.glycolysis_ml == pytest.approx(first.glycolysis_ml)


def test_lesions_are_numbered_by_size_and_touch_over_corners() -> None:
    mask = np.zeros((6, 12, 12), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # one lesion of two voxels
    mask[3:5, 4:7, 8:10] = True
    mask[0, 11, 11] = mask[5, 11, 11] = True
    labels = number_lesions(mask)
    assert labels.dtype == np.uint8 and labels.shape == mask.shape
    assert labels[3, 4, 8] == 1 and labels[0, 0, 0] == labels[1, 1, 1] == 2
    assert (labels[0, 11, 11], labels[5, 11, 11]) == (3, 4)
    np.testing.assert_array_equal(labels > 0, mask)
    assert not number_lesions(np.zeros((2, 3, 4), bool)).any()


def test_totals() -> None:
    pet = np.ones(FLAT.shape_zyx)
    pet[2:5, 2:5, 2:5], pet[10:12, 20:26, 20:26] = 4, 9
    lesions = measure_uptake(number_lesions(pet > 2), pet, FLAT)
    total = total_uptake(lesions)
    assert [lesion.voxels for lesion in lesions] == [72, 27] and total.lesions == 2
    assert total.volume_ml == pytest.approx(99 * 9e-3)
    assert total.glycolysis_ml == pytest.approx((72 * 9 + 27 * 4) * 9e-3)
    assert total.suv_mean == pytest.approx((72 * 9 + 27 * 4) / 99)
    assert (total.suv_max, total.suv_peak) == (9, max(lesion.suv_peak for lesion in lesions))
    nothing = total_uptake([])
    assert (nothing.lesions, nothing.volume_ml, nothing.glycolysis_ml) == (0, 0, 0)
    assert math.isnan(nothing.suv_max) and math.isnan(nothing.suv_mean)
