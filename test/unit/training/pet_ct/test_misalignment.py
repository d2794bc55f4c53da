"""Misalignment of the CT."""

from __future__ import annotations

import numpy as np

from model.training.augment_spatial import draw_spatial, identity_transform
from model.training.interactive_settings import InteractiveSettings
from model.training.pet_ct.misalignment import draw_misalignment

from ....helpers.training_phantoms import config

SHAPE = (16, 20, 24)


def test_turns_and_shifts_are_drawn_each_with_its_probability_within_their_ranges() -> None:
    rng, still = np.random.default_rng(0), identity_transform(SHAPE)
    drawn = [draw_misalignment(still, InteractiveSettings(), rng) for _ in range(2000)]
    turned = [transform for transform, _ in drawn if not transform.is_rigid_copy]
    moved = [shift for _, shift in drawn if shift != (0, 0, 0)]
    assert 150 < len(turned) < 250 and 140 < len(moved) < 240  # one of 25 shifts is none
    assert all(z == 0 and -2 <= y <= 2 and -2 <= x <= 2 for z, y, x in moved)
    assert {y for _, y, _ in moved} == {-2, -1, 0, 1, 2}
    for transform in turned:
        angle = np.degrees(np.arccos((np.trace(transform.matrix) - 1) / 2))
        assert 0 < angle < 5 * np.sqrt(3) + 0.1


def test_the_misalignment_comes_before_the_samples_transform() -> None:
    settings = InteractiveSettings(misalignment_probability=1)
    rotated = draw_spatial(
        config(rotation_probability=1, scaling_probability=1), SHAPE, (8, 10, 12), np.random.default_rng(1)
    )
    ct, _ = draw_misalignment(rotated, settings, np.random.default_rng(2))
    alone, _ = draw_misalignment(identity_transform(SHAPE), settings, np.random.default_rng(2))
    np.testing.assert_allclose(ct.matrix, alone.matrix @ rotated.matrix)
    assert ct.pivot == rotated.pivot and ct.mirrored == rotated.mirrored


def test_flat_patches_are_turned_in_their_plane_only() -> None:
    settings = InteractiveSettings(misalignment_probability=1)
    ct, _ = draw_misalignment(identity_transform((4, 32, 32)), settings, np.random.default_rng(0))
    assert not ct.is_rigid_copy and np.allclose(ct.matrix[0], [1, 0, 0])


def test_none_is_drawn_if_it_is_off() -> None:
    still = identity_transform(SHAPE)
    settings = InteractiveSettings(misalignment_probability=0)
    rng = np.random.default_rng(0)
    assert all(draw_misalignment(still, settings, rng) == (still, (0, 0, 0)) for _ in range(20))
