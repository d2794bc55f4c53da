"""Motion and appearance of a follow-up, and propagation through its saved displacement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from model.case.geometry import Box
from model.errors import InputError
from model.propagation.points import Direction, propagate_points
from model.propagation.register.field import FieldTransform, jacobian_determinants
from model.propagation.register.linear import LinearTransform
from model.propagation.register.stored import read_transform, save_transform
from model.synthesis import label_warp, saved_displacement
from model.synthesis.appearance import apply_appearance, halo_slices
from model.synthesis.draw_types import AppearanceDraw, FollowupDraw, MotionDraw
from model.synthesis.motion import build_motion
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import ScanLesions, labelled_lesions
from model.synthesis.settings import AppearanceSettings, MotionSettings, SynthesisSettings

from ...helpers.synthesis_phantom import BIG, GRID, SMALL, STILL, made, scan

MOVING = replace(STILL, motion=MotionSettings(elastic_magnitude=(0.2, 0.2), elastic_scale=(0.15, 0.15)))


@pytest.mark.slow
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


def test_motion_without_elastic_deformation_is_rigid() -> None:
    draw = MotionDraw((3.0, -2.0, 4.0), 1.0, (5.0, -3.0, 1.0), (0.05,) * 3, (0.0,) * 3, 0)
    motion = build_motion(draw, GRID, MotionSettings())
    assert motion.elastic is None and motion.min_jacobian == pytest.approx(1.0)
    positions = np.random.default_rng(0).uniform(0, 60, (3, 50))
    moved = motion.pull_back(positions)
    before = np.linalg.norm(positions[:, :-1] - positions[:, 1:], axis=0)
    np.testing.assert_allclose(np.linalg.norm(moved[:, :-1] - moved[:, 1:], axis=0), before)
    centre = motion.centre_mm
    np.testing.assert_allclose(motion.pull_back(centre) - centre, [[5.0], [-3.0], [1.0]])


def test_scaling_changes_volumes_by_its_cube() -> None:
    draw = MotionDraw((0.0, 0.0, 0.0), 1.05, (0.0, 0.0, 0.0), (0.05,) * 3, (0.0,) * 3, 0)
    assert build_motion(draw, GRID, MotionSettings()).min_jacobian == pytest.approx(1.05**3)


def test_a_folding_elastic_field_is_weakened() -> None:
    draw = MotionDraw((0.0, 0.0, 0.0), 1.0, (0.0, 0.0, 0.0), (0.1,) * 3, (3.0,) * 3, 0)
    motion = build_motion(draw, GRID, MotionSettings())
    assert motion.elastic_share < 1 and motion.min_jacobian >= 0.3


@pytest.mark.slow
def test_a_followup_that_would_fold_is_weakened_and_one_that_still_does_is_refused() -> None:
    def chosen(magnitude: float) -> SynthesisSettings:
        motion = replace(
            STILL.motion,
            p_elastic=1,
            min_jacobian=-1e9,
            elastic_scale=(0.15, 0.15),
            elastic_magnitude=(magnitude, magnitude),
        )
        return replace(STILL, motion=motion)

    baseline = scan(with_small=False)
    assert made(baseline, chosen(0.1))[1].share == 1
    _, followup = made(baseline, chosen(1.5))
    assert followup.share < 1 and followup.min_jacobian > 0
    with pytest.raises(InputError, match="phantom: its follow-up 1 folds even with 0.125"):
        made(baseline, chosen(50.0))


def test_the_smallest_determinant_does_not_depend_on_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for slices in (2, 3, 8, 13):
        u = rng.normal(0, 1, (slices, 5, 6, 3)).astype(np.float32)
        field = FieldTransform(LinearTransform.identity(), u, replace(GRID, size_xyz=(6, 5, slices)))
        whole = float(jacobian_determinants(field).min())
        for nodes in (1, 60, 90, 10_000):
            monkeypatch.setattr(saved_displacement, "_JACOBIAN_NODES", nodes)
            assert saved_displacement.smallest_jacobian(field) == whole


@pytest.mark.slow
def test_scattered_pieces_of_a_small_lesion_are_placed_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((36, 60, 60), np.uint16)
    labels[9:11, 14:17, 14:17], labels[22:25, 40:43, 41:44] = 5, 5
    spacing = (2.0, 1.5, 1.5)
    (lesion,) = labelled_lesions(labels, spacing)

    def pull(positions: np.ndarray) -> np.ndarray:
        pulled: np.ndarray = 0.93 * positions + np.reshape((0.7, 1.1, -0.4), (3, 1))
        return pulled

    def placed(limit: int) -> np.ndarray:
        monkeypatch.setattr(label_warp, "_MAX_SAMPLED_VOXELS", limit)
        followup = np.zeros_like(labels)
        label_warp.place_small(followup, labels, lesion, pull, spacing, lesion.voxels * 1.2)
        return followup

    whole = placed(10**9)
    assert np.count_nonzero(whole) == round(lesion.voxels * 1.2)
    # Only equally filled voxels may differ: those nearer to their own piece are taken.
    shares = label_warp._filled_shares(labels, lesion, pull, spacing, Box.of_shape(labels.shape))
    near = placed(0)
    assert np.count_nonzero(near) == np.count_nonzero(whole)
    assert shares[near > 0].sum() == pytest.approx(shares[whole > 0].sum())
    assert not near[14:20].any()  # nothing between the pieces


def test_drawn_motion_has_the_published_ranges() -> None:
    scalings: list[float] = []
    angles: list[float] = []
    shifts: list[float] = []
    for number in range(1, 25):
        draw = _drawn(number)
        scalings.append(draw.motion.scaling)
        angles += draw.motion.angles_deg
        shifts += draw.motion.translation_mm
    assert 4 <= sum(scaling == 1.0 for scaling in scalings) <= 20  # p 0.5
    assert min(scalings) >= 0.95 and max(scalings) <= 1.05
    assert 3 < max(angles) <= 5 and -5 <= min(angles) < -3
    assert 3 < max(shifts) <= 5 and -5 <= min(shifts) < -3


def _drawn(number: int) -> FollowupDraw:
    return draw_followup(ScanLesions((), ()), SynthesisSettings(), 1, "scan", number)


def test_noise_has_the_stated_strength_and_does_not_depend_on_slabs() -> None:
    draw = AppearanceDraw(0.04, 7, None, None, None)
    hu = np.zeros((8, 60, 60), np.float32)
    chosen = AppearanceSettings()
    noisy = apply_appearance(hu, 0, 0.0, (-1e4, 1e4), (1, 1, 1), draw, chosen)
    assert noisy.std() == pytest.approx(0.2 * 282.36, rel=0.02)
    part = apply_appearance(hu[3:5], 3, 0.0, (-1e4, 1e4), (1, 1, 1), draw, chosen)
    np.testing.assert_array_equal(part, noisy[3:5])
    assert not hu.any()


def test_brightness_and_contrast_as_published() -> None:
    chosen = AppearanceSettings()
    hu = np.asarray([[[-500.0, 40.0, 300.0]]], np.float32)
    brighter = apply_appearance(
        hu, 0, 0.0, (-1e4, 1e4), (1, 1, 1), AppearanceDraw(None, 0, None, 1.25, None), chosen
    )
    np.testing.assert_allclose((brighter - chosen.mean_hu) / (hu - chosen.mean_hu), 1.25, rtol=1e-4)
    stretched = apply_appearance(
        hu, 0, 40.0, (-600, 320), (1, 1, 1), AppearanceDraw(None, 0, None, None, 1.25), chosen
    )
    np.testing.assert_allclose(stretched[0, 0], [-600.0, 40.0, 320.0])


def test_blur_reads_beyond_its_slab() -> None:
    draw = AppearanceDraw(None, 0, (2.0, 2.0, 2.0), None, None)
    assert halo_slices(draw, (1.0, 1.0, 1.0)) == 8
    assert halo_slices(AppearanceDraw(None, 0, None, None, None), (1.0, 1.0, 1.0)) == 0
