"""Which lesion of a follow-up is which of its baseline, once the labelmaps are known.

A data set that says of a lesion that a scan shows it, by a point or by a link, is held to it: where the
labelmap lacks the lesion, it is left out of that pair. Trained as absent it would teach to draw nothing.
What a labelmap shows and the data set does not name is told and left out as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace

from ..case.geometry import Vector
from .dataset import Cohort, Links, Problem, RawLesion, RawPair
from .scan_survey import ScanSurvey

_Rows = Mapping[tuple[str, str, int], RawLesion]
"""Lesions by baseline, follow-up and id."""


def resolve_links(
    cohort: Cohort, surveys: Mapping[str, ScanSurvey], listed: Iterable[RawLesion]
) -> tuple[tuple[RawLesion, ...], tuple[Problem, ...]]:
    """The lesions of a data set with the ids that they have in the follow-up, and what was left out.

    Args:
        surveys: of all scans, without faults.
        listed: the lesions that the data set names, also those of scans that cannot be used.
    """
    lesions: list[RawLesion] = []
    problems: list[Problem] = []
    for pair in cohort.pairs:
        found, wrong = _by_ids(cohort, pair, surveys)
        lesions += found
        problems += wrong
    rows = {(lesion.baseline, lesion.followup, lesion.lesion_id): lesion for lesion in cohort.lesions}
    for lesion in cohort.lesions:
        if _is_new(lesion, surveys):
            continue
        is_told = cohort.links is Links.EXPLICIT
        answer = _told(cohort, lesion, surveys) if is_told else _candidate(cohort, lesion, rows, surveys)
        if isinstance(answer, RawLesion):
            lesions.append(answer)
        elif answer is not None:
            problems.append(answer)
    problems += _not_linked(cohort, surveys, lesions, tuple(listed))
    return tuple(lesions), tuple(problems)


def _is_new(lesion: RawLesion, surveys: Mapping[str, ScanSurvey]) -> bool:
    """Whether only the follow-up shows a lesion, and nothing says that the baseline should."""
    is_said = lesion.baseline_point_xyz is not None or lesion.propagated_point_xyz is not None
    if is_said or lesion.lesion_id in surveys[lesion.baseline].by_id:
        return False
    return bool({lesion.lesion_id, *lesion.followup_ids} & surveys[lesion.followup].by_id.keys())


def _not_linked(
    cohort: Cohort, surveys: Mapping[str, ScanSurvey], kept: Iterable[RawLesion], listed: Iterable[RawLesion]
) -> Iterator[Problem]:
    """What the labelmaps of a listed pair hold without being linked: gaps of the table, and new lesions.

    A lesion that both scans of a pair show needs a row for this pair; one that the baseline alone shows needs
    one for any of its follow-ups, as these may each cover a part of the body.
    """
    before: dict[str, set[int]] = {}
    after: dict[str, set[int]] = {}
    for row in listed:
        before.setdefault(row.baseline, set()).add(row.lesion_id)
        after.setdefault(row.followup, set()).update((row.lesion_id, *row.followup_ids))
    used = _by_pair(kept)
    for (baseline, followup), rows in _by_pair(cohort.lesions).items():
        pair, linked = RawPair(baseline, followup), used.get((baseline, followup), [])
        one, other = surveys[baseline].by_id.keys(), surveys[followup].by_id.keys()
        named = {number for row in rows for number in (row.lesion_id, *row.followup_ids)}
        if gaps := (one - before[baseline]) | ((one & other) - named):
            yield _gap(cohort, pair, sorted(gaps))
        new = other - after[followup]
        for row in rows:
            if _is_new(row, surveys):
                new |= {row.lesion_id} & other or set(row.followup_ids)
        free = other - {number for lesion in linked for number in lesion.followup_ids}
        reused = free & {lesion.lesion_id for lesion in linked}
        yield from _left_out(cohort, pair, sorted((new & free) - one), sorted(reused))


def _by_pair(lesions: Iterable[RawLesion]) -> dict[tuple[str, str], list[RawLesion]]:
    """Lesions by baseline and follow-up, in the order of the rows."""
    found: dict[tuple[str, str], list[RawLesion]] = {}
    for lesion in lesions:
        found.setdefault((lesion.baseline, lesion.followup), []).append(lesion)
    return found


def _gap(cohort: Cohort, pair: RawPair, ids: list[int]) -> Problem:
    scan = cohort.scan(pair.baseline)
    text = f"holds {_noun(ids)}, which no usable row links to {pair.followup}; expected a row for each lesion"
    return Problem(scan.labels or scan.image, text, f"{_named(ids)} left out of that pair")


def _told(cohort: Cohort, lesion: RawLesion, surveys: Mapping[str, ScanSurvey]) -> RawLesion | Problem:
    """The lesion as it was told; a problem where a labelmap does not hold it."""
    own, point = lesion.lesion_id, lesion.followup_point_xyz
    if own not in surveys[lesion.baseline].by_id:
        return _missing_before(cohort, lesion)
    missing = sorted(set(lesion.followup_ids) - surveys[lesion.followup].by_id.keys())
    if missing:
        return _missing(cohort, lesion.followup, missing, "which the links place there", lesion)
    if not lesion.followup_ids and point is not None:
        scan = cohort.scan(lesion.followup)
        text = f"lesion {own} is absent by the links, but has the follow-up point {shown_point(point)}"
        rest = f"lesion {own} is left out of the pair with {lesion.baseline}"
        return Problem(scan.labels or scan.image, f"{text}; expected one of both", rest)
    return lesion


def _candidate(
    cohort: Cohort, lesion: RawLesion, rows: _Rows, surveys: Mapping[str, ScanSurvey]
) -> RawLesion | Problem | None:
    """The lesion with those of its candidates that count; None for a part of another one that split.

    It has split into itself and the rows of its baseline point that the baseline does not hold. Each part is
    its own id where the follow-up holds that, else it has merged into those of its follow-up point.
    """
    before, after = surveys[lesion.baseline].by_id, surveys[lesion.followup].by_id
    own = lesion.lesion_id
    one = [rows[lesion.baseline, lesion.followup, number] for number in lesion.followup_ids if number != own]
    split = [row for row in one if _is_same(row.baseline_point_xyz, lesion.baseline_point_xyz)]
    if own not in before:
        is_part = any(row.lesion_id in before for row in split)
        return None if is_part else _missing_before(cohort, lesion)
    ids: set[int] = set()
    for part in (lesion, *(row for row in split if row.lesion_id not in before)):
        here = _ids_of_part(part, rows, before.keys(), after.keys())
        if not here and part.followup_point_xyz is not None:
            why = f"whose follow-up point is {shown_point(part.followup_point_xyz)}"
            return _missing(cohort, lesion.followup, [part.lesion_id], why, lesion)
        ids |= here
    return replace(lesion, followup_ids=tuple(sorted(ids)))


def _ids_of_part(part: RawLesion, rows: _Rows, before: Set[int], after: Set[int]) -> set[int]:
    """The ids that the follow-up holds of one row's lesion."""
    others = [rows[part.baseline, part.followup, number] for number in part.followup_ids]
    merged = {
        row.lesion_id for row in others if _is_same(row.followup_point_xyz, part.followup_point_xyz)
    } & after
    return {part.lesion_id} | (merged - before) if part.lesion_id in after else merged


