"""Means in their order, intervals, areas under curves, comparisons of runs, and the file of records."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model.errors import InputError
from model.evaluation.averages import Average, LesionValue, average, bootstrap_interval
from model.evaluation.compare_runs import Comparison, MetricComparison, compare_runs, signed_rank_p
from model.evaluation.definitions import DEFINITIONS, Order
from model.evaluation.metrics import Metric
from model.evaluation.records import LesionRecord, Scope, read_records, write_records
from model.evaluation.score_records import Scores, StepScore, score_records, trapezoid
from model.evaluation.tables import metric_tables

from ...helpers.evaluation_cases import record

TRACKING, LONGITUDINAL = DEFINITIONS["tracking"], DEFINITIONS["longitudinal"]

# Patient a: two scans of two and one lesions; patient b: one scan, one lesion that counts; c: none.
VALUES = [
    LesionValue("a", "a1", 0.2),
    LesionValue("a", "a1", 0.4),
    LesionValue("a", "a2", 0.9),
    LesionValue("b", "b1", 0.5),
    LesionValue("b", "b1", None),
    LesionValue("c", "c1", None),
]


def test_means_over_lesions_then_scans_then_patients() -> None:
    mean = average(VALUES, Order.PATIENTS)
    assert mean.mean_of_lesions == pytest.approx(0.5)
    assert mean.mean_of_scans == pytest.approx((0.3 + 0.9 + 0.5) / 3)
    assert mean.mean == mean.mean_of_patients == pytest.approx((0.6 + 0.5) / 2)
    assert (mean.lesions, mean.left_out, mean.scans, mean.patients) == (4, 2, 3, 2)
    assert average(VALUES, Order.SCANS).mean == pytest.approx((0.3 + 0.9 + 0.5) / 3)


def test_no_counted_value_has_no_mean() -> None:
    mean = average([LesionValue("a", "a", None)], Order.SCANS)
    assert mean == Average(None, None, None, None, None, None, 0, 1, 0, 0)


def test_the_bootstrap_interval_is_over_patients() -> None:
    """Equal to SciPy's bootstrap for patients with one scan each."""
    numbers = np.random.default_rng(3).normal(0.7, 0.1, 40)
    low, high = bootstrap_interval(numbers, np.ones(40))
    theirs = stats.bootstrap((numbers,), np.mean, method="percentile", n_resamples=5000, rng=1)
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.005)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.005)
    assert bootstrap_interval(numbers, np.ones(40)) == (low, high)
    assert bootstrap_interval(numbers[:1], np.ones(1)) == (None, None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=30))
def test_means_lie_within_their_values(rows: list[tuple[int, int, float]]) -> None:
    values = [LesionValue(str(p), f"{p}-{s}", v) for p, s, v in rows]
    for order in Order:
        mean = average(values, order)
        assert mean.mean is not None and min(v for *_, v in rows) - 1e-9 <= mean.mean
        assert mean.mean <= max(v for *_, v in rows) + 1e-9
        if mean.low is not None and mean.high is not None:
            assert mean.low <= mean.high
        assert average(values[::-1], order).mean == pytest.approx(mean.mean)


def _mean(scores: Scores | StepScore, metric: Metric) -> float | None:
    step = scores if isinstance(scores, StepScore) else scores.last(Scope.LESION)
    return next(entry.average.mean for entry in step.metrics if entry.metric is metric)


def test_tracking_scores_of_a_patient() -> None:
    """Matched with Dice 0.8, predicted elsewhere, vanished and found, vanished but predicted, and lost."""
    records = [
        record(10, 10, 8, lesion="1", centre_mm=3),
        record(10, 10, 0, lesion="2", centre_mm=40),
        record(0, 0, lesion="3"),
        record(0, 10, lesion="4"),
        record(10, 0, lesion="5"),
    ]
    scores = score_records(records, TRACKING)
    assert _mean(scores, Metric.DICE) == pytest.approx((0.8 + 0 + 1 + 0 + 0) / 5)
    assert _mean(scores, Metric.CPM) == pytest.approx(1 / 3)
    assert _mean(scores, Metric.DICE_25) == pytest.approx(0.8)
    assert _mean(scores, Metric.MED) == pytest.approx(21.5)
    # By [Kirchhoff2025] vanished lesions have no Dice and only cost false positive volume.
    assert _mean(score_records(records, LONGITUDINAL), Metric.DICE) == pytest.approx(0.8 / 3)


