"""Lesions grow and shrink as drawn, whatever their size and the scan's grid, and nothing folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.synthesis.displacement import LocalField, min_jacobian
from model.synthesis.draw_types import GrowthDraw
from model.synthesis.growth import grow_lesion
from model.synthesis.growth_region import blur_sigma_mm
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import find_scan_lesions, labelled_lesions
from model.synthesis.settings import GrowthSettings, SynthesisSettings

from ...helpers.synthesis_phantom import BIG, BORDER, GRID, SMALL, STILL, VOXEL, growth, made, scan, voxels

pytestmark = pytest.mark.slow


def _ball(radius: float, spacing: tuple[float, float, float]) -> np.ndarray:
    half = [int(np.ceil(radius / s)) + 2 for s in spacing]
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"))
    distance: np.ndarray = np.linalg.norm(grid * np.reshape(spacing, (3, 1, 1, 1)), axis=0)
    return (distance <= radius).astype(np.uint16)


@settings(max_examples=8, deadline=None)
@given(
    radius=st.floats(0.5, 14.0),
    spacing=st.tuples(st.floats(0.7, 5.0), st.floats(0.7, 2.0), st.floats(0.7, 2.0)),
    grows=st.booleans(),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_lesion_reaches_its_drawn_ratio_without_folding(
    radius: float, spacing: tuple[float, float, float], grows: bool, share: float, seed: int
) -> None:
    labels = _ball(radius, spacing)
    (lesion,) = labelled_lesions(labels, spacing)
    ratio = 1.2 + 1.3 * share if grows else 0.4 + 0.4 * share
    draw = GrowthDraw(1, 25.0 if grows else -22.0, ratio, seed)
    grown = grow_lesion(labels, spacing, lesion, (), draw, GrowthSettings())
    assert grown.is_reached and grown.ratio == pytest.approx(ratio, rel=0.03)
    assert grown.min_jacobian > 0
    assert all(stage.min_jacobian >= 0.3 for stage in grown.stages)
    # It fades to zero at the border of its grid.
    border = grown.field.u_mm.copy()
    border[:, 1:-1, 1:-1, 1:-1] = 0
    assert np.abs(border).max() < 1e-4


@pytest.mark.parametrize("spacing", ((0.2, 0.2, 0.2), (0.35, 0.3, 0.3)))
def test_growth_of_lesions_between_the_nodes_of_the_working_grid(spacing: tuple[float, float, float]) -> None:
    labels = np.zeros((12, 40, 40), np.uint16)
    labels[6, 20, 20], labels[6, 5:9, 5:9] = 1, 2
    for lesion in labelled_lesions(labels, spacing):
        grown = grow_lesion(
            labels, spacing, lesion, (), GrowthDraw(lesion.lesion_id, 15.0, 2.5, 1), GrowthSettings()
        )
        assert grown.is_reached and grown.ratio == pytest.approx(2.5, rel=0.03)
        # The tissue at its middle is stretched as much as the volume.
        centre = np.reshape(np.multiply(lesion.centre_zyx, spacing), (3, 1))
        ends = centre + 0.1 * np.concatenate([np.eye(3), -np.eye(3)], axis=1)
        origin = ends + grown.field.displacement(ends)
        stretch = np.linalg.det((origin[:, :3] - origin[:, 3:]) / 0.2)
        assert 1 / stretch == pytest.approx(2.5, rel=0.2)


def test_a_lesion_outside_the_scan_does_not_reach_its_growth_target() -> None:
    labels = _ball(4.0, (1.0, 1.0, 1.0))
    (lesion,) = labelled_lesions(labels, (1.0, 1.0, 1.0))
    away = LocalField((0, 0, 0), (99, 99, 99), np.full((3, 2, 2, 2), 500, np.float32), reaches_on=True)
    grown = grow_lesion(
        labels, (1.0, 1.0, 1.0), lesion, (away,), GrowthDraw(1, 15.0, 2.0, 1), GrowthSettings()
    )
    assert grown.ratio == 1 and not grown.stages and not grown.is_reached


def test_large_lesions_grow_in_several_moderate_stages() -> None:
    labels = _ball(30.0, (3.0, 1.5, 1.5))
    (lesion,) = labelled_lesions(labels, (3.0, 1.5, 1.5))
    draw = GrowthDraw(1, 25.0, 2.0, 5)
    grown = grow_lesion(labels, (3.0, 1.5, 1.5), lesion, (), draw, GrowthSettings())
    assert len(grown.stages) >= 3 and grown.is_reached
    ratios = [stage.ratio for stage in grown.stages]
    assert ratios == sorted(ratios)
    limit = GrowthSettings().step[1] * 31 * 2 ** (1 / 3)
    assert all(stage.surface_mm <= limit for stage in grown.stages)


def test_a_growth_stage_that_folds_is_damped() -> None:
    labels = _ball(12.0, (1.0, 1.0, 1.0))
    (lesion,) = labelled_lesions(labels, (1.0, 1.0, 1.0))
    wild = replace(GrowthSettings(), amplitudes_mm2=(400.0,), step=(0.8, 0.9), modulation_gain=10.0)
    grown = grow_lesion(labels, (1.0, 1.0, 1.0), lesion, (), GrowthDraw(1, -400.0, 0.3, 1), wild)
    assert any(stage.dampings > 0 for stage in grown.stages)
    assert all(stage.min_jacobian >= wild.min_jacobian for stage in grown.stages)
    assert grown.min_jacobian > 0


def test_the_modulation_makes_growth_uneven_and_gain_zero_makes_it_even() -> None:
    labels = _ball(8.0, (1.0, 1.0, 1.0))
    (lesion,) = labelled_lesions(labels, (1.0, 1.0, 1.0))

    centre = (np.asarray(labels.shape) - 1) / 2

    def spread(gain: float) -> float:
        """Relative spread of the shift over the surface."""
        chosen = replace(GrowthSettings(), modulation_gain=gain)
        field = grow_lesion(labels, (1.0, 1.0, 1.0), lesion, (), GrowthDraw(1, 15.0, 1.6, 3), chosen).field
        directions = np.random.default_rng(0).normal(size=(3, 300))
        positions = centre[:, None] + 9.0 * directions / np.linalg.norm(directions, axis=0)
        shifts = np.linalg.norm(field.displacement(positions), axis=0)
        return float(shifts.std() / shifts.mean())

    assert spread(0.0) < 0.1 < spread(4.0) and spread(4.0) > 2 * spread(0.0)


def test_sigma_follows_the_size_of_the_lesion() -> None:
    chosen = GrowthSettings()
    assert blur_sigma_mm(1.0, chosen) == 4.0 and blur_sigma_mm(60.0, chosen) == 5.5
    assert 4.0 < blur_sigma_mm(15.0, chosen) < 5.5
    assert blur_sigma_mm(1.0, chosen, voxel_mm=0.8) == pytest.approx(3.2)


@pytest.mark.parametrize("amplitude", (-22.0, 15.0))
def test_all_lesions_of_an_image_change_alike_and_keep_their_ids(amplitude: float) -> None:
    baseline = scan()
    draw, followup = made(baseline, growth(amplitudes_mm2=(amplitude,)))
    assert {d.lesion_id for d in draw.growth} == {BIG, SMALL, BORDER, VOXEL}
    assert set(np.unique(followup.labels)) == set(np.unique(baseline.labels))
    for lesion_id in (BIG, SMALL, BORDER):
        change = voxels(followup.labels, lesion_id) - voxels(baseline.labels, lesion_id)
        assert np.sign(change) == np.sign(amplitude)
    for lesion in draw.growth:
        assert followup.growth[lesion.lesion_id].ratio == pytest.approx(lesion.target_ratio, rel=0.03)
    # A voxel cannot shrink: it grows instead, by at least a voxel.
    assert voxels(followup.labels, VOXEL) >= 2


def test_the_labelmap_grows_as_the_field_does() -> None:
    baseline = scan(with_small=False)
    _, followup = made(baseline, growth(amplitudes_mm2=(25.0,), growth_ratio=(2.0, 2.0)))
    ratio = voxels(followup.labels, BIG) / voxels(baseline.labels, BIG)
    assert ratio == pytest.approx(2.0, rel=0.1)


def test_the_image_follows_the_labels() -> None:
    baseline = scan(with_small=False)
    _, followup = made(baseline, growth(amplitudes_mm2=(25.0,), growth_ratio=(2.5, 2.5)))
    new = (followup.labels == BIG) & (baseline.labels == 0)
    assert new.sum() > 100
    assert np.median(followup.ct[new]) > 90  # the lesion's HU where there was tissue


def test_growth_changes_nothing_far_from_lesions() -> None:
    baseline = scan(with_small=False)
    _, followup = made(baseline, STILL)
    far = (slice(24, 30), slice(0, 12), slice(0, 12))
    np.testing.assert_array_equal(followup.ct[far], baseline.ct[far])


def test_amplitudes_may_be_drawn_for_each_lesion() -> None:
    lesions = find_scan_lesions(scan().labels, GRID.spacing_zyx, 1.0)

    def signs(settings: SynthesisSettings) -> set[int]:
        draws = (draw_followup(lesions, settings, 0, "scan", number) for number in range(1, 9))
        return {
            len({np.sign(d.amplitude_mm2) for d in draw.growth if d.lesion_id != VOXEL}) for draw in draws
        }

    assert signs(growth()) == {1}
    assert signs(growth(is_per_lesion=True)) == {1, 2}


def test_determinants_of_a_known_field() -> None:
    positions = np.stack(np.meshgrid(*(np.arange(8.0) * 2,) * 3, indexing="ij"))
    assert min_jacobian((0.1 * positions).astype(np.float32), (2.0, 2.0, 2.0)) == pytest.approx(
        1.331, rel=1e-5
    )
    folded = LocalField((0, 0, 0), (2, 2, 2), (-1.5 * positions).astype(np.float32))
    assert min_jacobian(folded.u_mm, folded.spacing_mm) < 0
