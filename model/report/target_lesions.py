"""Target lesions, and their size at a time point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .findings import Finding, FindingState, FollowedLesion
from .lesion_facts import LesionFacts
from .response_criteria import SizeCriteria


@dataclass(frozen=True, slots=True)
class TargetChoice:
    """Ids of target and non-target lesions of the baseline, and how they were chosen, in sentences."""

    targets: tuple[int, ...]
    others: tuple[int, ...]
    notes: tuple[str, ...]


def choose_targets(
    lesions: Sequence[FollowedLesion],
    facts: Mapping[int, LesionFacts],
    slices_mm: Mapping[str, float],
    criteria: SizeCriteria,
) -> TargetChoice:
    """Choose the target lesions among those that the baseline shows.

    Targets that are given are taken as they are. Otherwise the largest measurable lesions are, as many as
    the criteria allow in all and, where it is known, per organ.

    Args:
        lesions: of the patient; their first finding is the baseline.
        facts: by lesion id.
        slices_mm: distance of slices of each scan of the baseline, by slot.
        criteria: whose limits apply.
    """
    shown = [lesion for lesion in lesions if lesion.findings[0].measures is not None]
    ids = [lesion.lesion_id for lesion in shown]
    given = tuple(key for key in ids if (facts.get(key) or LesionFacts()).is_target)
    if given:
        weak = [
            lesion.lesion_id
            for lesion in shown
            if lesion.lesion_id in given and not _is_measurable(lesion, facts, slices_mm, criteria)
        ]
        notes = [f"targets as given: {_listed(given)}"]
        if weak:
            notes.append(f"targets that are too small to be measurable: {_listed(weak)}")
        if len(given) > criteria.max_targets:
            notes.append(f"more than {criteria.max_targets} targets are given")
        return TargetChoice(given, tuple(key for key in ids if key not in given), tuple(notes))
    allowed = [
        lesion
        for lesion in shown
        if (facts.get(lesion.lesion_id) or LesionFacts()).is_target is not False
        and _is_measurable(lesion, facts, slices_mm, criteria)
    ]
    targets = _largest(allowed, facts, criteria)
    notes = ["the largest measurable lesions are the targets"]
    if not facts:
        notes[0] = "no facts of the lesions are given: " + notes[0] + ", organs and nodes are not known"
    return TargetChoice(targets, tuple(key for key in ids if key not in targets), tuple(notes))


def _largest(
    lesions: Sequence[FollowedLesion], facts: Mapping[int, LesionFacts], criteria: SizeCriteria
) -> tuple[int, ...]:
    chosen: list[int] = []
    per_organ = Counter[str]()
    for lesion in sorted(lesions, key=lambda one: (-_own_mm(one, facts), one.lesion_id)):
        own = facts.get(lesion.lesion_id) or LesionFacts()
        organ = "lymph nodes" if own.is_node else own.organ
        if len(chosen) == criteria.max_targets or (organ and per_organ[organ] == criteria.max_per_organ):
            continue
        chosen.append(lesion.lesion_id)
        if organ:
            per_organ[organ] += 1
    return tuple(sorted(chosen))


def _own_mm(lesion: FollowedLesion, facts: Mapping[int, LesionFacts]) -> float:
    """The diameter by which a lesion counts, at the baseline."""
    measures = lesion.findings[0].measures
    assert measures is not None
    is_node = (facts.get(lesion.lesion_id) or LesionFacts()).is_node
    return measures.axial.short.length_mm if is_node else measures.axial.long.length_mm


def _is_measurable(
    lesion: FollowedLesion,
    facts: Mapping[int, LesionFacts],
    slices_mm: Mapping[str, float],
    criteria: SizeCriteria,
) -> bool:
    is_node = (facts.get(lesion.lesion_id) or LesionFacts()).is_node
    slice_mm = slices_mm.get(lesion.findings[0].scan or "", 0.0)
    least = criteria.node_target_mm if is_node else criteria.measurable_mm
    return _own_mm(lesion, facts) >= max(least, criteria.measurable_slices * slice_mm)


def target_size(finding: Finding, is_node: bool, criteria: SizeCriteria) -> float | None:
    """What a lesion adds to the sum, in mm or ml; 0 if it is absent, None if it is unknown.

    A lesion in several parts counts with the sum of their diameters, and one that has merged with others with
    the diameter of them all, which is to be counted once (`Finding.mass`).
    """
    if finding.state is FindingState.UNKNOWN:
        return None
    if finding.measures is None:
        return 0.0
    if criteria.measure == "volume":
        return finding.measures.volume_ml
    if finding.mass is not None:
        mass_mm = finding.mass.short_mm if is_node else finding.mass.long_mm
        return max(mass_mm, criteria.too_small_mm)
    parts = finding.measures.parts
    lengths = [part.short_mm if is_node else part.long_mm for part in parts]
    if len(parts) == 1:
        axial = finding.measures.axial
        lengths = [axial.short.length_mm if is_node else axial.long.length_mm]
    return sum(max(length, criteria.too_small_mm) for length in lengths)


def is_gone(finding: Finding, is_node: bool, criteria: SizeCriteria) -> bool:
    """True if a lesion is absent, or a node of normal size."""
    if finding.state is FindingState.ABSENT:
        return True
    measures = finding.measures
    return is_node and measures is not None and measures.axial.short.length_mm < criteria.node_normal_mm


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))