def _is_same(one: Vector | None, other: Vector | None) -> bool:
    return one is not None and one == other


def _by_ids(
    cohort: Cohort, pair: RawPair, surveys: Mapping[str, ScanSurvey]
) -> tuple[list[RawLesion], list[Problem]]:
    """The lesions of a pair of labelmaps; the same id is the same lesion unless it was renamed."""
    baseline, followup = surveys[pair.baseline].by_id, surveys[pair.followup].by_id
    renamed, problems = dict(pair.renamed), list(_misnamed(cohort, pair, surveys))
    points, propagated = dict(pair.baseline_points), dict(pair.propagated_points)
    became = {own: renamed.get(own, (own,) if own in followup else ()) for own in baseline}
    claimed = {number for ids in became.values() for number in ids}
    new = [own for own in followup if own not in claimed and own not in baseline]
    if pair.baseline_is_first:  # its points say where lesions are
        said = [own for own in points if own not in baseline and own not in renamed]
        problems += [_missing_before(cohort, _at_point(pair, own, points[own])) for own in said]
    else:  # a registration's guess: no prompt where the mask tells the place, and the only one elsewhere
        became |= {own: (own,) for own in new if own in points}
        points = {own: point for own, point in points.items() if own not in baseline}
    lesions = [
        RawLesion(own, pair.baseline, pair.followup, ids, points.get(own), None, propagated.get(own))
        for own, ids in became.items()
        if set(ids) <= followup.keys()
    ]
    pointless = [own for own in new if own not in points]
    reused = [own for own in followup if own not in claimed and own in baseline]
    return lesions, [*problems, *_left_out(cohort, pair, pointless, reused)]


