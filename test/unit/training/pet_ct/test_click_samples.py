"""Samples of the interactive network: patches, channels, targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.case.geometry import Box
from model.case.tumor_clicks import ClickKind
from model.errors import InputError
from model.network.pet_ct import tile_channels
from model.training.augment import Sample
from model.training.config import TrainingConfig
from model.training.pet_ct.click_samples import ClickSamples
from model.training.sample_sources import sample_source

from ....helpers.study_phantoms import patients_with, studies, study
from ....helpers.training_phantoms import config, patients

PATCH = (24, 24, 24)


def _config(**changes: Any) -> TrainingConfig:
    return config(variant="interactive", organs=0, **changes)


def _sample(one: ClickSamples, seed: int, augmented: bool = False) -> Sample:
    return one.sample(np.random.default_rng(seed), augmented)


def test_channels_without_augmentation_are_a_tile_of_inference() -> None:
    """CT, PET and both click maps as `tile_channels` draws them, in a patch that is the whole image."""
    one = study("S", PATCH)
    sample = _sample(ClickSamples(patients_with(one), PATCH, _config()), 3)
    np.testing.assert_array_equal(sample.target, one.labels > 0)
    clicked = {k: sample.channels[2 + n] == 1 for n, k in enumerate(ClickKind)}
    voxels = {k: [tuple(v) for v in np.argwhere(mask).tolist()] for k, mask in clicked.items()}
    expected = tile_channels(np.stack([one.ct, one.pet]), voxels, Box.of_shape(PATCH))  # type: ignore[arg-type]
    np.testing.assert_array_equal(sample.channels, expected)
    assert sample.channels.dtype == np.float32 and sample.target.dtype == np.uint8 and sample.organs is None


def test_clicks_are_drawn_after_augmentation_inside_of_the_patch() -> None:
    source = ClickSamples(studies(), PATCH, _config(rotation_probability=1.0, scaling_probability=1.0))
    seen = np.zeros(2, int)
    for seed in range(8):
        sample = _sample(source, seed, augmented=True)
        tumor, background = (sample.channels[number] == 1 for number in (2, 3))
        assert (sample.target[tumor] == 1).all() and (sample.target[background] == 0).all()
        seen += (tumor.any(), background.any())
    assert (seen > 3).all()


def test_the_foreground_fraction_of_patches_shows_tumour_in_its_middle() -> None:
    one = patients_with(study("S", (90, 90, 90)))
    always = ClickSamples(one, (16, 16, 16), _config(foreground_fraction=1))
    assert all(_sample(always, seed).target[8, 8, 8] for seed in range(8))
    never = ClickSamples(one, (16, 16, 16), _config(foreground_fraction=0))
    assert np.mean([_sample(never, seed).target.any() for seed in range(30)]) < 0.5


def test_a_small_image_is_centred_as_tiles_are_at_inference() -> None:
    one = study("S", (21, 24, 40), has_tumor=False)
    sample = _sample(ClickSamples(patients_with(one), PATCH, _config()), 0)
    np.testing.assert_array_equal(sample.channels[0][1:22].any((1, 2)), True)
    assert not sample.channels[:2, :1].any() and not sample.channels[:2, 22:].any()
    assert not sample.target.any()


def test_only_the_ct_is_misaligned() -> None:
    one = patients_with(study("S", PATCH))
    plain = {"mirror": False, "rotation_probability": 0.0, "scaling_probability": 0.0, "intensity": False}
    still = ClickSamples(one, PATCH, _config(misalignment_probability=0.0, **plain))
    moved = ClickSamples(one, PATCH, _config(misalignment_probability=1.0, **plain))
    first, second = _sample(still, 1, True), _sample(moved, 1, True)
    np.testing.assert_array_equal(first.channels[1], second.channels[1])
    np.testing.assert_array_equal(first.target, second.target)
    assert not np.array_equal(first.channels[0], second.channels[0])
    inside = (slice(4, -4),) * 3
    assert np.corrcoef(first.channels[0][inside].ravel(), second.channels[0][inside].ravel())[0, 1] > 0.3


def test_organs_go_with_the_patch_as_labels() -> None:
    settings = config(variant="interactive", organs=2, rotation_probability=1.0)
    one = patients_with(study("S", (40, 44, 48)))
    sample = _sample(ClickSamples(one, PATCH, settings), 5, augmented=True)
    assert sample.organs is not None and set(np.unique(sample.organs)) <= {0, 1, 2}
    assert sample.organs.shape == PATCH and sample.organs.dtype == np.uint8


def test_studies_count_alike_if_pairs_are_drawn() -> None:
    many = patients_with(*(study(f"S{n}", PATCH, has_tumor=n == 0) for n in range(3)))
    source = ClickSamples(many, PATCH, _config(draw="pairs"))
    assert {_sample(source, seed).target.any() for seed in range(12)} == {True, False}


def test_data_without_a_pet_are_refused() -> None:
    with pytest.raises(InputError, match="hold no PET"):
        sample_source(patients(), PATCH, _config())


def test_a_seed_gives_the_same_sample() -> None:
    source = ClickSamples(studies(), PATCH, _config())
    first, second = _sample(source, 7, True), _sample(source, 7, True)
    np.testing.assert_array_equal(first.channels, second.channels)
