"""Compare the prediction of one pair of scans with its prompted lesions.

Lesions that were not prompted (new ones, and those without a point) are in neither reference nor prediction,
as in the published evaluation of lesion pairs.
"""

from __future__ import annotations

from collections.abc import Set

from ..evaluation.lesion_groups import LesionGroup, lesion_groups
from ..evaluation.lesion_map import MappedLesion
from ..evaluation.measure_scan import Labelmap, ScanName, empty_like, measure_scan
from ..evaluation.records import LesionRecord, Scope
from .loaded_scans import LoadedScan
from .pairs import EvaluationPair


def measure_pair(
    pair: EvaluationPair,
    baseline: LoadedScan,
    reference: Labelmap,
    prediction: Labelmap | None,
    failed: Set[int] = frozenset(),
) -> tuple[LesionRecord, ...]:
    """Measure all lesions of a pair, merged and split ones joined, and the scan as one foreground.

    Args:
        pair: the pair with its lesions.
        baseline: the loaded baseline, for the lesions' volumes.
        reference: from `reference_of`.
        prediction: on the grid of the reference, or None.
        failed: lesions without a prediction. A group of joined lesions counts as missing if one of it failed.
    """
    groups = _groups(pair, reference, prediction)
    volumes = {group: sum(map(baseline.ml_of, group.baseline_ids)) for group in groups}
    if prediction is None:
        name = ScanName(pair.patient_id, pair.name, 1, is_missing=True)
        return tuple(measure_scan(name, groups, reference, empty_like(reference), volumes))
    records: list[LesionRecord] = []
    for is_missing in (False, True):
        chosen = [group for group in groups if bool(failed & set(group.baseline_ids)) is is_missing]
        if is_missing and not chosen:
            continue
        name = ScanName(pair.patient_id, pair.name, 1, is_missing)
        chosen_volumes = {group: volumes[group] for group in chosen}
        measured = measure_scan(name, chosen, reference, prediction, chosen_volumes)
        records += [r for r in measured if not is_missing or r.scope is Scope.LESION]
    return tuple(records)


def reference_of(pair: EvaluationPair, followup: LoadedScan) -> Labelmap:
    """Return the follow-up's labelmap with the prompted lesions only."""
    ids = frozenset(number for lesion in pair.lesions for number in lesion.followup_ids)
    return followup.reference(pair.followup.labels or pair.followup.image, ids)


def _groups(pair: EvaluationPair, reference: Labelmap, prediction: Labelmap | None) -> list[LesionGroup]:
    mapped = tuple(MappedLesion((lesion.lesion_id,), lesion.followup_ids) for lesion in pair.lesions)
    before = {lesion.lesion_id for lesion in pair.lesions}
    return list(lesion_groups(mapped, reference.ids, prediction.ids if prediction else frozenset(), before))
