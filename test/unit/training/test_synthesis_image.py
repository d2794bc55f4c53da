"""The patient moves and is examined again; the saved displacement tells where everything went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from model.propagation.propagate import Direction, propagate_points
from model.propagation.register.stored import read_transform, save_transform
from model.training.synthesis.appearance import changed, halo_slices
from model.training.synthesis.draw import AppearanceDraw, MotionDraw
from model.training.synthesis.motion import motion_of
from model.training.synthesis.settings import AppearanceSettings, MotionSettings, SynthesisSettings

from .synthesis_phantom import BIG, GRID, SMALL, STILL, made, scan

MOVING = replace(STILL, motion=MotionSettings(elastic_magnitude=(0.2, 0.2), elastic_scale=(0.15, 0.15)))


@pytest.mark.parametrize("number", (1, 2))
def test_propagation_through_the_saved_field_finds_the_lesions(tmp_path: Path, number: int) -> None:
    baseline = scan()
    _, followup = made(baseline, MOVING, number=number)
    assert followup.min_jacobian > 0 and followup.field_error_mm < 0.5
    # Ids are those of the baseline, never between two of them.
    assert set(np.unique(followup.labels)) == set(np.unique(baseline.labels))
    assert followup.labels.dtype == np.uint16 and followup.ct.dtype == np.int16
    save_transform(tmp_path / "displacement.mha", followup.displacement)
    transform = read_transform(tmp_path / "displacement.mha")
    for lesion_id in (BIG, SMALL):
        before, after = baseline.labels == lesion_id, followup.labels == lesion_id
        centre = np.argwhere(before).mean(axis=0)
        moved = propagate_points(centre[None], GRID, GRID, transform)[0]
        true = np.argwhere(after).mean(axis=0)
        assert np.linalg.norm((moved - true) * GRID.spacing_zyx) < 1.5
        # Every voxel inside of the lesion lies in the lesion again, grown or shrunk.
        inner = np.argwhere(ndimage.binary_erosion(before))
        there = np.rint(propagate_points(inner, GRID, GRID, transform)).astype(int)
        assert after[tuple(there.T)].mean() > 0.95
        # A small one's voxels are those that it fills most, at times by half.
        back = np.argwhere(ndimage.binary_erosion(after) if lesion_id == BIG else after)
        origin = np.rint(propagate_points(back, GRID, GRID, transform, Direction.TO_BASELINE)).astype(int)
        assert before[tuple(origin.T)].mean() > (0.95 if lesion_id == BIG else 0.6)


def test_the_patient_alone_moves_rigidly() -> None:
    draw = MotionDraw((3.0, -2.0, 4.0), 1.0, (5.0, -3.0, 1.0), (0.05,) * 3, (0.0,) * 3, 0)
    motion = motion_of(draw, GRID, MotionSettings())
    assert motion.elastic is None and motion.min_jacobian == pytest.approx(1.0)
    places = np.random.default_rng(0).uniform(0, 60, (3, 50))
    moved = motion.pulled(places)
    before = np.linalg.norm(places[:, :-1] - places[:, 1:], axis=0)
    np.testing.assert_allclose(np.linalg.norm(moved[:, :-1] - moved[:, 1:], axis=0), before)
    centre = motion.centre_mm
    np.testing.assert_allclose(motion.pulled(centre) - centre, [[5.0], [-3.0], [1.0]])


def test_scaling_changes_volumes_by_its_cube() -> None:
    draw = MotionDraw((0.0, 0.0, 0.0), 1.05, (0.0, 0.0, 0.0), (0.05,) * 3, (0.0,) * 3, 0)
    assert motion_of(draw, GRID, MotionSettings()).min_jacobian == pytest.approx(1.05**3)


def test_a_folding_elastic_field_is_weakened() -> None:
    draw = MotionDraw((0.0, 0.0, 0.0), 1.0, (0.0, 0.0, 0.0), (0.1,) * 3, (3.0,) * 3, 0)
    motion = motion_of(draw, GRID, MotionSettings())
    assert motion.elastic_share < 1 and motion.min_jacobian >= 0.3


def test_drawn_motion_keeps_to_the_paper() -> None:
    scalings, angles, shifts = [], [], []
    for number in range(1, 25):
        draw, _ = _drawn(number)
        scalings.append(draw.motion.scaling)
        angles += draw.motion.angles_deg
        shifts += draw.motion.translation_mm
    assert 4 <= sum(scaling == 1.0 for scaling in scalings) <= 20  # p 0.5
    assert min(scalings) >= 0.95 and max(scalings) <= 1.05
    assert 3 < max(angles) <= 5 and -5 <= min(angles) < -3
    assert 3 < max(shifts) <= 5 and -5 <= min(shifts) < -3


def _drawn(number: int):  # type: ignore[no-untyped-def]
    from model.training.synthesis.draw import draw_followup
    from model.training.synthesis.facts import ScanFacts

    facts = ScanFacts((), ())
    return draw_followup(facts, SynthesisSettings(), 1, "scan", number), facts


def test_noise_has_the_stated_strength_and_does_not_depend_on_slabs() -> None:
    draw = AppearanceDraw(0.04, 7, None, None, None)
    hu = np.zeros((8, 60, 60), np.float32)
    chosen = AppearanceSettings()
    noisy = changed(hu, 0, 0.0, (-1e4, 1e4), (1, 1, 1), draw, chosen)
    assert noisy.std() == pytest.approx(0.2 * 282.36, rel=0.02)
    part = changed(hu[3:5], 3, 0.0, (-1e4, 1e4), (1, 1, 1), draw, chosen)
    np.testing.assert_array_equal(part, noisy[3:5])
    assert not hu.any()


def test_brightness_and_contrast_are_the_papers() -> None:
    chosen = AppearanceSettings()
    hu = np.asarray([[[-500.0, 40.0, 300.0]]], np.float32)
    brighter = changed(hu, 0, 0.0, (-1e4, 1e4), (1, 1, 1), AppearanceDraw(None, 0, None, 1.25, None), chosen)
    np.testing.assert_allclose((brighter - chosen.mean_hu) / (hu - chosen.mean_hu), 1.25, rtol=1e-4)
    stretched = changed(
        hu, 0, 40.0, (-600, 320), (1, 1, 1), AppearanceDraw(None, 0, None, None, 1.25), chosen
    )
    np.testing.assert_allclose(stretched[0, 0], [-600.0, 40.0, 320.0])


def test_blur_looks_beyond_its_slab() -> None:
    draw = AppearanceDraw(None, 0, (2.0, 2.0, 2.0), None, None)
    assert halo_slices(draw, (1.0, 1.0, 1.0)) == 8
    assert halo_slices(AppearanceDraw(None, 0, None, None, None), (1.0, 1.0, 1.0)) == 0
