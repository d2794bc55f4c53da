"""Tables, summary and curves of a run of the protocol."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..case.atomic_files import atomic_write, write_text
from ..case.lesion_json import write_json
from ..errors import one_line
from ..evaluation.lesion_matches import MATCH_IOU, LesionMatches
from .case_record import CaseRecord
from .protocol_options import ProtocolOptions, ProtocolPrompt
from .run_protocol import ProtocolResult
from .step_scores import LARGEST, StepMetric, StepRecord, area_under_steps

SUMMARY_FILE, CURVES_FILE = "summary.json", "curves.png"
STEPS_TABLE, CASES_TABLE = "steps.csv", "cases.csv"

PAPER_STEPS = (0, 3, 7, 10)
"""Numbers of clicks at which [Rokuss2025b] reports its AUC."""
_FIRST_STEPS = tuple(range(6))
_LABELS = {
    StepMetric.DICE: "Dice",
    StepMetric.DMM: "DMM",
    StepMetric.FPV: "FPvol (ml)",
    StepMetric.FNV: "FNvol (ml)",
}

_STEP_LABELS = {ProtocolPrompt.CLICKS: "clicks of each kind", ProtocolPrompt.SCRIBBLES: "scribbles"}

_DEFINITIONS = {
    "dice": "2 common / (reference + prediction) voxels; undefined without a lesion",
    "dmm": "F1 of lesions: components (18 neighbours) of reference and prediction that match at an "
    f"intersection over union of {MATCH_IOU:g}, several matches are no fault; undefined without a lesion",
    "fpv_ml": "volume of predicted components (18 neighbours) that touch no lesion",
    "fnv_ml": "volume of lesions that no prediction touches; undefined without a lesion",
    "auc": "trapezoids with a unit distance between steps; at best the number of steps minus 1 for dice and "
    "dmm, 0 for volumes; share is the AUC divided by the number of steps minus 1",
    "means": "over the cases for which the number is defined",
    "dmm_pooled": "F1 of the lesions of all cases together, those without a lesion included",
}


def write_protocol_report(output: Path, result: ProtocolResult, options: ProtocolOptions) -> dict[str, Any]:
    """Write tables and summary; returns the summary.

    Raises:
        OutputError: a file cannot be written.
    """
    summary = protocol_summary(result, options)
    write_text(output / STEPS_TABLE, _csv(_step_rows(result.records)))
    write_text(output / CASES_TABLE, _csv(_case_rows(result.records, options.steps)))
    write_json(output / SUMMARY_FILE, summary, decimals=None)
    return summary


def protocol_summary(result: ProtocolResult, options: ProtocolOptions) -> dict[str, Any]:
    """Build the content of summary.json; undefined numbers are None."""
    records, steps = result.records, options.steps
    areas = {f"auc_steps_{'_'.join(map(str, chosen))}": chosen for chosen in _subsets(steps)}
    return {
        "prompts": options.kind.value,
        "steps": list(steps),
        "cases": len(records),
        "failed": {name: one_line(error) for name, error in result.failures.items()},
        "definitions": _DEFINITIONS,
        "auc": _area(records, steps),
        **{name: _area(records, chosen) for name, chosen in areas.items()},
        "last": _step_means(records, steps[-1]),
        "by_step": [{"step": step, **_step_means(records, step)} for step in steps],
    }


def _subsets(steps: Sequence[int]) -> list[tuple[int, ...]]:
    """The steps of [Rokuss2025b] and the first six, where they are a part of those that ran."""
    return [chosen for chosen in (PAPER_STEPS, _FIRST_STEPS) if set(chosen) < set(steps)]


def _scores(record: CaseRecord, steps: Sequence[int], metric: StepMetric) -> list[float | None]:
    by_step = {step.step: step for step in record.steps}
    return [by_step[step].score(metric) for step in steps]


def _area(records: Iterable[CaseRecord], steps: Sequence[int]) -> dict[str, Any]:
    """The AUC of each metric, averaged over the cases, with its range."""
    document: dict[str, Any] = {"steps": list(steps)}
    areas = {
        metric: [area_under_steps(_scores(record, steps, metric)) for record in records]
        for metric in StepMetric
    }
    for metric, values in areas.items():
        mean, cases = _mean(values)
        span = len(steps) - 1
        best = LARGEST.get(metric)
        document[metric.value] = {
            "mean": mean,
            "share": None if mean is None else mean / span,
            "range": [0, None if best is None else best * span],
            "cases": cases,
        }
    return document


def _step_means(records: Iterable[CaseRecord], step: int) -> dict[str, Any]:
    chosen = [one for record in records for one in record.steps if one.step == step]
    document: dict[str, Any] = {}
    for metric in StepMetric:
        mean, cases = _mean([one.score(metric) for one in chosen])
        document[metric.value] = {"mean": mean, "cases": cases}
    pooled = LesionMatches(
        *(sum(getattr(one, name) for one in chosen) for name in ("found", "missed", "false"))
    )
    return {**document, "dmm_pooled": pooled.f1}


def _mean(values: Sequence[float | None]) -> tuple[float | None, int]:
    defined = [value for value in values if value is not None]
    return (sum(defined) / len(defined) if defined else None), len(defined)


def _step_rows(records: Iterable[CaseRecord]) -> list[list[Any]]:
    counts = [name for name in StepRecord.model_fields if name != "step"]
    rows: list[list[Any]] = [["case", "step", *StepMetric, *counts]]
    rows += [
        [
            record.case,
            step.step,
            *(step.score(m) for m in StepMetric),
            *(getattr(step, name) for name in counts),
        ]
        for record in records
        for step in record.steps
    ]
    return rows


def _case_rows(records: Iterable[CaseRecord], steps: Sequence[int]) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [
            "case",
            "reference_ml",
            "lesions",
            *(f"auc_{m}" for m in StepMetric),
            *(f"last_{m}" for m in StepMetric),
        ]
    ]
    for record in records:
        last = record.steps[-1]
        areas = [area_under_steps(_scores(record, steps, metric)) for metric in StepMetric]
        volume = last.reference_voxels * last.voxel_ml
        lesions = last.found + last.missed
        rows.append([record.case, volume, lesions, *areas, *(last.score(metric) for metric in StepMetric)])
    return rows


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        ["" if cell is None else cell for cell in row] for row in rows
    )
    return text.getvalue()


def draw_curves(path: Path, records: Sequence[CaseRecord], options: ProtocolOptions) -> None:
    """Draw each metric over the steps, a line for each case and their mean, if matplotlib is installed.

    Raises:
        OutputError: the picture cannot be written.
    """
    if not records:
        return
    try:
        from matplotlib.figure import Figure
    except (ImportError, OSError):
        return
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for axes, metric in zip(panels.ravel(), StepMetric, strict=True):
        for record in records:
            axes.plot(
                options.steps, _scores(record, options.steps, metric), color="grey", alpha=0.4, linewidth=0.8
            )
        means = [
            _mean([_scores(record, [step], metric)[0] for record in records])[0] for step in options.steps
        ]
        axes.plot(options.steps, means, color="tab:blue", marker="o", label=f"mean of {len(records)} cases")
        axes.set(title=_LABELS[metric], ylim=(0, 1) if metric in LARGEST else (0, None))
        axes.grid(alpha=0.3)
    panels[0, 0].legend()
    for axes in panels[1]:
        axes.set_xlabel(_STEP_LABELS[options.kind])
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary as a Markdown table."""
    lines = [
        f"{summary['cases']} cases",
        "",
        "| step | Dice | DMM | FPvol ml | FNvol ml |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {one['step']} | {_cells(one)} |" for one in summary["by_step"]]
    areas = summary["auc"]
    ranges = ", ".join(f"{metric} 0 to {areas[metric]['range'][1]:g}" for metric in LARGEST)
    lines += [f"| AUC | {_cells(areas)} |", "", f"Range of the AUC: {ranges}."]
    return "\n".join(lines)


def _cells(means: Mapping[str, Any]) -> str:
    values = [means[metric]["mean"] for metric in StepMetric]
    return " | ".join("–" if value is None else f"{value:.4f}" for value in values)
