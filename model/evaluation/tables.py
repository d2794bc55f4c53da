"""Records and scores as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .averages import LEVEL, RESAMPLES, SEED, Average, means_by_patient, means_by_scan
from .change_scores import ChangeSlope, Interval, VanishedCounts
from .compare_runs import Comparison
from .definitions import Definition
from .metrics import Metric
from .records import LesionRecord, Scope
from .score_records import MetricScore, Scores, StepScore, metric_values, scope_metrics
from .surface import NSD_KIND

_SHOWN_SCOPE = {Scope.LESION: "single lesions", Scope.SCAN: "whole foreground of each scan"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of an evaluation; ``notes`` describe how lesions pair, ``warnings`` what is odd or missing."""

    records: tuple[LesionRecord, ...]
    scores: Scores
    comparison: Comparison | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def summary_document(evaluation: Evaluation) -> dict[str, Any]:
    """Build the content of summary.json; undefined numbers are None."""
    scores = evaluation.scores
    definition = scores.definition
    missing = {(r.patient, r.scan, r.step) for r in evaluation.records if r.is_missing}
    document: dict[str, Any] = {
        "definition": definition.name,
        "source": definition.source,
        "order_of_means": definition.order.value,
        "nsd": NSD_KIND,
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED, "unit": "patient"},
        "notes": list(evaluation.notes),
        "warnings": list(evaluation.warnings),
        "missing_predictions": [{"patient": p, "scan": s, "step": n} for p, s, n in sorted(missing)],
        "steps": [_step_json(step) for step in scores.steps],
        "auc": [
            {"scope": curve.scope.value, "metrics": _metrics_json(curve.metrics)} for curve in scores.curves
        ],
    }
    if evaluation.comparison is not None:
        document["comparison"] = _comparison_json(evaluation.comparison)
    return document


def _step_json(step: StepScore) -> dict[str, Any]:
    return {
        "step": step.step,
        "scope": step.scope.value,
        "metrics": _metrics_json(step.metrics),
        "vanished": None if step.vanished is None else _vanished_json(step.vanished),
        "log_slope": None if step.change is None else asdict(step.change),
    }


def _metrics_json(scores: Iterable[MetricScore]) -> dict[str, Any]:
    return {entry.metric.value: _average_json(entry.average) for entry in scores}


def _average_json(mean: Average) -> dict[str, Any]:
    return {name: getattr(mean, name) for name in Average.__dataclass_fields__}


def _vanished_json(counts: VanishedCounts) -> dict[str, Any]:
    return asdict(counts) | {"sensitivity": counts.sensitivity, "specificity": counts.specificity}


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "other": str(comparison.other),
        "difference": "this run less the other one, last steps",
        "metrics": [
            {
                "scope": entry.scope.value,
                "metric": entry.metric.value,
                "difference": _average_json(entry.difference),
                "better": entry.better,
                "worse": entry.worse,
                "p_wilcoxon_lesions": entry.p_lesions,
                "p_wilcoxon_patients": entry.p_patients,
            }
            for entry in comparison.metrics
        ],
    }


def metric_tables(records: Sequence[LesionRecord], definition: Definition) -> dict[str, str]:
    """Write the metrics of each lesion, scan and patient as CSV, by file name without suffix."""
    tables = {"per_lesion": _lesion_table(records, definition)}
    scans: list[list[Any]] = [["patient", "scan", "step", "scope", "records", *Metric]]
    patients: list[list[Any]] = [["patient", "step", "scope", "records", *Metric]]
    for step in sorted({record.step for record in records}):
        for scope in definition.scopes:
            chosen = [r for r in records if r.step == step and r.scope is scope]
            values = {
                metric: metric_values(chosen, metric, definition)
                for metric in scope_metrics(scope, definition)
            }
            of_scans = {metric: means_by_scan(values.get(metric, ())) for metric in Metric}
            of_patients = {metric: means_by_patient(means) for metric, means in of_scans.items()}
            for key, count in Counter((r.patient, r.scan) for r in chosen).items():
                scans.append([*key, step, scope, count, *(of_scans[metric].get(key) for metric in Metric)])
            for patient, count in Counter(r.patient for r in chosen).items():
                own = [of_patients[metric].get(patient) for metric in Metric]
                patients.append([patient, step, scope, count, *own])
    return tables | {"per_scan": _csv(scans), "per_patient": _csv(patients)}


def _lesion_table(records: Iterable[LesionRecord], definition: Definition) -> str:
    rows: list[list[Any]] = [
        [
            "patient",
            "scan",
            "step",
            "scope",
            "lesion",
            "reference_ml",
            "prediction_ml",
            "baseline_ml",
            *Metric,
        ]
    ]
    for record in records:
        own = set(scope_metrics(record.scope, definition))
        rows.append(
            [
                record.patient,
                record.scan,
                record.step,
                record.scope,
                record.lesion,
                record.reference_ml,
                record.prediction_ml,
                record.baseline_ml,
                *(definition.value(metric, record) if metric in own else None for metric in Metric),
            ]
        )
    return _csv(rows)


