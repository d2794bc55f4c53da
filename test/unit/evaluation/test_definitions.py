"""Scores of empty masks and missing predictions: every rule of every definition, by hand-made records."""

from __future__ import annotations

import pytest

from model.cli.evaluate import DEFAULT_DEFINITION, DEFINITION_NAMES
from model.evaluation.change_scores import vanished_counts
from model.evaluation.definitions import DEFINITIONS, Count, EmptyRules
from model.evaluation.metrics import Metric
from model.evaluation.records import LesionRecord, Scope
from test.helpers.paths import CHECKOUT

from ...helpers.evaluation_cases import record

DOCS = CHECKOUT / "docs" / "evaluation.md"

BOTH_EMPTY = record(0, 0)
REFERENCE_EMPTY = record(0, 10, fp=10)
PREDICTION_EMPTY = record(10, 0, fn=10)
MISSING = record(10, 0, fn=10, is_missing=True)
MISSING_EMPTY = record(0, 0, is_missing=True)
CASES = (BOTH_EMPTY, REFERENCE_EMPTY, PREDICTION_EMPTY, MISSING, MISSING_EMPTY)

# For: both empty, reference empty, prediction empty, no file for a lesion, no file for a vanished one.
LEFT_OUT_OR_ZERO = (None, None, 0.0, 0.0, None)
PAIRS: dict[Metric, tuple[float | None, ...]] = {
    Metric.DICE: LEFT_OUT_OR_ZERO,
    Metric.RECALL: LEFT_OUT_OR_ZERO,
    Metric.PRECISION: LEFT_OUT_OR_ZERO,
    Metric.NSD: LEFT_OUT_OR_ZERO,
    Metric.CPM: LEFT_OUT_OR_ZERO,
    Metric.FN_ML: (None, None, 0.1, 0.1, None),
    Metric.FN_VOXELS: (None, None, 10.0, 10.0, None),
    Metric.FP_ML: (0.0, 0.1, 0.0, None, None),
    Metric.FP_VOXELS: (0.0, 10.0, 0.0, None, None),
    Metric.HD95: (None, None, 500.0, 500.0, None),
    Metric.ASSD: (None, None, 500.0, 500.0, None),
    Metric.DICE_25: (None,) * 5,
    Metric.MED: (None,) * 5,
    Metric.CHANGE_ERROR: (None,) * 5,  # no baseline
}
TRACKED = (1.0, 0.0, 0.0, 0.0, 0.0)
EXPECTED: dict[str, dict[Metric, tuple[float | None, ...]]] = {
    "challenge": PAIRS,
    "longitudinal": PAIRS,
    "tracking": PAIRS
    | {Metric.DICE: TRACKED, Metric.NSD: TRACKED, Metric.PRECISION: (None, 0.0, 0.0, 0.0, None)},
}


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_rule_for_empty_masks(name: str, metric: Metric) -> None:
    values = tuple(DEFINITIONS[name].value(metric, case) for case in CASES)
    assert values == pytest.approx(EXPECTED[name][metric])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (record(0, 0, baseline_ml=0.2), 0.0),
        (record(0, 10, baseline_ml=0.2), 50.0),
        (record(10, 0, baseline_ml=0.2), 50.0),
        (record(30, 10, baseline_ml=0.2), 100.0),
        (record(10, 0, baseline_ml=0.2, is_missing=True), None),
        (record(10, 10, baseline_ml=0.0), None),
        (record(10, 10), None),
    ],
)
def test_change_in_volume_is_measured_against_the_baseline(
    case: LesionRecord, expected: float | None
) -> None:
    for definition in DEFINITIONS.values():
        assert definition.value(Metric.CHANGE_ERROR, case) == expected


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("existed", [None, False])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_label_of_another_step_is_left_out(name: str, existed: bool | None, metric: Metric) -> None:
    """It is no lesion, so that an empty prediction is not rewarded."""
    assert DEFINITIONS[name].value(metric, record(0, 0, existed=existed)) is None


@pytest.mark.parametrize(("distance", "matched"), [(24.9, 1.0), (25.0, 1.0), (25.1, 0.0)])
def test_centres_match_within_25_mm(distance: float, matched: float) -> None:
    tracking, case = DEFINITIONS["tracking"], record(10, 10, 4, centre_mm=distance)
    assert tracking.value(Metric.CPM, case) == matched
    assert tracking.value(Metric.DICE_25, case) == (0.4 if matched else None)
    assert tracking.value(Metric.MED, case) == distance
    assert tracking.value(Metric.DICE, case) == 0.4


def test_vanished_lesions_are_counted_among_those_of_the_baseline() -> None:
    records = [*CASES, record(10, 10, 5), record(0, 0, existed=False), record(0, 9, existed=None)]
    counts = vanished_counts(records)
    assert counts is not None
    # Vanished in both; predicted, and without a file; present in both; not predicted, and without a file.
    assert (counts.found, counts.missed, counts.kept, counts.lost) == (1, 2, 1, 2)
    assert counts.sensitivity == pytest.approx(1 / 3) and counts.specificity == pytest.approx(1 / 3)
    assert vanished_counts([record(10, 10, existed=None)]) is None


def test_the_command_names_the_definitions() -> None:
    """The command has its own list so that it imports nothing heavy."""
    assert DEFINITIONS.keys() == set(DEFINITION_NAMES) and DEFAULT_DEFINITION in DEFINITION_NAMES
    assert DEFINITIONS["challenge"].scopes[0] is Scope.SCAN


def _shown(rule: float | Count) -> str:
    return rule.value if isinstance(rule, Count) else f"{rule:g}"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_documentation_has_every_rule(name: str) -> None:
    text = DOCS.read_text()
    section = text.split(f"### Empty masks: {_section(name)}\n")[1].split("\n### ")[0].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:3] == "| `"
    ]
    documented = {Metric(metric): tuple(rules) for cells, *rules in rows for metric in _names(cells)}
    for metric in Metric:
        rules = DEFINITIONS[name].rules[metric]
        assert documented[metric] == tuple(_shown(getattr(rules, field)) for field in EmptyRules.__slots__)


def _section(name: str) -> str:
    return "`tracking`" if name == "tracking" else "`challenge` and `longitudinal`"


def _names(cell: str) -> list[str]:
    return [part.strip().strip("`") for part in cell.split(",")]
