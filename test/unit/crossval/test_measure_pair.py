"""Measuring a pair: only prompted lesions count, merged ones as one, vanished ones as empty."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.geometry import Array
from model.crossval.loaded_scans import LoadedScan, ScanReader
from model.crossval.measure_pair import measure_pair, reference_of
from model.crossval.pairs import EvaluationPair
from model.crossval.scores import score_of
from model.errors import InputError
from model.evaluation.measure_scan import Labelmap
from model.evaluation.records import LesionRecord, Scope

from ...helpers.crossval_cases import AFTER, BEFORE, GRIDS, labelmap


@pytest.fixture(scope="module")
def read(pairs: tuple[EvaluationPair, ...]) -> tuple[LoadedScan, LoadedScan]:
    return ScanReader().read(pairs[0])


def _measured(
    pair: EvaluationPair, read: tuple[LoadedScan, LoadedScan], labels: Array
) -> dict[str, LesionRecord]:
    reference = reference_of(pair, read[1])
    prediction = Labelmap(reference.path, labels.astype(np.uint16), reference.geometry)
    records = measure_pair(pair, read[0], reference, prediction)
    return {record.lesion: record for record in records}


def _perfect() -> Array:
    """Each half of the merged lesion is predicted for one of its two baseline lesions."""
    labels = labelmap({1: AFTER[1]})
    merged = labelmap({5: AFTER[5]}) == 5
    labels[merged] = 3
    labels[merged & (np.indices(labels.shape)[2] > 17)] = 4
    return labels


def test_a_perfect_prediction(pairs: tuple[EvaluationPair, ...], read: tuple[LoadedScan, LoadedScan]) -> None:
    reference = reference_of(pairs[0], read[1])
    assert reference.ids == {1, 5} and reference.array.dtype == np.uint16
    assert np.array_equal(reference.array, labelmap({1: AFTER[1], 5: AFTER[5]}))  # axes as the file has them
    records = _measured(pairs[0], read, _perfect())
    assert records.keys() == {"1", "2", "3+4", "all"}  # new lesions are not prompted
    score = score_of(list(records.values()))
    assert (score.dice, score.nsd, score.fn_voxels, score.fp_voxels) == (1.0, 1.0, 0.0, 0.0)
    assert (score.lesions, score.vanished, score.vanished_found, score.patients) == (3, 1, 1, 1)
    volume = GRIDS[0].voxel_volume_ml * int((labelmap({2: BEFORE[2]}) > 0).sum())
    assert records["2"].baseline_ml == pytest.approx(volume)
    assert records["all"].scope is Scope.SCAN and records["all"].fp_voxels == 0


def test_voxels_predicted_for_a_vanished_lesion_are_false_positives(
    pairs: tuple[EvaluationPair, ...], read: tuple[LoadedScan, LoadedScan]
) -> None:
    labels = _perfect()
    labels[labelmap({2: AFTER[2]}) > 0] = 2  # the follow-up's 2 is another lesion
    records = _measured(pairs[0], read, labels)
    predicted = int((labels == 2).sum())
    assert records["2"].reference_voxels == 0 and records["2"].fp_voxels == predicted
    score = score_of(list(records.values()))
    assert score.dice == 1.0 and score.vanished_found == 0
    assert score.fp_voxels == pytest.approx(predicted / 3)
    assert score.fp_ml == pytest.approx(predicted / 3 * GRIDS[1].voxel_volume_ml)


def test_a_merged_lesion_predicted_by_half_is_half_found(
    pairs: tuple[EvaluationPair, ...], read: tuple[LoadedScan, LoadedScan]
) -> None:
    labels = _perfect()
    labels[labels == 4] = 0
    merged = _measured(pairs[0], read, labels)["3+4"]
    assert merged.common_voxels == int((labels == 3).sum()) < merged.reference_voxels


def test_a_missing_prediction_gets_the_worst_score(
    pairs: tuple[EvaluationPair, ...], read: tuple[LoadedScan, LoadedScan]
) -> None:
    records = measure_pair(pairs[0], read[0], reference_of(pairs[0], read[1]), None)
    score = score_of(records)
    assert (score.dice, score.fp_voxels, score.failed, score.vanished_found) == (0.0, None, 3, 0)
    with pytest.raises(InputError, match="no lesion was prompted"):
        score_of([])


def test_scans_of_the_last_pair_are_cached(pairs: tuple[EvaluationPair, ...]) -> None:
    reader = ScanReader()
    first = reader.read(pairs[0])
    assert reader.read(pairs[0]) == first
    reader.read(pairs[1])
    assert reader.read(pairs[0])[0] is not first[0]