def comparison_csv(comparison: Comparison) -> str:
    """Write the difference of each lesion and metric as CSV."""
    rows: list[list[Any]] = [["patient", "scan", "scope", "lesion", "metric", "this", "other", "difference"]]
    rows += [
        [e.patient, e.scan, e.scope, e.lesion, e.metric, e.this, e.other, e.difference]
        for e in comparison.lesions
    ]
    return _csv(rows)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        ["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row]
        for row in rows
    )
    return text.getvalue()


def summary_markdown(evaluation: Evaluation) -> str:
    """Write the summary as Markdown: tables per step and scope, areas, comparison, notes and warnings."""
    scores = evaluation.scores
    definition = scores.definition
    lines = [f"# Evaluation by the definition `{definition.name}`", "", f"{definition.source}.", ""]
    missing = {(r.patient, r.scan, r.step) for r in evaluation.records if r.is_missing}
    if missing:
        lines += [
            f"**MISSING predictions, counted with the worst score: {len(missing)}.** They have no FPvol, "
            "volume change, Dice@25 and MED: those are means over fewer lesions (see *counted*).",
            "",
        ]
    for step in scores.steps:
        title = f"Step {step.step}: " if _has_steps(scores) else ""
        shown = _SHOWN_SCOPE[step.scope]
        lines += [f"## {title}{shown if title else shown.capitalize()}", ""]
        lines += [*_metric_table(step.metrics), ""]
        if step.scope is Scope.LESION:
            lines += [_vanished_line(step.vanished), *_change_line(step.change), ""]
    for curve in scores.curves:
        lines += [f"## Area under the curve over the steps: {_SHOWN_SCOPE[curve.scope]}", ""]
        lines += [*_metric_table(curve.metrics), ""]
    if evaluation.comparison is not None:
        lines += [*_comparison_table(evaluation.comparison), ""]
    lines += [f"- {note}" for note in (_mean_note(definition), *evaluation.notes)]
    if evaluation.warnings:
        lines += ["", "## Warnings", "", *(f"- {warning}" for warning in evaluation.warnings)]
    return "\n".join(lines) + "\n"


def _has_steps(scores: Scores) -> bool:
    return len({step.step for step in scores.steps}) > 1


def _mean_note(definition: Definition) -> str:
    return (
        f"means in the order {definition.order.value}; the interval is a bootstrap over patients "
        f"({LEVEL:.0%}, {RESAMPLES} resamples)"
    )


def _metric_table(scores: Iterable[MetricScore]) -> list[str]:
    lines = [
        "| metric | mean | 95 % interval | of lesions | of scans | of patients | counted | left out |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for entry in scores:
        mean = entry.average
        means = (mean.mean_of_lesions, mean.mean_of_scans, mean.mean_of_patients)
        cells = [entry.metric.value, _number(mean.mean), _interval(mean), *map(_number, means)]
        lines.append(f"| {' | '.join(cells)} | {mean.lesions} | {mean.left_out} |")
    return lines


def _vanished_line(counts: VanishedCounts | None) -> str:
    if counts is None:
        return "Vanished lesions: unknown (needs --baseline or --lesion-map)."
    line = (
        f"Vanished lesions: {counts.found} of {counts.found + counts.missed} left empty "
        f"(sensitivity {_with_interval(counts.sensitivity, counts.sensitivity_interval)}); lesions still "
        f"present: {counts.kept} of {counts.kept + counts.lost} predicted "
        f"(specificity {_with_interval(counts.specificity, counts.specificity_interval)})."
    )
    if counts.false_ml_mean is None:
        return line
    mean = _with_interval(counts.false_ml_mean, counts.false_ml_interval)
    return f"{line} False ml of a vanished lesion: mean {mean}, median {_number(counts.false_ml_median)}."


def _change_line(change: ChangeSlope | None) -> list[str]:
    if change is None:
        return []
    slope = _with_interval(change.slope, (change.low, change.high))
    lesions = f"{change.lesions} lesions of {change.patients} patients"
    return ["", f"Log-slope of drawn on true change in volume: {slope}, over {lesions}."]


def _with_interval(value: float | None, interval: Interval) -> str:
    low, high = interval
    return _number(value) + ("" if low is None else f" [{_number(low)} to {_number(high)}]")


def _comparison_table(comparison: Comparison) -> list[str]:
    lines = [
        f"## This run less {comparison.other}",
        "",
        "| metric | scope | difference | 95 % interval | pairs | better | worse | p lesions | p patients |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for entry in comparison.metrics:
        mean = entry.difference
        lines.append(
            f"| {entry.metric} | {entry.scope} | {_number(mean.mean)} | {_interval(mean)} | {mean.lesions} | "
            f"{entry.better} | {entry.worse} | {_number(entry.p_lesions)} | {_number(entry.p_patients)} |"
        )
    return lines


def _interval(mean: Average) -> str:
    return "–" if mean.low is None else f"{_number(mean.low)} to {_number(mean.high)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
