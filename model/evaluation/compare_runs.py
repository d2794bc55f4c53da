"""Two runs on the same lesions: paired differences, their interval, and Wilcoxon's signed-rank test."""

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
    """This run less the other one. ``better`` and ``worse`` count lesions by what is good for the metric.

    The p values are two-sided: over lesions, which are not independent within a patient, and over the means
    of patients. None where there is nothing to compare.
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
    """``other`` is the folder of the other run."""

    other: Path
    metrics: tuple[MetricComparison, ...]
    lesions: tuple[LesionDifference, ...]
    warnings: tuple[str, ...]


def read_run(folder: Path) -> tuple[LesionRecord, ...]:
    """The records of a run that was written with ``-o``.

    Raises:
        InputError: the folder holds no records, or none that can be read.
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

    A label of one run's prediction alone is compared with nothing at the same place in the other run.
    Patients are those of this run: the other may have been told otherwise by its lesion map.

    Raises:
        InputError: they share no lesion.
    """
    mine, theirs = _last_step(records), _last_step(others)
    mine, theirs = {**mine, **_not_drawn(theirs, mine)}, {**theirs, **_not_drawn(mine, theirs)}
    common = [key for key in mine if key in theirs]
    if not common:
        raise InputError(f"{other}: shares no lesion with this run; expected a run on the same references")
    warnings = []
    for only, where in ((mine.keys() - theirs.keys(), "this run"), (theirs.keys() - mine.keys(), str(other))):
        if only:
            warnings.append(f"{len(only)} records are in {where} alone; they are left out of the comparison")
    differing = [key for key in common if mine[key].reference_voxels != theirs[key].reference_voxels]
    if differing:
        warnings.append(
            f"{other}: {len(differing)} lesions have another reference there; the comparison is not fair"
        )
    differences, compared = [], []
    for scope in definition.scopes:
        pairs = [(mine[key], theirs[key]) for key in common if mine[key].scope is scope]
        for metric in scope_metrics(scope, definition):
            found = list(_differences(pairs, metric, definition))
            differences += found
            compared.append(_compared(scope, metric, found, len(pairs), definition))
    return Comparison(other, tuple(compared), tuple(differences), tuple(warnings))


def signed_rank_p(differences: Sequence[float]) -> float | None:
    """The two-sided p of Wilcoxon's signed-rank test; 1 where nothing differs, None without differences."""
    if not differences:
        return None
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def _last_step(records: Iterable[LesionRecord]) -> dict[_Key, LesionRecord]:
    last = max(record.step for record in records)
    return {(r.scan, r.scope, r.lesion): r for r in records if r.step == last}


def _not_drawn(
    theirs: Mapping[_Key, LesionRecord], mine: Mapping[_Key, LesionRecord]
) -> dict[_Key, LesionRecord]:
    """Records of this run for labels that are no lesion and only the other one drew, in scans of both."""
    scans = {record.scan: record for record in mine.values()}
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
        for key, record in theirs.items()
        if key not in mine and record.scan in scans and not record.is_real
    }


def _differences(
    pairs: Iterable[tuple[LesionRecord, LesionRecord]], metric: Metric, definition: Definition
) -> Iterable[LesionDifference]:
    for mine, theirs in pairs:
        this, other = step_value(definition, metric, mine), step_value(definition, metric, theirs)
        if this is not None and other is not None:
            yield LesionDifference(mine.patient, mine.scan, mine.scope, mine.lesion, metric, this, other)


def _compared(
    scope: Scope, metric: Metric, found: Sequence[LesionDifference], pairs: int, definition: Definition
) -> MetricComparison:
    values = [LesionValue(entry.patient, entry.scan, entry.difference) for entry in found]
    mean = average(values, definition.order)
    sign = 1 if metric in LARGER_IS_BETTER else -1
    return MetricComparison(
        scope=scope,
        metric=metric,
        difference=replace(mean, left_out=pairs - len(found)),
        better=sum(sign * entry.difference > 0 for entry in found),
        worse=sum(sign * entry.difference < 0 for entry in found),
        p_lesions=signed_rank_p([entry.difference for entry in found]),
        p_patients=signed_rank_p(list(means_by_patient(means_by_scan(values)).values())),
    )
