"""The summary of an evaluation as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .averages import LEVEL, RESAMPLES, SEED, Average
from .change_scores import ChangeSlope, Interval, VanishedCounts
from .compare_runs import Comparison
from .definitions import Definition
from .floor_scores import FloorScore, lesion_dice
from .metrics import Metric
from .records import LesionRecord, Scope
from .score_records import MetricScore, Scores, StepScore
from .surface import NSD_KIND

_MISSING = "–"
_SHOWN_SCOPE = {Scope.LESION: "single lesions", Scope.SCAN: "whole foreground of each scan"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of an evaluation; ``notes`` describe how lesions pair, ``warnings`` what is odd or missing.

    ``floors`` are the same lesions drawn without a network, each with paired differences to the last step.
    """

    records: tuple[LesionRecord, ...]
    scores: Scores
    comparison: Comparison | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    floors: tuple[FloorScore, ...] = ()


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
    if evaluation.floors:
        document["floors"] = [
            {"name": floor.name, "drawn_by": floor.in_words}
            | _step_json(floor.scores.last(Scope.LESION))
            | {"comparison": _comparison_json(floor.comparison)}
            for floor in evaluation.floors
        ]
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
    if evaluation.floors:
        lines += [*_floor_table(scores.last(Scope.LESION), evaluation.floors), ""]
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
    counted = f"{change.lesions} present lesions that were drawn, {change.patients} patients"
    return ["", f"Log-slope of drawn on true change in volume: {slope} ({counted})."]


def _with_interval(value: float | None, interval: Interval) -> str:
    low, high = interval
    return _number(value) + ("" if low is None else f" [{_number(low)} to {_number(high)}]")


def _floor_table(run: StepScore, floors: Iterable[FloorScore]) -> list[str]:
    lines = [
        "## Beside the floor",
        "",
        "| drawn by | Dice | this run less it | better, worse | log-slope | vanished, left empty | present, "
        "drawn | false ml: mean | median |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        _floor_row("this run", run, _MISSING, _MISSING),
    ]
    for floor in floors:
        dice = lesion_dice(floor.comparison)
        difference = _with_interval(dice.difference.mean, (dice.difference.low, dice.difference.high))
        better = f"{dice.better}, {dice.worse}"
        lines.append(_floor_row(floor.in_words, floor.scores.last(Scope.LESION), difference, better))
    return lines


def _floor_row(drawn_by: str, step: StepScore, difference: str, better: str) -> str:
    dice = next(entry.average for entry in step.metrics if entry.metric is Metric.DICE)
    change, counts = step.change, step.vanished
    cells = [
        drawn_by,
        _with_interval(dice.mean, (dice.low, dice.high)),
        difference,
        better,
        _MISSING if change is None else _with_interval(change.slope, (change.low, change.high)),
    ]
    if counts is None:
        return f"| {' | '.join([*cells, *[_MISSING] * 4])} |"
    cells += [
        f"{counts.found} of {counts.found + counts.missed}",
        f"{counts.kept} of {counts.kept + counts.lost}",
        _with_interval(counts.false_ml_mean, counts.false_ml_interval),
        _number(counts.false_ml_median),
    ]
    return f"| {' | '.join(cells)} |"


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
    return _MISSING if mean.low is None else f"{_number(mean.low)} to {_number(mean.high)}"


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.4g}"
