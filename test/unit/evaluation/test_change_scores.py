"""Log-slope of drawn on true changes, and vanished lesions, with values computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model.evaluation.change_scores import change_slope, vanished_counts
from model.evaluation.definitions import DEFINITIONS
from model.evaluation.records import LesionRecord, Scope
from model.evaluation.score_records import score_records

from ...helpers.evaluation_cases import record


def _changed(true: int, drawn: int, patient: str = "p") -> LesionRecord:
    """A lesion of 100 voxels in the baseline: 1 ml."""
    return record(true, drawn, min(true, drawn), patient=patient, baseline_ml=1.0)


def test_the_slope_of_two_lesions_by_hand() -> None:
    """True volumes are halved and doubled, drawn ones shrink and grow by the square root of it."""
    change = change_slope([_changed(25, 50), _changed(400, 200)])
    assert change is not None and change.slope == pytest.approx(0.5)
    assert (change.lesions, change.patients, change.low, change.high) == (2, 1, None, None)


def test_perfect_drawings_have_slope_1_and_pasted_ones_0() -> None:
    true = (20, 50, 90, 300)
    perfect, pasted = (change_slope([_changed(n, drawn or n) for n in true]) for drawn in (None, 100))
    assert perfect is not None and perfect.slope == pytest.approx(1.0)
    assert pasted is not None and pasted.slope == pytest.approx(0.0)


def test_only_lesions_in_baseline_reference_and_prediction_count() -> None:
    counted = [_changed(25, 50), _changed(400, 200)]
    unknown = [record(30, 90, baseline_ml=None), record(5, 5, baseline_ml=0.0)]
    others = [_changed(0, 50), _changed(80, 0), *unknown]
    assert change_slope([*counted, *others]) == change_slope(counted)
    assert change_slope(unknown) is None
    nothing = change_slope(others[:2])
    assert nothing is not None and nothing.slope is None and nothing.lesions == 0


def test_equal_true_changes_have_no_slope() -> None:
    change = change_slope([_changed(50, 40, "a"), _changed(50, 90, "b")])
    assert change is not None and change.slope is None and change.low is None and change.lesions == 2


@pytest.mark.slow
def test_the_interval_is_over_patients() -> None:
    """Equal to SciPy's bootstrap for patients with one lesion each."""
    random = np.random.default_rng(1)
    true = random.integers(20, 500, 30)
    drawn = np.round(100 * (true / 100) ** 0.6 * random.lognormal(0, 0.2, 30)).astype(int)
    volumes = enumerate(zip(true.tolist(), drawn.tolist(), strict=True))
    change = change_slope([_changed(*both, str(number)) for number, both in volumes])
    assert change is not None and change.patients == 30
    x, y = np.log(true / 100), np.log(drawn / 100)
    assert change.slope == pytest.approx(stats.linregress(x, y).slope)
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: stats.linregress(a, b).slope,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=1,
    ).confidence_interval
    assert change.low == pytest.approx(theirs.low, abs=0.02)
    assert change.high == pytest.approx(theirs.high, abs=0.02)


def test_too_few_patients_have_no_interval() -> None:
    """Of three patients with one lesion each, one resample in nine holds a single lesion."""
    change = change_slope([_changed(n, n, str(n)) for n in (30, 60, 200)])
    assert change is not None and change.slope == pytest.approx(1.0) and change.low is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 999), st.integers(1, 999)), min_size=2, max_size=20), st.integers(2, 50)
)
def test_the_slope_does_not_depend_on_the_unit_of_volume(volumes: list[tuple[int, int]], factor: int) -> None:
    records = [_changed(true, drawn) for true, drawn in volumes]
    scaled = [replace(r, voxel_ml=r.voxel_ml * factor) for r in records]
    before, after = change_slope(records), change_slope(scaled)
    assert before is not None and after is not None
    if before.slope is None:
        assert len({true for true, _ in volumes}) == 1
    else:
        assert after.slope == pytest.approx(before.slope, rel=1e-6, abs=1e-6)
        theirs = stats.linregress(*np.log(np.array(volumes)).T).slope
        assert before.slope == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_vanished_lesions_by_hand() -> None:
    """Patient a: one of two vanished lesions is left empty, one of two present ones is lost; b: all right."""
    records = [
        record(0, 0, patient="a", lesion="1"),
        record(0, 300, patient="a", lesion="2"),
        record(10, 10, 9, patient="a", lesion="3"),
        record(10, 0, patient="a", lesion="4"),
        record(0, 0, patient="b", lesion="1"),
        record(10, 10, 9, patient="b", lesion="2"),
        record(0, 0, patient="b", lesion="3", is_missing=True),
    ]
    counts = vanished_counts(records)
    assert counts is not None
    assert (counts.found, counts.missed, counts.kept, counts.lost) == (2, 2, 2, 1)
    assert counts.sensitivity == 0.5 and counts.specificity == pytest.approx(2 / 3)
    assert counts.false_ml_mean == pytest.approx(3.0 / 3) and counts.false_ml_median == 0.0
    # With one patient drawn twice: a alone has 1.5 ml a lesion, b has 0; specificities 1/2 and 1.
    assert list(counts.false_ml_interval) == pytest.approx([0.0, 1.5])
    assert list(counts.specificity_interval) == pytest.approx([0.5, 1.0])


def test_vanished_lesions_without_any_prediction_have_no_false_volume() -> None:
    counts = vanished_counts([record(0, 0, is_missing=True)])
    assert counts is not None and counts.missed == 1
    assert counts.false_ml_mean is None and counts.false_ml_median is None


def test_changes_are_scored_for_lesions_alone() -> None:
    records = [_changed(25, 50), _changed(400, 200)]
    scores = score_records([*records, replace(records[0], scope=Scope.SCAN)], DEFINITIONS["challenge"])
    assert scores.last(Scope.SCAN).change is None and scores.last(Scope.SCAN).vanished is None
    change = scores.last(Scope.LESION).change
    assert change is not None and change.slope == pytest.approx(0.5)
