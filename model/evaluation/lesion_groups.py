"""Groups the labels of a scan into lesions: merged and split ones are joined."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from .lesion_map import MappedLesion


@dataclass(frozen=True, slots=True)
class LesionGroup:
    """Labels of one lesion in baseline, reference and prediction; any of them may be empty.

    ``existed`` is True if the baseline has the lesion, None if there is no baseline.
    """

    name: str
    baseline_ids: tuple[int, ...]
    reference_ids: tuple[int, ...]
    prediction_ids: tuple[int, ...]
    existed: bool | None


def lesion_groups(
    mapped: tuple[MappedLesion, ...] | None,
    reference_ids: Set[int],
    prediction_ids: Set[int],
    baseline_ids: Set[int] | None,
) -> tuple[LesionGroup, ...]:
    """Group the labels of a scan into lesions, ordered by their first id; their names are unique.

    With a map, baseline lesions that share a follow-up lesion are one lesion, together with all their
    follow-up lesions. Parts into which the map splits a baseline lesion have the id that the baseline holds,
    else the lowest one. The prediction of a lesion has one of its baseline ids, or one of its follow-up ids
    that is not another lesion's baseline id. Labels that the map does not list, and all labels if there is no
    map, are lesions of their own. A lesion that is not in the baseline, but has the id of one that is, is
    named "new ID".

    Args:
        mapped: lesions of the map in this scan; None if there is no map.
        reference_ids: labels of the reference.
        prediction_ids: labels of the predictions, at any step.
        baseline_ids: labels of the baseline; None if it was not given.
    """
    lesions = None if mapped is None else tuple(_with_parts(mapped, baseline_ids or frozenset()))
    groups = [] if lesions is None else _named([_mapped(ids, lesions) for ids in _joined(lesions)])
    taken = {group.name for group in groups}
    listed_reference = {lesion_id for group in groups for lesion_id in group.reference_ids}
    listed_prediction = {lesion_id for group in groups for lesion_id in group.prediction_ids}
    unlisted_before = set(baseline_ids or ()) - {i for group in groups for i in group.baseline_ids}
    if mapped is not None:
        # A label that the map lists as a lesion of the follow-up is not another one of the baseline.
        unlisted_before -= listed_reference | listed_prediction
    rest = (reference_ids - listed_reference) | (prediction_ids - listed_prediction) | unlisted_before
    for lesion_id in rest:
        own = (lesion_id,)
        existed = None if mapped is None and baseline_ids is None else lesion_id in unlisted_before
        groups.append(
            LesionGroup(
                _free_name(str(lesion_id), taken),
                own if lesion_id in unlisted_before else (),
                own if lesion_id not in listed_reference else (),
                own if lesion_id not in listed_prediction else (),
                existed,
            )
        )
    return tuple(sorted(groups, key=_order))


def _named(groups: list[LesionGroup]) -> list[LesionGroup]:
    """Make names unique: ids of the baseline and of the follow-up may be the same numbers."""
    taken = {group.name for group in groups if group.baseline_ids}
    return [g if g.baseline_ids else replace(g, name=_free_name(g.name, taken)) for g in groups]


def _free_name(name: str, taken: Set[str]) -> str:
    return f"new {name}" if name in taken else name


def _order(group: LesionGroup) -> tuple[int, str]:
    return (min((*group.baseline_ids, *group.reference_ids, *group.prediction_ids)), group.name)


def _with_parts(mapped: tuple[MappedLesion, ...], baseline_ids: Set[int]) -> Iterator[MappedLesion]:
    """Join the parts into which a baseline lesion has split.

    The baseline holds the id of one of the parts. If it holds several of them, these are lesions of their
    own, and only the others are parts.
    """
    for lesion in mapped:
        if not lesion.split_ids:
            yield lesion
            continue
        ids = {*lesion.baseline_ids, *lesion.split_ids}
        held = ids & baseline_ids or {min(ids)}
        if held.isdisjoint(lesion.baseline_ids):
            continue  # a part of the lesion with the held id
        scans = (lesion.baseline_scan, lesion.followup_scan)
        same = [other for other in mapped if (other.baseline_scan, other.followup_scan) == scans]
        parts = [other for other in same if (ids - held).intersection(other.baseline_ids)]
        after = {i for part in (lesion, *parts) for i in part.followup_ids}
        yield replace(lesion, followup_ids=tuple(sorted(after)), split_ids=())


def _joined(mapped: tuple[MappedLesion, ...]) -> list[tuple[set[int], set[int]]]:
    """Join lesions that share ids; returns the baseline ids and the follow-up ids of each."""
    joined: list[tuple[set[int], set[int]]] = []
    for lesion in mapped:
        before, after = set(lesion.baseline_ids), set(lesion.followup_ids)
        apart = []
        for other in joined:
            if other[0] & before or other[1] & after:
                before |= other[0]
                after |= other[1]
            else:
                apart.append(other)
        joined = [*apart, (before, after)]
    return [pair for pair in joined if pair[0] or pair[1]]


def _mapped(ids: tuple[set[int], set[int]], mapped: tuple[MappedLesion, ...]) -> LesionGroup:
    before, after = ids
    foreign = {i for lesion in mapped for i in lesion.baseline_ids} - before
    return LesionGroup(
        "+".join(map(str, sorted(before or after))),
        tuple(sorted(before)),
        tuple(sorted(after)),
        tuple(sorted(before | (after - foreign))),
        bool(before),
    )