def _at_point(pair: RawPair, own: int, point: Vector) -> RawLesion:
    return RawLesion(own, pair.baseline, pair.followup, (), point)


def _left_out(cohort: Cohort, pair: RawPair, new: list[int], reused: list[int]) -> Iterator[Problem]:
    """Notes on lesions that only the follow-up has: new ones, and those under an id of another lesion."""
    if new:
        yield _new(cohort, pair.baseline, pair.followup, new)
    if reused:
        scan = cohort.scan(pair.followup)
        text = f"{_named(reused)} another one in {pair.baseline} by the links"
        rest = "new lesions cannot be asked for, and are left out"
        yield Problem(scan.labels or scan.image, text, rest, is_note=True)


def _new(cohort: Cohort, baseline: str, followup: str, ids: list[int]) -> Problem:
    """A note, as new lesions are nothing that is wrong."""
    scan = cohort.scan(followup)
    text = f"{_named(sorted(ids))} new, with neither voxels nor a point in {baseline}"
    rest = "new lesions cannot be asked for, and are left out"
    return Problem(scan.labels or scan.image, text, rest, is_note=True)


def _misnamed(cohort: Cohort, pair: RawPair, surveys: Mapping[str, ScanSurvey]) -> Iterator[Problem]:
    """Links of a pair that name ids which a labelmap does not hold."""
    for own, ids in pair.renamed:
        for scan_id, wanted in ((pair.baseline, {own}), (pair.followup, set(ids))):
            missing = sorted(wanted - surveys[scan_id].by_id.keys())
            if missing:
                lesion = RawLesion(own, pair.baseline, pair.followup, ids)
                yield _missing(cohort, scan_id, missing, "which the links place there", lesion)


def _missing_before(cohort: Cohort, lesion: RawLesion) -> Problem:
    """A lesion that the baseline does not hold, or, if nothing but its follow-up point is told, that one."""
    baseline, followup = lesion.baseline_point_xyz, lesion.followup_point_xyz
    if baseline is not None:
        scan_id, why = lesion.baseline, f"whose baseline point is {shown_point(baseline)}"
    elif followup is not None and lesion.propagated_point_xyz is None:
        scan_id, why = lesion.followup, f"whose follow-up point is {shown_point(followup)}"
    elif lesion.propagated_point_xyz is not None:
        point = shown_point(lesion.propagated_point_xyz)
        scan_id, why = lesion.baseline, f"which has the propagated point {point} but no baseline point"
    else:
        scan_id, why = lesion.baseline, f"which is listed without a point, and neither does {lesion.followup}"
    return _missing(cohort, scan_id, [lesion.lesion_id], why, lesion)


def _missing(cohort: Cohort, scan_id: str, ids: list[int], why: str, lesion: RawLesion) -> Problem:
    scan = cohort.scan(scan_id)
    other = lesion.followup if scan_id == lesion.baseline else lesion.baseline
    return Problem(
        scan.labels or scan.image,
        f"does not hold {_noun(ids)}, {why}; expected voxels of {'each' if len(ids) > 1 else 'it'}",
        f"lesion {lesion.lesion_id} is left out of the pair with {other}",
    )


def shown_point(point: Vector) -> str:
    """A point as problems show it."""
    return "[" + ", ".join(f"{value:g}" for value in point) + "]"


def _named(ids: list[int]) -> str:
    return f"{_noun(ids)} {'are' if len(ids) > 1 else 'is'}"


def _noun(ids: list[int]) -> str:
    return f"lesion{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
