"""Varied baseline masks: each kind does what it says, and samples without the setting stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.case.geometry import Array
from model.training import mask_variation
from model.training.augment import make_sample
from model.training.mask_variation import vary_mask
from model.training.sampler import Sampler

from ...helpers.training_phantoms import PATCH, config, patients

_CENTRE = (12, 11, 13)


def _ball(radius: float) -> Array:
    offset = np.indices(PATCH).transpose(1, 2, 3, 0) - _CENTRE
    return np.asarray((np.linalg.norm(offset, axis=-1) <= radius).astype(np.float32))


@pytest.fixture
def one_kind(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """All draws are of one kind."""
    monkeypatch.setattr(mask_variation, "_KINDS", (getattr(mask_variation, request.param),))
    return [vary_mask(_ball(5), _CENTRE, np.random.default_rng(seed)) > 0.5 for seed in range(20)]


@pytest.mark.parametrize("one_kind", ["_dropped"], indirect=True)
def test_a_dropped_mask_is_empty(one_kind: list[Array]) -> None:
    assert not np.any(one_kind)


@pytest.mark.parametrize("one_kind", ["_eroded"], indirect=True)
def test_an_eroded_mask_lies_inside_and_is_never_empty(one_kind: list[Array]) -> None:
    lesion = _ball(5) > 0.5
    assert all(mask.any() and not (mask & ~lesion).any() and mask.sum() < lesion.sum() for mask in one_kind)


@pytest.mark.parametrize("one_kind", ["_dilated"], indirect=True)
def test_a_dilated_mask_contains_the_lesion_and_is_larger(one_kind: list[Array]) -> None:
    lesion = _ball(5) > 0.5
    assert all((mask[lesion]).all() and mask.sum() > lesion.sum() for mask in one_kind)


@pytest.mark.parametrize("one_kind", ["_shifted"], indirect=True)
def test_a_shifted_mask_keeps_its_shape(one_kind: list[Array]) -> None:
    size = (_ball(5) > 0.5).sum()
    assert all(mask.sum() == size for mask in one_kind)
    assert len({tuple(np.argwhere(mask).mean(0).round(3)) for mask in one_kind}) > 5


@pytest.mark.parametrize("one_kind", ["_replaced"], indirect=True)
def test_a_replaced_mask_lies_around_the_point_in_other_sizes(one_kind: list[Array]) -> None:
    assert all(mask[_CENTRE] for mask in one_kind)
    ratios = np.array([mask.sum() for mask in one_kind]) / (_ball(5) > 0.5).sum()
    assert ratios.min() < 0.8 and ratios.max() > 1.25


@pytest.mark.parametrize("radius", [0.4, 100.0])
def test_masks_of_one_voxel_and_of_the_whole_patch_can_be_varied(radius: float) -> None:
    for seed in range(20):
        varied = vary_mask(_ball(radius), _CENTRE, np.random.default_rng(seed))
        assert varied.shape == PATCH and set(np.unique(varied)) <= {0.0, 1.0}


def test_a_mask_can_be_shifted_out_of_a_patch_thinner_than_its_lesion() -> None:
    flat = np.ones((4, 40, 40), np.float32)
    masks = [
        mask_variation._shifted(flat > 0, (2, 20, 20), np.random.default_rng(seed)) for seed in range(40)
    ]
    assert {mask.shape for mask in masks} == {flat.shape}
    assert any(not mask.any() for mask in masks) and any(mask.any() for mask in masks)


def test_an_empty_mask_stays_empty() -> None:
    empty = np.zeros(PATCH, np.float32)
    assert all(not vary_mask(empty, _CENTRE, np.random.default_rng(seed)).any() for seed in range(10))


def test_only_the_mask_of_a_sample_changes() -> None:
    plain, varied = config(), config(varied_masks=1.0)
    changed = 0
    for seed in range(8):
        draw = Sampler(patients(), PATCH, plain).draw(np.random.default_rng(seed))
        one = make_sample(draw, plain, np.random.default_rng(seed), augmented=True)
        other = make_sample(draw, varied, np.random.default_rng(seed), augmented=True)
        assert np.array_equal(one.target, other.target)
        assert np.array_equal(one.channels[[0, 1, 3, 4]], other.channels[[0, 1, 3, 4]])
        changed += not np.array_equal(one.channels[2], other.channels[2])
    assert changed > 4


def test_validation_samples_keep_their_masks() -> None:
    draw = Sampler(patients(), PATCH, config()).draw(np.random.default_rng(1))
    samples = [
        make_sample(draw, config(varied_masks=share), np.random.default_rng(1), augmented=False)
        for share in (0.0, 1.0)
    ]
    assert np.array_equal(samples[0].channels, samples[1].channels)
