"""Overlap and volumes: hand-made masks, bounds, and oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from grand_challenge_metrics.stats import calculate_confusion_matrix, dice_from_confusion_matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from model.evaluation.metrics import Metric, measured_value
from model.evaluation.overlap import Overlap, dice, measure_overlap, untouched_voxels

from ...helpers.evaluation_cases import record

MASKS = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).random((2, 5, 6, 7)) < np.random.default_rng(seed).uniform(0.02, 0.5)
    )
)


def test_counts_of_two_blocks() -> None:
    """24 voxels and 16 with 8 in common; a missed block of 4, and a false voxel."""
    reference, prediction = np.zeros((2, 6, 8, 10), bool)
    reference[0:2, 0:3, 0:4] = True
    prediction[1:3, 1:3, 0:4] = True
    reference[4, 6:8, 0:2] = True
    prediction[5, 7, 9] = True
    assert measure_overlap(reference, prediction) == Overlap(28, 17, 8, 4, 1)
    assert dice(28, 17, 8) == pytest.approx(16 / 45)
    found = record(28, 17, 8, fn=4, fp=1)
    assert measured_value(Metric.RECALL, found) == pytest.approx(8 / 28)
    assert measured_value(Metric.PRECISION, found) == pytest.approx(8 / 17)
    assert measured_value(Metric.FN_VOXELS, found) == 4 and measured_value(
        Metric.FN_ML, found
    ) == pytest.approx(0.04)
    assert measured_value(Metric.FP_VOXELS, found) == 1 and measured_value(
        Metric.FP_ML, found
    ) == pytest.approx(0.01)


def test_components_connect_over_edges_but_not_over_corners() -> None:
    """A chain over an edge and then a corner: two components of 18 neighbours, one of them is touched."""
    mask, other = np.zeros((2, 4, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[1, 2, 2] = True
    other[0, 0, 0] = True
    assert untouched_voxels(mask, other) == 1


def test_empty_masks_have_no_untouched_voxels() -> None:
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert measure_overlap(empty, empty) == Overlap(0, 0, 0, 0, 0)
    assert measure_overlap(full, empty) == Overlap(8, 0, 0, 8, 0)
    assert measure_overlap(empty, full) == Overlap(0, 8, 0, 0, 8)
    nothing = np.zeros((0, 0, 0), bool)
    assert measure_overlap(nothing, nothing) == Overlap(0, 0, 0, 0, 0)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_overlap_equals_the_oracles(masks: np.ndarray) -> None:
    from monai.metrics.meandice import compute_dice  # takes seconds

    reference, prediction = masks
    reference[0, 0, 0] = True
    counts = measure_overlap(reference, prediction)
    ours = dice(counts.reference, counts.prediction, counts.common)
    theirs = compute_dice(torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None])
    assert ours == pytest.approx(float(theirs), rel=1e-6)
    matrix = calculate_confusion_matrix(reference.astype(int), prediction.astype(int), [0, 1])
    assert ours == pytest.approx(dice_from_confusion_matrix(matrix)[1])
    for one, other, count in ((reference, prediction, counts.fn), (prediction, reference, counts.fp)):
        labelled, _ = ndimage.label(one, ndimage.generate_binary_structure(3, 2))
        alone = set(np.unique(labelled)) - set(np.unique(labelled[other])) - {0}
        assert count == np.isin(labelled, list(alone)).sum()


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_overlap_is_symmetric_and_bounded(masks: np.ndarray) -> None:
    reference, prediction = masks
    there, back = measure_overlap(reference, prediction), measure_overlap(prediction, reference)
    assert (there.fn, there.fp, there.common) == (back.fp, back.fn, back.common)
    assert there.fn <= there.reference - there.common and there.fp <= there.prediction - there.common
    if there.reference:
        assert 0 <= dice(there.reference, there.prediction, there.common) <= 1
        assert dice(there.reference, there.reference, there.reference) == 1
