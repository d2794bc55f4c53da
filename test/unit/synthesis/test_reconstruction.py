"""Noise in HU, kernels, slices and contrast phase of another examination."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model.case.geometry import Array, AxisMap
from model.synthesis.draw_types import ReconstructionDraw
from model.synthesis.optional_draws import draw_reconstruction
from model.synthesis.random_draws import draw_followup
from model.synthesis.reconstruction import apply_reconstruction, smooth_field
from model.synthesis.scan_lesions import ScanLesions
from model.synthesis.settings import ReconstructionSettings, SynthesisSettings

SPACING = (2.0, 1.0, 1.0)


def _applied(ct: Array, axial: AxisMap | None = None, **changes: Any) -> Array:
    draw = replace(ReconstructionDraw(seed=3), **changes)
    return apply_reconstruction(ct, SPACING, axial or AxisMap(), draw)


def _flat(hu: int) -> Array:
    return np.full((20, 60, 60), hu, np.int16)


def test_without_a_change_the_scan_is_the_same() -> None:
    ct = _flat(40)
    assert _applied(ct) is ct


def test_noise_is_as_strong_as_drawn_and_correlated_within_slices() -> None:
    noise = _applied(_flat(40), noise_hu=15.0) - 40.0
    assert noise.std() == pytest.approx(15, rel=0.03) and abs(noise.mean()) < 1
    assert (noise[:, 1:] * noise[:, :-1]).mean() > 0.3 * noise.var()
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.1 * noise.var()


def test_kernels_blur_or_sharpen_a_step() -> None:
    ct = _flat(0)
    ct[:, :, 30:] = 100
    slopes = [np.diff(_applied(ct, kernel_mm=width)[10, 30].astype(float)).max() for width in (1.0, -1.0)]
    assert slopes[0] < 60 and slopes[1] > 130


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("width", [1.0, -1.0])
def test_kernels_act_within_slices_in_any_order_of_axes(order: tuple[int, int, int], width: float) -> None:
    axial = AxisMap(order)
    ct = np.zeros((20, 20, 20), np.int16)
    slices = axial.array(ct)  # a view
    slices[10:] = 1000
    assert np.array_equal(_applied(ct, axial, kernel_mm=width), ct)
    slices[10:], slices[:, 10:] = 0, 1000
    assert not np.array_equal(_applied(ct, axial, kernel_mm=width), ct)


@pytest.mark.parametrize("axial", (AxisMap(), AxisMap((1, 0, 2), (False, True, False))))
def test_slices_are_averaged_along_the_axial_axis(axial: AxisMap) -> None:
    axis = axial.order[0]
    ct = np.random.default_rng(0).normal(0, 100, (30, 30, 30)).astype(np.int16)
    thick = _applied(ct, axial, slice_mm=3 * SPACING[axis])
    others = tuple(a for a in range(3) if a != axis)
    # The mean of three voxels, and linear interpolation between such means.
    assert thick.std() < 0.65 * ct.std() and abs(thick.mean() - ct.mean()) < 1
    step = np.diff(thick.astype(float), axis=axis).std()
    assert step < 0.35 * np.diff(ct.astype(float), axis=axis).std()
    for other in others:
        assert np.diff(thick.astype(float), axis=other).std() > 1.3 * thick.std()
    ramp = np.broadcast_to(
        np.reshape(np.arange(30) * 10, [-1 if a == axis else 1 for a in range(3)]), (30,) * 3
    )
    middle = np.take(_applied(ramp.astype(np.int16), axial, slice_mm=3 * SPACING[axis]), range(3, 27), axis)
    assert np.abs(middle - np.take(ramp, range(3, 27), axis)).max() <= 1


def test_enhancement_changes_soft_tissue_and_vessels_only() -> None:
    ct = _flat(50)
    ct[:, :20], ct[:, 20:30], ct[:, 30:40] = -900, 1000, 200
    tissue = _applied(ct, tissue_hu=20.0).astype(int) - ct
    assert np.abs(tissue[:, 40:]).max() > 5 and np.abs(tissue).max() <= 20
    assert not tissue[:, :30].any()
    vessels = _applied(ct, vessel_factor=0.5)
    assert vessels[:, 30:40].mean() == pytest.approx(60 + 140 * 0.5, abs=15)
    assert np.array_equal(vessels[:, :30], ct[:, :30]) and np.array_equal(vessels[:, 40:], ct[:, 40:])


def test_enhancement_keeps_the_order_of_densities() -> None:
    ct = np.arange(-1000, 1400, dtype=np.int16).reshape(1, 1, -1)
    every: tuple[dict[str, Any], ...] = ({"vessel_factor": 1.5}, {"vessel_factor": 0.4}, {"tissue_hu": 30.0})
    for changes in every:
        hu = apply_reconstruction(
            np.repeat(ct, 2, 0), (1.0, 1.0, 0.001), AxisMap(), replace(ReconstructionDraw(seed=1), **changes)
        )
        assert np.diff(hu.astype(int)[0, 0]).min() >= -1


def test_a_smooth_field_is_smooth() -> None:
    field = smooth_field((40, 90, 90), (3.0, 2.0, 2.0), np.random.default_rng(0))
    assert np.abs(field).max() <= 1 and field.std() > 0.2
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.2


def test_changes_are_drawn_as_set_and_change_no_other_draw() -> None:
    settings = ReconstructionSettings(p_noise=0.4, p_kernel=1, p_sharp=0.25, p_slices=0.0)
    draws = [draw_reconstruction(settings, np.random.default_rng(n)) for n in range(300)]
    assert np.mean([d.noise_hu is not None for d in draws]) == pytest.approx(0.4, abs=0.1)
    kernels = [d.kernel_mm for d in draws if d.kernel_mm is not None]
    assert len(kernels) == 300 and np.mean(np.less(kernels, 0)) == pytest.approx(0.25, abs=0.1)
    assert np.abs(kernels).min() >= 0.5 and np.abs(kernels).max() <= 1
    assert all(d.slice_mm is d.tissue_hu is d.vessel_factor is None for d in draws)
    chosen = SynthesisSettings(reconstruction=settings)
    with_it = draw_followup(ScanLesions((), ()), chosen, 0, "scan", 1)
    without = draw_followup(ScanLesions((), ()), SynthesisSettings(), 0, "scan", 1)
    assert replace(with_it, reconstruction=without.reconstruction) == without


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_noise_is_correlated_within_slices_in_any_order_of_axes(order: tuple[int, int, int]) -> None:
    axial = AxisMap(order)
    noise = axial.array(_applied(np.full((30, 30, 30), 40, np.int16), axial, noise_hu=20.0)) - 40.0
    products = [(noise[1:] * noise[:-1]), (noise[:, 1:] * noise[:, :-1]), (noise[..., 1:] * noise[..., :-1])]
    shares = [product.mean() / noise.var() for product in products]
    assert abs(shares[0]) < 0.1 and min(shares[1:]) > 0.3
