"""Pairs and classical segmenter of the boosting benchmark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.case.case import LesionResult
from test.benchmark.boosting import dice
from test.benchmark.click_segmenter import CachingSegmenter, ClickSegmenter
from test.benchmark.lesion_pairs import LUNG_HU, PER_PAIR, TISSUE_HU, Change, LesionPair, lesion_pairs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair() -> LesionPair:
    (first,) = lesion_pairs(1)
    return first


def test_lesions_lie_where_the_truth_says(pair: LesionPair) -> None:
    assert len(pair.lesions) == sum(PER_PAIR.values())
    assert {lesion.change for lesion in pair.lesions} == set(Change)
    assert pair.baseline.mask is not None
    for lesion in pair.lesions:
        hu = LUNG_HU if lesion.tissue == "lung" else TISSUE_HU
        assert np.median(pair.baseline.ct[pair.baseline.mask == lesion.lesion_id]) == pytest.approx(
            hu, abs=20
        )
        if lesion.change is Change.VANISHED:
            assert lesion.box.is_empty and not lesion.truth.size
            continue
        assert np.median(pair.followup.ct[lesion.box.slices][lesion.truth]) == pytest.approx(hu, abs=20)
        middle = np.argwhere(lesion.truth).mean(axis=0) + lesion.box.start_zyx
        assert middle == pytest.approx(lesion.followup_zyx, abs=0.6)


def test_lesions_change_by_their_scale(pair: LesionPair) -> None:
    assert pair.baseline.mask is not None
    for lesion in pair.lesions:
        before = np.count_nonzero(pair.baseline.mask == lesion.lesion_id)
        after = np.count_nonzero(lesion.truth)
        voxels = pair.baseline.geometry.voxel_volume_ml / pair.followup.geometry.voxel_volume_ml
        assert after == pytest.approx(before * voxels * lesion.change.scale**3, rel=0.35, abs=10)


def test_the_same_for_a_seed_and_another_for_another(pair: LesionPair) -> None:
    (again,), (other,) = lesion_pairs(1), lesion_pairs(1, seed=1)
    assert np.array_equal(pair.followup.ct, again.followup.ct)
    assert pair.lesions[0].followup_zyx != other.lesions[0].followup_zyx


def test_region_growing_and_cached_results(pair: LesionPair) -> None:
    lesion = next(one for one in pair.lesions if one.tissue == "lung" and one.change is Change.SAME)
    z, y, x = lesion.followup_zyx
    prompts = [pair.prompt(lesion, (z, y, x)), pair.prompt(lesion, (z, y, x + 3))]
    cache = CachingSegmenter(ClickSegmenter())
    first = list(cache.segment(prompts))
    again = list(cache.segment([replace(prompts[1])]))
    for result in (*first, *again):
        assert isinstance(result, LesionResult) and dice(lesion, result) > 0.6
    assert [result.prompt for result in first] == prompts and cache.calls == 3