def test_the_area_under_the_curve_over_steps() -> None:
    assert trapezoid([0.2, 0.6, 0.8]) == pytest.approx(1.1)
    steps = [record(10, 10, common, step=step) for step, common in enumerate((2, 6, 8), start=1)]
    (curve,) = score_records(steps, LONGITUDINAL).curves
    dice = next(entry.average for entry in curve.metrics if entry.metric is Metric.DICE)
    assert dice.mean == pytest.approx(1.1)
    assert score_records(steps[:1], LONGITUDINAL).curves == ()


def test_eleven_perfect_steps_have_an_area_of_10() -> None:
    (curve,) = score_records([record(5, 5, 5, step=step) for step in range(1, 12)], LONGITUDINAL).curves
    assert next(e.average.mean for e in curve.metrics if e.metric is Metric.DICE) == pytest.approx(10)


def test_a_step_that_is_left_out_leaves_no_area() -> None:
    """Without a file Dice is 0 and the false positive volume is unknown."""
    steps = [record(10, 10, 10), record(10, 0, step=2, is_missing=True)]
    (curve,) = score_records(steps, LONGITUDINAL).curves
    areas = {entry.metric: entry.average for entry in curve.metrics}
    assert areas[Metric.DICE].mean == pytest.approx(0.5)
    assert areas[Metric.FP_ML].mean is None and areas[Metric.FP_ML].left_out == 1


def test_a_label_predicted_at_one_step_has_fp_volume_0_at_the_other() -> None:
    steps = [record(0, 10, existed=False, fp=10), record(0, 0, step=2, existed=False)]
    (curve,) = score_records(steps, LONGITUDINAL).curves
    assert {e.metric: e.average.mean for e in curve.metrics}[Metric.FP_VOXELS] == pytest.approx(5)


def test_a_label_predicted_at_one_step_has_no_area_of_dice() -> None:
    steps = [record(0, 10, existed=False, fp=10), record(0, 0, step=2, existed=False)]
    both = [steps[0], replace(steps[0], step=2)]
    for records, left_out in ((steps, 1), (both, 0)):
        (curve,) = score_records(records, TRACKING).curves
        dice = next(e.average for e in curve.metrics if e.metric is Metric.DICE)
        assert dice.left_out == left_out and dice.mean == (None if left_out else 0)


def test_tables_of_many_patients_take_seconds() -> None:
    records = [
        record(10, 10, 5, patient=f"p{i}", scan=f"s{i}", lesion=str(n)) for i in range(400) for n in range(5)
    ]
    started = time.perf_counter()
    tables = metric_tables(records, TRACKING)
    assert time.perf_counter() - started < 5
    assert len(tables["per_patient"].splitlines()) == 401


def _runs() -> tuple[list[LesionRecord], list[LesionRecord]]:
    """Six patients; this run has one more common voxel for each, and three more for the last."""
    others = [record(10, 10, 4, patient=f"p{i}", scan=f"p{i}") for i in range(6)]
    this_run = [replace(other, common_voxels=5 if i < 5 else 7) for i, other in enumerate(others)]
    return this_run, others


def test_paired_differences() -> None:
    this_run, others = _runs()
    dice = _compared(compare_runs(this_run, others, Path("run"), LONGITUDINAL), Metric.DICE)
    assert dice.difference.mean == pytest.approx((5 * 0.1 + 0.3) / 6)
    assert dice.difference.low is not None and dice.difference.low == pytest.approx(0.1, abs=0.02)
    assert (dice.better, dice.worse) == (6, 0)
    assert dice.p_lesions == pytest.approx(stats.wilcoxon([0.1] * 5 + [0.3]).pvalue)
    assert dice.difference.mean is not None
    back = _compared(compare_runs(others, this_run, Path("run"), LONGITUDINAL), Metric.DICE)
    assert back.difference.mean == pytest.approx(-dice.difference.mean or 0) and back.worse == 6


