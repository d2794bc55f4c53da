"""Compares two runs on the same lesions: paired differences, intervals, Wilcoxon's signed-rank test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from ..errors import InputError
from .averages import Average, LesionValue, average, means_by_patient, means_by_scan
from .definitions import Definition
from .metrics import LARGER_IS_BETTER, Metric
from .records import RECORDS_NAME, LesionRecord, Scope, read_records
from .score_records import scope_metrics, step_value

_Key = tuple[str, Scope, str]
"""Scan, scope and lesion."""


@dataclass(frozen=True, slots=True)
class LesionDifference:
    """One metric of one lesion in both runs, at the last step of each."""

    patient: str
    scan: str
    scope: Scope
    lesion: str
    metric: Metric
    this: float
    other: float

    @property
    def difference(self) -> float:
        return self.this - self.other


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """Difference in one metric, this run minus the other.

    ``better`` and ``worse`` count lesions by the direction in which the metric improves. The p values are
    two-sided: over lesions, which are not independent within a patient, and over the means of patients; None
    if there is nothing to compare.
    """

    scope: Scope
    metric: Metric
    difference: Average
    better: int
    worse: int
    p_lesions: float | None
    p_patients: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences to another run, whose folder is ``other``."""

    other: Path
    metrics: tuple[MetricComparison, ...]
    lesions: tuple[LesionDifference, ...]
    warnings: tuple[str, ...]


def read_run(folder: Path) -> tuple[LesionRecord, ...]:
    """Read the records of a run that was written with ``-o``.

    Raises:
        InputError: the folder holds no records, or they cannot be read.
    """
    path = folder / RECORDS_NAME
    if not path.is_file():
        raise InputError(f"{folder}: holds no {RECORDS_NAME}; expected the folder (-o) of an evaluation")
    records = read_records(path)
    if not records:
        raise InputError(f"{path}: holds no record; expected the records of an evaluation")
    return records


def compare_runs(
    records: Sequence[LesionRecord], others: Sequence[LesionRecord], other: Path, definition: Definition
) -> Comparison:
    """Compare the last steps of two runs on the lesions that both have.

    A label that only one run predicted and that is no lesion is compared with an empty prediction of the
    other run. Patients are those of this run, as the other may have used another lesion map.

    Args:
        records: records of this run.
        others: records of the other run.
        other: folder of the other run, for messages.
        definition: scores both runs.

    Raises:
        InputError: the runs share no lesion.
    """
    this_run, other_run = _last_step(records), _last_step(others)
    only_theirs, only_ours = _not_predicted(other_run, this_run), _not_predicted(this_run, other_run)
    this_run, other_run = {**this_run, **only_theirs}, {**other_run, **only_ours}
    common = [key for key in this_run if key in other_run]
    if not common:
        raise InputError(f"{other}: shares no lesion with this run; expected a run on the same references")
    warnings = []
    only_this, only_other = this_run.keys() - other_run.keys(), other_run.keys() - this_run.keys()
    for run, keys in (("this run", only_this), (str(other), only_other)):
        if keys:
            warnings.append(f"{len(keys)} records are only in {run}; they are left out of the comparison")
    differing = [key for key in common if this_run[key].reference_voxels != other_run[key].reference_voxels]
    if differing:
        warnings.append(
            f"{other}: {len(differing)} lesions have another reference than here; the comparison is not fair"
        )
    differences, compared = [], []
    for scope in definition.scopes:
        pairs = [(this_run[key], other_run[key]) for key in common if this_run[key].scope is scope]
        for metric in scope_metrics(scope, definition):
            of_metric = list(_differences(pairs, metric, definition))
            differences += of_metric
            compared.append(_compare_metric(scope, metric, of_metric, len(pairs), definition))
    return Comparison(other, tuple(compared), tuple(differences), tuple(warnings))


def signed_rank_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test; 1 if all differences are 0, None without differences."""
    if not differences:
        return None
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def _last_step(records: Iterable[LesionRecord]) -> dict[_Key, LesionRecord]:
    last = max(record.step for record in records)
    return {(r.scan, r.scope, r.lesion): r for r in records if r.step == last}


def _not_predicted(
    other_run: Mapping[_Key, LesionRecord], this_run: Mapping[_Key, LesionRecord]
) -> dict[_Key, LesionRecord]:
    """Empty predictions of this run for labels that only the other one predicted and that are no lesion."""
    scans = {record.scan: record for record in this_run.values()}
    return {
        key: replace(
            record,
            patient=scans[record.scan].patient,
            is_missing=scans[record.scan].is_missing,
            prediction_voxels=0,
            common_voxels=0,
            fp_voxels=0,
            nsd_2mm=None,
            hd95_mm=None,
            assd_mm=None,
            centre_mm=None,
        )
        for key, record in other_run.items()
        if key not in this_run and record.scan in scans and not record.is_real
    }


def _differences(
    pairs: Iterable[tuple[LesionRecord, LesionRecord]], metric: Metric, definition: Definition
) -> Iterable[LesionDifference]:
    for record, other_record in pairs:
        this, other = (step_value(definition, metric, each) for each in (record, other_record))
        if this is not None and other is not None:
            yield LesionDifference(
                record.patient, record.scan, record.scope, record.lesion, metric, this, other
            )


def _compare_metric(
    scope: Scope, metric: Metric, differences: Sequence[LesionDifference], pairs: int, definition: Definition
) -> MetricComparison:
    values = [LesionValue(entry.patient, entry.scan, entry.difference) for entry in differences]
    mean = average(values, definition.order)
    sign = 1 if metric in LARGER_IS_BETTER else -1
    return MetricComparison(
        scope=scope,
        metric=metric,
        difference=replace(mean, left_out=pairs - len(differences)),
        better=sum(sign * entry.difference > 0 for entry in differences),
        worse=sum(sign * entry.difference < 0 for entry in differences),
        p_lesions=signed_rank_p([entry.difference for entry in differences]),
        p_patients=signed_rank_p(list(means_by_patient(means_by_scan(values)).values())),
    )
