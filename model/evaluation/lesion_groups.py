"""Which labels of a scan make up one lesion: merged and split ones are joined."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from .lesion_map import MappedLesion


@dataclass(frozen=True, slots=True)
class LesionGroup:
    """The labels of one lesion in baseline, reference and prediction; any of them may be empty."""

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
    """The lesions of a scan, by their first id; no two have one name.

    With a map, baseline lesions that share a follow-up lesion are one, and all their follow-up lesions. What
    the map calls parts of one baseline lesion goes by the id that the baseline holds, else by the lowest. Its
    prediction is what bears one of its baseline ids, or a follow-up id that no other lesion has in the
    baseline. Labels that the map does not list, and all labels without one, stand for themselves. A lesion
    that is not in the baseline, but bears the id of one that is, is called "new ID".

    Args:
        mapped: what the map knows of this scan; None where there is none.
        reference_ids: labels of the reference; ``prediction_ids``: of the prediction, at any step.
        baseline_ids: labels of the baseline, None where it was not given.
    """
    lesions = None if mapped is None else tuple(_with_parts(mapped, baseline_ids or frozenset()))
    groups = [] if lesions is None else _named([_mapped(ids, lesions) for ids in _joined(lesions)])
    taken = {group.name for group in groups}
    listed_reference = {lesion_id for group in groups for lesion_id in group.reference_ids}
    listed_prediction = {lesion_id for group in groups for lesion_id in group.prediction_ids}
    known_before = set(baseline_ids or ()) - {i for group in groups for i in group.baseline_ids}
    if mapped is not None:
        # A label that the map lists as a lesion of the follow-up is not another one of the baseline.
        known_before -= listed_reference | listed_prediction
    rest = (reference_ids - listed_reference) | (prediction_ids - listed_prediction) | known_before
    for lesion_id in rest:
        own = (lesion_id,)
        existed = None if mapped is None and baseline_ids is None else lesion_id in known_before
        groups.append(
            LesionGroup(
                _free_name(str(lesion_id), taken),
                own if lesion_id in known_before else (),
                own if lesion_id not in listed_reference else (),
                own if lesion_id not in listed_prediction else (),
                existed,
            )
        )
    return tuple(sorted(groups, key=_order))


def _named(groups: list[LesionGroup]) -> list[LesionGroup]:
    """The same with names of their own: ids of the baseline and of the follow-up may be the same numbers."""
    taken = {group.name for group in groups if group.baseline_ids}
    return [g if g.baseline_ids else replace(g, name=_free_name(g.name, taken)) for g in groups]


def _free_name(name: str, taken: Set[str]) -> str:
    return f"new {name}" if name in taken else name


def _order(group: LesionGroup) -> tuple[int, str]:
    return (min((*group.baseline_ids, *group.reference_ids, *group.prediction_ids)), group.name)


def _with_parts(mapped: tuple[MappedLesion, ...], baseline_ids: Set[int]) -> Iterator[MappedLesion]:
    """The same with what a baseline lesion has split into as one lesion.

    Of the ids of its parts the baseline holds one. If it holds several, these are lesions of their own, and
    only the others are parts.
    """
    for lesion in mapped:
        if not lesion.split_ids:
            yield lesion
            continue
        ids = {*lesion.baseline_ids, *lesion.split_ids}
        held = ids & baseline_ids or {min(ids)}
        if held.isdisjoint(lesion.baseline_ids):
            continue  # it is a part of the one that is held
        scans = (lesion.baseline_scan, lesion.followup_scan)
        same = [other for other in mapped if (other.baseline_scan, other.followup_scan) == scans]
        parts = [other for other in same if (ids - held).intersection(other.baseline_ids)]
        after = {i for part in (lesion, *parts) for i in part.followup_ids}
        yield replace(lesion, followup_ids=tuple(sorted(after)), split_ids=())


def _joined(mapped: tuple[MappedLesion, ...]) -> list[tuple[set[int], set[int]]]:
    """Baseline and follow-up ids of lesions that hang together."""
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