def _compared(comparison: Comparison, metric: Metric) -> MetricComparison:
    return next(entry for entry in comparison.metrics if entry.metric is metric)


def test_the_same_run_has_no_differences() -> None:
    this_run, _ = _runs()
    assert (
        _compared(compare_runs(this_run, this_run, Path("run"), LONGITUDINAL), Metric.DICE).p_lesions == 1.0
    )
    assert signed_rank_p([]) is None and signed_rank_p([0.0]) == 1.0


def test_unpaired_lesions_and_other_references_are_warned_of() -> None:
    this_run, others = _runs()
    odd = [replace(others[0], reference_voxels=11), *others[1:5], replace(others[5], lesion="9")]
    comparison = compare_runs(this_run, odd, Path("run"), LONGITUDINAL)
    assert len(comparison.warnings) == 3 and "not fair" in comparison.warnings[2]
    with pytest.raises(InputError, match="shares no lesion"):
        compare_runs(this_run, [replace(others[0], scan="x")], Path("run"), LONGITUDINAL)


@pytest.mark.slow
def test_a_false_positive_of_one_run_is_compared_with_an_empty_prediction() -> None:
    """100 more voxels in this run; left out if the other run has no file."""
    this_run, others = _runs()
    drawn = [*this_run, record(0, 100, fp=100, patient="p0", scan="p0", lesion="9", existed=None)]
    fp = _compared(compare_runs(drawn, others, Path("run"), LONGITUDINAL), Metric.FP_VOXELS)
    assert fp.difference.mean_of_lesions == pytest.approx(100 / 7) and (fp.better, fp.worse) == (0, 1)
    back = _compared(compare_runs(others, drawn, Path("run"), LONGITUDINAL), Metric.FP_VOXELS)
    assert back.difference.mean_of_lesions == pytest.approx(-100 / 7) and (back.better, back.worse) == (1, 0)
    lacking = [replace(entry, is_missing=entry.scan == "p0", prediction_voxels=0) for entry in others]
    assert _compared(compare_runs(drawn, lacking, Path("run"), LONGITUDINAL), Metric.FP_VOXELS).worse == 0
    # Its Dice by `tracking` is 0 in this run and left out in the other: no pair.
    assert _compared(compare_runs(drawn, others, Path("run"), TRACKING), Metric.DICE).difference.lesions == 6


def test_runs_are_compared_under_any_names_of_patients() -> None:
    this_run, others = _runs()
    named = [replace(entry, patient=f"c/{entry.patient}") for entry in others]
    comparison = compare_runs(this_run, named, Path("run"), LONGITUDINAL)
    assert not comparison.warnings and _compared(comparison, Metric.DICE).better == 6


def test_the_last_steps_are_compared() -> None:
    this_run, others = _runs()
    steps = [*others, *(replace(entry, step=2) for entry in this_run)]
    assert _compared(compare_runs(steps, others, Path("run"), LONGITUDINAL), Metric.DICE).better == 6


def test_records_read_back_as_they_were(tmp_path: Path) -> None:
    records = (
        record(10, 7, 3, centre_mm=1 / 3, baseline_ml=0.1),
        record(0, 0, existed=None, lesion="1+65535", patient='a "b", c'),
        replace(record(10, 0, existed=False, is_missing=True), baseline_ids=(), prediction_ids=(3, 65535)),
    )
    write_records(tmp_path / "lesions.csv", records)
    assert read_records(tmp_path / "lesions.csv") == records


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "other columns"),
        ("patient,scan\na,b\n", "other columns"),
        ("{rows}a\n", "line 3 has 1 cells"),
        ("{rows}p,s,x,lesion,1,,,,,no,1.0,1.0,,1,1,1,1,1,,,,\n", "step is 'x'"),
        ("{rows}p,s,1,body,1,,,,,no,1.0,1.0,,1,1,1,1,1,,,,\n", "scope is 'body'"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "lesions.csv"
    write_records(path, [record()])
    path.write_text(text.replace("{rows}", path.read_text()))
    with pytest.raises(InputError, match=f"{path}.*{reason}"):
        read_records(path)
