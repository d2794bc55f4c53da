"""A fold that disagrees wildly with the others is named; sound folds raise no alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model.case.case import Case, LesionResult
from model.case.challenge import discover, read_case
from model.case.geometry import Box
from model.inference.case_result import CaseResult
from model.inference.ensemble import Ensemble
from model.inference.fold_agreement import OddFold, fold_spread, odd_fold, odd_fold_warnings
from model.inference.fold_votes import FoldVotes
from model.inference.load import LoadedModel, load_model
from model.inference.options import ModelOptions
from model.inference.segment_case import segment_case
from model.network.weights import FoldWeights
from test.faults.folds import negated, untrained, with_fold
from test.helpers.paths import SAMPLE

Mask = npt.NDArray[np.bool_]
Change = Callable[[FoldWeights], FoldWeights]
_EMPTY: Mask = np.zeros((20, 20, 20), bool)


def _cube(start: int, stop: int) -> Mask:
    mask = _EMPTY.copy()
    mask[start:stop, start:stop, start:stop] = True
    return mask


def _result(*masks: Mask) -> LesionResult:
    """A result with the votes of folds with these masks."""
    votes = FoldVotes((1, *masks[0].shape), len(masks))
    for fold, mask in enumerate(masks):
        votes.add(fold, torch.from_numpy(np.where(mask, 1.5, -1.5).astype(np.float32))[None])
    box = Box((0, 0, 0), (0, 0, 0))
    return LesionResult(None, box, np.zeros((0, 0, 0), np.float32), fold_votes=votes.counts(0))  # type: ignore[arg-type]


def test_votes_are_counted_by_set_of_folds() -> None:
    counts = _result(_cube(0, 2), _cube(0, 2), _cube(1, 4)).fold_votes
    assert counts is not None
    assert counts.tolist() == [8000 - 8 - 26, 0, 0, 7, 26, 0, 0, 1]


def test_the_odd_fold_is_found_with_its_dice() -> None:
    sound, other = _cube(5, 9), _cube(5, 10)
    agreed = (1 + 2 * 128 / 189) / 3
    assert odd_fold(_result(sound, ~sound, sound, other)) == OddFold(1, 0.0, agreed)
    assert odd_fold(_result(sound, other, sound, _EMPTY)) == OddFold(3, 0.0, agreed)
    assert odd_fold(_result(_EMPTY, _EMPTY, ~_EMPTY)) == OddFold(2, 0.0, 1.0)


@pytest.mark.parametrize(
    "masks",
    [
        (_cube(5, 9), _cube(4, 9), _cube(6, 10)),
        (_cube(5, 9), _cube(12, 15), _cube(0, 3)),  # nobody agrees with anybody
        (_cube(5, 9), _cube(5, 9), _cube(12, 15), _cube(12, 15)),  # two against two
        (_EMPTY, _EMPTY, _cube(5, 9)),  # a small lesion that the others do not see
        (_EMPTY, _EMPTY, _EMPTY),
        (_cube(5, 9), _cube(12, 15)),  # of two folds neither is odd
        (_cube(5, 9), *(9 * [_EMPTY])),  # more folds than are counted
    ],
)
def test_no_false_alarm(masks: tuple[Mask, ...]) -> None:
    assert odd_fold(_result(*masks)) is None


def test_the_spread_of_the_folds() -> None:
    same = fold_spread(_result(_cube(0, 2), _cube(0, 2), _cube(0, 2)))
    assert same is not None and (same.dice, same.volume_spread) == (1.0, 0.0)
    # 8, 8 and 27 voxels: two pairs of Dice 16 / 35.
    spread = fold_spread(_result(_cube(0, 2), _cube(0, 2), _cube(0, 3)))
    assert spread is not None
    assert spread.dice == pytest.approx((1 + 2 * 16 / 35) / 3)
    assert spread.volume_spread == pytest.approx((27 - 8) / (43 / 3))
    assert fold_spread(_result(_cube(0, 0), _cube(0, 0), _cube(0, 0))) is None


def test_a_fold_has_one_warning_for_all_its_lesions() -> None:
    odd = [(7, OddFold(1, 0.02, 0.8)), (9, None), (8, OddFold(1, 0.05, 0.7)), (3, OddFold(0, 0.0, 0.9))]
    first, second = odd_fold_warnings(odd, ("fold_0", "fold_1", "fold_2"))
    assert first.startswith("fold_0: disagrees with all other folds on 1 of 4 results, of lesion 3 (")
    assert second.startswith(
        "fold_1: disagrees with all other folds on 2 of 4 results, of lesion 7, 8 (Dice 0.05"
    )
    assert "theirs 0.70" in second
    assert odd_fold_warnings(odd, ())[0].startswith("fold number 1: ")


@pytest.fixture(scope="module")
def sample() -> Case:
    return read_case(discover(SAMPLE / "input"))


@pytest.fixture(scope="module")
def shipped() -> LoadedModel:
    return load_model(None, ModelOptions(device="cpu"))


@pytest.fixture(scope="module")
def sound(sample: Case, shipped: LoadedModel) -> CaseResult:
    return segment_case(sample, shipped)


@pytest.mark.slow
def test_sound_folds_of_the_sample_case_raise_no_alarm(sound: CaseResult) -> None:
    assert [outcome.odd_fold for outcome in sound.outcomes] == [None]
    assert not [warning for warning in sound.warnings if "disagrees" in warning]


@pytest.mark.slow
@pytest.mark.parametrize("change", [negated, untrained])
def test_a_doctored_fold_is_named(change: Change, sample: Case, shipped: LoadedModel) -> None:
    doctored = with_fold(shipped, 2, change(shipped.ensemble.folds[2]))
    result = segment_case(sample, doctored)
    (outcome,) = result.outcomes
    assert outcome.odd_fold is not None and outcome.odd_fold.position == 2
    assert any(warning.startswith("fold_2: disagrees") for warning in result.warnings)


@pytest.mark.slow
def test_votes_are_the_same_with_one_fold_at_a_time(
    sample: Case, shipped: LoadedModel, sound: CaseResult
) -> None:
    resident = sound.lesions[0]
    ensemble = Ensemble(shipped.plan, shipped.ensemble.folds, shipped.ensemble.options)
    ensemble.rung = replace(ensemble.rung, resident=False)
    single = segment_case(sample, replace(shipped, ensemble=ensemble)).lesions[0]
    assert resident.fold_votes is not None and single.fold_votes is not None
    assert np.array_equal(resident.fold_votes, single.fold_votes)
    assert np.array_equal(resident.probability, single.probability)
