"""Evaluation of two labelmaps in memory, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..case.geometry import Array, Geometry, Vector, flip_order
from ..case.voxel_checks import lesion_labels
from ..errors import InputError
from .definitions import DEFINITIONS, Definition
from .lesion_groups import lesion_groups
from .measure_scan import Labelmap, ScanName, measure_scan
from .metrics import Metric
from .records import LesionRecord, Scope
from .score_records import Scores, score_records

_NAME = ScanName(patient="array", scan="array", step=1, is_missing=False)


@dataclass(frozen=True, slots=True)
class RegionScores:
    """Scores of one lesion, or of all lesions as one foreground; None if the definition leaves a value out.

    Attributes:
        reference_ml: volume of the reference in ml.
        prediction_ml: volume of the prediction in ml.
        dice: 2 |R ∩ P| / (|R| + |P|).
        recall: |R ∩ P| / |R|.
        precision: |R ∩ P| / |P|.
        fn_volume_ml: volume of the reference's components (18 neighbours) without any prediction.
        fp_volume_ml: volume of the prediction's components (18 neighbours) without any reference.
        nsd_2mm: normalised surface Dice at 2 mm, 0 to 1.
        hd95_mm: 95 % Hausdorff distance; the diagonal of the scan if nothing is predicted.
        assd_mm: average symmetric surface distance; the diagonal of the scan if nothing is predicted.
    """

    reference_ml: float
    prediction_ml: float
    dice: float | None
    recall: float | None
    precision: float | None
    fn_volume_ml: float | None
    fp_volume_ml: float | None
    nsd_2mm: float | None
    hd95_mm: float | None
    assd_mm: float | None


@dataclass(frozen=True, slots=True)
class ArrayEvaluation:
    """Evaluation of one pair of labelmaps.

    Attributes:
        definition: name of the definition that scores it.
        lesions: scores by lesion id, in ascending order; includes ids that only the prediction has.
        foreground: scores of all lesions as one foreground.
        means: mean of each metric over the lesions; None if all of them are left out.
        records: the measurements, one for each lesion and the last one for the foreground.
        scores: all scores of the records by the definition.
    """

    definition: str
    lesions: Mapping[int, RegionScores]
    foreground: RegionScores
    means: Mapping[str, float | None]
    records: tuple[LesionRecord, ...]
    scores: Scores


def evaluate_arrays(
    reference: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    spacing_zyx: Sequence[float],
    definition: str = "challenge",
) -> ArrayEvaluation:
    """Compare a predicted labelmap with its reference; equal lesion ids pair.

    Args:
        reference: lesion ids (z, y, x), whole numbers of any type from 0 (background) to 65535; a boolean
            mask is the lesion 1.
        prediction: lesion ids of the same shape.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        definition: ``challenge``, ``longitudinal`` or ``tracking``; sets the scores of empty masks.

    Returns:
        Scores of each lesion and of the whole foreground, and means over the lesions.

    Raises:
        InputError: shapes, types, ids or the spacing cannot be used, or the definition is unknown.
    """
    if definition not in DEFINITIONS:
        raise InputError(f"definition: is {definition!r}; expected one of: {', '.join(DEFINITIONS)}")
    rules, spacing = DEFINITIONS[definition], _spacing(spacing_zyx)
    true = _labelmap("reference", reference, spacing)
    predicted = _labelmap("prediction", prediction, spacing)
    shape, expected = predicted.array.shape, true.array.shape
    if shape != expected:
        raise InputError(f"prediction: has shape {shape}; expected that of the reference, {expected}")
    groups = lesion_groups(None, true.ids, predicted.ids, None)
    records = tuple(measure_scan(_NAME, groups, true, predicted, baseline_ml={}))
    scores = score_records(records, rules)
    of_lesions = scores.last(Scope.LESION).metrics
    return ArrayEvaluation(
        definition=definition,
        lesions={int(record.lesion): _region_scores(record, rules) for record in records[:-1]},
        foreground=_region_scores(records[-1], rules),
        means={score.metric.value: score.average.mean_of_lesions for score in of_lesions},
        records=records,
        scores=scores,
    )


def _spacing(spacing_zyx: Sequence[float]) -> Vector:
    try:
        z, y, x = (float(value) for value in spacing_zyx)
    except (TypeError, ValueError) as error:
        raise InputError(f"spacing_zyx: is {spacing_zyx!r}; expected three numbers in mm") from error
    if not all(np.isfinite(value) and value > 0 for value in (z, y, x)):
        raise InputError(f"spacing_zyx: is {spacing_zyx!r}; expected three numbers above 0, in mm")
    return (z, y, x)


def _labelmap(name: str, values: npt.ArrayLike, spacing_zyx: Vector) -> Labelmap:
    array: Array = np.asarray(values)
    if array.ndim != 3 or array.size == 0:
        raise InputError(f"{name}: has shape {array.shape}; expected (z, y, x) with at least one voxel")
    if array.dtype == bool:
        array = array.view(np.uint8)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InputError(f"{name}: has values of type {array.dtype}; expected whole numbers")
    labels = lesion_labels(name, array)
    if labels.dtype != np.uint8:
        labels = labels.astype(np.uint16, copy=False)
    geometry = Geometry(flip_order(array.shape), flip_order(spacing_zyx), (0.0, 0.0, 0.0))
    return Labelmap(Path(name), labels, geometry)


def _region_scores(record: LesionRecord, rules: Definition) -> RegionScores:
    values: dict[str, Any] = {
        metric.value: rules.value(metric, record)
        for metric in (
            Metric.DICE,
            Metric.RECALL,
            Metric.PRECISION,
            Metric.FN_ML,
            Metric.FP_ML,
            Metric.NSD,
            Metric.HD95,
            Metric.ASSD,
        )
    }
    return RegionScores(reference_ml=record.reference_ml, prediction_ml=record.prediction_ml, **values)
