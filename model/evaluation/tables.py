"""Metrics of records and differences of runs as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..case.text_files import csv_text
from .averages import means_by_patient, means_by_scan
from .compare_runs import Comparison
from .definitions import Definition
from .metrics import Metric
from .records import LesionRecord
from .score_records import metric_values, scope_metrics


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
    return tables | {"per_scan": csv_text(scans), "per_patient": csv_text(patients)}


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
    return csv_text(rows)


def comparison_csv(comparison: Comparison) -> str:
    """Write the difference of each lesion and metric as CSV."""
    rows: list[list[Any]] = [["patient", "scan", "scope", "lesion", "metric", "this", "other", "difference"]]
    rows += [
        [e.patient, e.scan, e.scope, e.lesion, e.metric, e.this, e.other, e.difference]
        for e in comparison.lesions
    ]
    return csv_text(rows)
