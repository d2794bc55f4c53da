"""Which lesion of a follow-up is which of its baseline, once the labelmaps are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from .cohort import Cohort, Links, Pair, Problem, RawLesion
from .survey import ScanSurvey


def resolve_links(
    cohort: Cohort, surveys: Mapping[str, ScanSurvey]
) -> tuple[tuple[RawLesion, ...], tuple[Problem, ...]]:
    """The lesions of a data set with the ids that they have in the follow-up, and what was left out.

    Args:
        surveys: of all scans, without faults.
    """
    if cohort.links is Links.SAME_ID:
        lesions: list[RawLesion] = []
        problems: list[Problem] = []
        for pair in cohort.pairs:
            found, wrong = _by_ids(cohort, pair, surveys)
            lesions += found
            problems += wrong
        return tuple(lesions), tuple(problems)
    keep = _told if cohort.links is Links.TOLD else _candidate
    answers = [keep(cohort, lesion, surveys) for lesion in cohort.lesions]
    return (
        tuple(answer for answer in answers if isinstance(answer, RawLesion)),
        tuple(answer for answer in answers if isinstance(answer, Problem)),
    )


def _told(cohort: Cohort, lesion: RawLesion, surveys: Mapping[str, ScanSurvey]) -> RawLesion | Problem:
    """The lesion as it was told; a problem where a labelmap does not hold it."""
    for scan_id, ids in ((lesion.baseline, (lesion.lesion_id,)), (lesion.followup, lesion.followup_ids)):
        missing = sorted(set(ids) - surveys[scan_id].by_id.keys())
        if missing:
            return _missing(cohort, scan_id, missing, lesion.lesion_id)
    return lesion


def _candidate(
    cohort: Cohort, lesion: RawLesion, surveys: Mapping[str, ScanSurvey]
) -> RawLesion | Problem | None:
    """The lesion with those of its candidates that count; None for a part of another one that split.

    Its own id counts where the follow-up holds it, and with it those that only the follow-up holds (parts).
    Else it has merged into those that the follow-up holds.
    """
    baseline, followup = surveys[lesion.baseline].by_id, surveys[lesion.followup].by_id
    own, others = lesion.lesion_id, set(lesion.followup_ids) - {lesion.lesion_id}
    if own not in baseline and others & baseline.keys():
        return None
    if own not in baseline and own not in followup:
        return _missing(cohort, lesion.baseline, [own], own)
    if own in followup:
        ids = {own} | {other for other in others if other in followup and other not in baseline}
    else:
        ids = others & followup.keys()
    return replace(lesion, followup_ids=tuple(sorted(ids)))


def _by_ids(
    cohort: Cohort, pair: Pair, surveys: Mapping[str, ScanSurvey]
) -> tuple[list[RawLesion], list[Problem]]:
    """The lesions of a pair of labelmaps; the same id is the same lesion unless it was renamed."""
    baseline, followup = surveys[pair.baseline].by_id, surveys[pair.followup].by_id
    renamed, problems = dict(pair.renamed), list(_misnamed(cohort, pair, surveys))
    points, propagated = dict(pair.baseline_points), dict(pair.propagated_points)
    became = {own: renamed.get(own, (own,) if own in followup else ()) for own in baseline}
    claimed = {number for ids in became.values() for number in ids}
    new = [own for own in followup if own not in claimed and own not in baseline]
    became |= {own: (own,) for own in new if own in points}
    if not pair.baseline_is_first:  # a registration's guess is no prompt where the mask tells the place
        points = {own: point for own, point in points.items() if own not in baseline}
    lesions = [
        RawLesion(own, pair.baseline, pair.followup, ids, points.get(own), None, propagated.get(own))
        for own, ids in became.items()
        if set(ids) <= followup.keys()
    ]
    pointless = [own for own in new if own not in points]
    reused = [own for own in followup if own not in claimed and own in baseline]
    return lesions, [*problems, *_left_out(cohort, pair, pointless, reused)]


def _left_out(cohort: Cohort, pair: Pair, pointless: list[int], reused: list[int]) -> Iterator[Problem]:
    """Notes on lesions that only the follow-up has: without a point, or under an id of another lesion."""
    scan = cohort.scan(pair.followup)
    for ids, why in (
        (pointless, f"not in {pair.baseline}, and have no point there"),
        (reused, f"another one in {pair.baseline} by the links"),
    ):
        if ids:
            rest = "as new lesions they cannot be asked for, and are left out"
            yield Problem(scan.labels or scan.image, f"{_named(ids)} {why}", rest, is_note=True)


def _misnamed(cohort: Cohort, pair: Pair, surveys: Mapping[str, ScanSurvey]) -> Iterator[Problem]:
    """Links of a pair that name ids which a labelmap does not hold."""
    for own, ids in pair.renamed:
        for scan_id, wanted in ((pair.baseline, {own}), (pair.followup, set(ids))):
            missing = sorted(wanted - surveys[scan_id].by_id.keys())
            if missing:
                yield _missing(cohort, scan_id, missing, own)


def _missing(cohort: Cohort, scan_id: str, ids: list[int], lesion_id: int) -> Problem:
    scan = cohort.scan(scan_id)
    held = ", ".join(map(str, ids))
    return Problem(
        scan.labels or scan.image,
        f"does not hold lesion {held}, which {scan_id} was said to have; expected its voxels",
        f"lesion {lesion_id} of {scan.patient_id} is left out",
    )


def _named(ids: list[int]) -> str:
    return f"lesion{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))} {'are' if len(ids) > 1 else 'is'}"
