"""Scores of a step, on masks that can be counted by hand, and areas under curves."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.tumor_clicks import ClickKind, TumorClick
from model.protocol.step_scores import StepMetric, area_under_steps, measure_step

CLICKS = (TumorClick(ClickKind.TUMOR, (0, 0, 0)),) * 3 + (TumorClick(ClickKind.BACKGROUND, (0, 0, 0)),)


def test_counts_and_scores() -> None:
    reference, prediction = np.zeros((3, 4, 30), bool), np.zeros((3, 4, 30), bool)
    reference[1, 1, 0:10] = reference[1, 1, 20:24] = True
    prediction[1, 1, 5:15] = prediction[2, 3, 28:30] = True
    record = measure_step(2, CLICKS, reference, prediction, 0.5, 1.25)
    assert (record.tumor_clicks, record.background_clicks) == (3, 1)
    scores = {metric: record.score(metric) for metric in StepMetric}
    assert scores == {
        StepMetric.DICE: pytest.approx(2 * 5 / (14 + 12)),
        StepMetric.DMM: 0.5,  # one of two found, one false: 2 / (2 + 1 + 1)
        StepMetric.FPV: 1.0,
        StepMetric.FNV: 2.0,
    }


def test_without_a_lesion_only_false_positives_are_defined() -> None:
    nothing, prediction = np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    empty = measure_step(0, (), nothing, nothing, 0.5)
    assert [empty.score(metric) for metric in StepMetric] == [None, None, 0.0, None]
    prediction[0, 0, :2] = True
    assert measure_step(0, (), nothing, prediction, 0.5).score(StepMetric.FPV) == 1.0
    missed = measure_step(0, (), prediction, nothing, 0.5)
    assert [missed.score(metric) for metric in StepMetric] == [0.0, 0.0, 0.0, 1.0]


def test_areas_are_trapezoids_of_unit_width() -> None:
    assert area_under_steps([1.0] * 11) == 10
    assert area_under_steps([0.0, 1.0, 0.5]) == pytest.approx(1.25)
    assert area_under_steps([0.5, None, 0.5]) is None
    assert area_under_steps([0.5]) is None
    assert area_under_steps([]) is None
