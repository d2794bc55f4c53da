"""Links between the lesions of a baseline and a follow-up, resolved with their labelmaps.

If a data set places a lesion in a scan, by a point or a link, and the labelmap lacks it, the lesion is left
out of that pair: training it as vanished would teach the network to draw nothing. Lesions of a labelmap that
the data set does not list are reported and left out as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace

from ..case.geometry import Vector
from ..case.raw_lesion import RawLesion
from .dataset import Cohort, Links, Problem, RawPair
from .scan_survey import ScanSurvey

_Rows = Mapping[tuple[str, str, int], RawLesion]
"""Lesions by baseline, follow-up and id."""
_NEW_LEFT_OUT = "new lesions have no prompt and are left out"


def resolve_links(
    cohort: Cohort, surveys: Mapping[str, ScanSurvey], listed: Iterable[RawLesion]
) -> tuple[tuple[RawLesion, ...], tuple[Problem, ...]]:
    """Resolve the ids of all lesions in their follow-ups.

    Args:
        cohort: scans without faults, with their lesions or pairs.
        surveys: their surveys, by scan id.
        listed: all lesions that the data set lists, including those of scans with faults.

    Returns:
        The lesions that can be used, and a problem for each of the others.
    """
    lesions: list[RawLesion] = []
    problems: list[Problem] = []
    for pair in cohort.pairs:
        linked, pair_problems = _linked_by_id(cohort, pair, surveys)
        lesions += linked
        problems += pair_problems
    rows = {(lesion.baseline, lesion.followup, lesion.lesion_id): lesion for lesion in cohort.lesions}
    for lesion in cohort.lesions:
        if _is_new(lesion, surveys):
            continue
        is_explicit = cohort.links is Links.EXPLICIT
        resolved = (
            _with_explicit_ids(cohort, lesion, surveys)
            if is_explicit
            else _with_candidates(cohort, lesion, rows, surveys)
        )
        if isinstance(resolved, RawLesion):
            lesions.append(resolved)
        elif resolved is not None:
            problems.append(resolved)
    problems += _not_linked(cohort, surveys, lesions, tuple(listed))
    return tuple(lesions), tuple(problems)


def _is_new(lesion: RawLesion, surveys: Mapping[str, ScanSurvey]) -> bool:
    """True if only the follow-up shows a lesion, and nothing places it in the baseline."""
    is_placed = lesion.baseline_point_xyz is not None or lesion.propagated_point_xyz is not None
    if is_placed or lesion.lesion_id in surveys[lesion.baseline].by_id:
        return False
    return bool({lesion.lesion_id, *lesion.followup_ids} & surveys[lesion.followup].by_id.keys())


def _not_linked(
    cohort: Cohort, surveys: Mapping[str, ScanSurvey], kept: Iterable[RawLesion], listed: Iterable[RawLesion]
) -> Iterator[Problem]:
    """Lesions of labelmaps that no row of their pair links: gaps of the table, and new lesions.

    A lesion in both scans of a pair needs a row of this pair; one in the baseline alone needs a row of any of
    its follow-ups, as each may cover another part of the body.
    """
    before: dict[str, set[int]] = {}
    after: dict[str, set[int]] = {}
    for row in listed:
        before.setdefault(row.baseline, set()).add(row.lesion_id)
        after.setdefault(row.followup, set()).update((row.lesion_id, *row.followup_ids))
    kept_by_pair = _by_pair(kept)
    for (baseline, followup), rows in _by_pair(cohort.lesions).items():
        pair, linked = RawPair(baseline, followup), kept_by_pair.get((baseline, followup), [])
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
    groups: dict[tuple[str, str], list[RawLesion]] = {}
    for lesion in lesions:
        groups.setdefault((lesion.baseline, lesion.followup), []).append(lesion)
    return groups


def _gap(cohort: Cohort, pair: RawPair, ids: list[int]) -> Problem:
    scan = cohort.scan(pair.baseline)
    text = f"holds {_noun(ids)}, which no usable row links to {pair.followup}; expected a row for each lesion"
    return Problem(scan.labels or scan.image, text, f"{_subject(ids)} left out of that pair")


def _with_explicit_ids(
    cohort: Cohort, lesion: RawLesion, surveys: Mapping[str, ScanSurvey]
) -> RawLesion | Problem:
    """The lesion as its link gives it; a problem if a labelmap lacks one of its ids."""
    own, point = lesion.lesion_id, lesion.followup_point_xyz
    if own not in surveys[lesion.baseline].by_id:
        return _missing_before(cohort, lesion)
    missing = sorted(set(lesion.followup_ids) - surveys[lesion.followup].by_id.keys())
    if missing:
        return _missing(cohort, lesion.followup, missing, "which the links place there", lesion)
    if not lesion.followup_ids and point is not None:
        scan = cohort.scan(lesion.followup)
        text = f"lesion {own} is absent by the links, but has the follow-up point {format_point(point)}"
        rest = f"lesion {own} is left out of the pair with {lesion.baseline}"
        return Problem(scan.labels or scan.image, f"{text}; expected one of both", rest)
    return lesion


def _with_candidates(
    cohort: Cohort, lesion: RawLesion, rows: _Rows, surveys: Mapping[str, ScanSurvey]
) -> RawLesion | Problem | None:
    """The lesion with those of its candidate ids that hold; None for a part of another, split lesion.

    A lesion has split into itself and the rows of its baseline point that the baseline does not show. Each
    part has its own id in the follow-up, or it has merged into the lesions of its follow-up point.
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
        part_ids = _ids_of_part(part, rows, before.keys(), after.keys())
        if not part_ids and part.followup_point_xyz is not None:
            why = f"whose follow-up point is {format_point(part.followup_point_xyz)}"
            return _missing(cohort, lesion.followup, [part.lesion_id], why, lesion)
        ids |= part_ids
    return replace(lesion, followup_ids=tuple(sorted(ids)))


def _ids_of_part(part: RawLesion, rows: _Rows, before: Set[int], after: Set[int]) -> set[int]:
    """The ids of one row's lesion in the follow-up."""
    others = [rows[part.baseline, part.followup, number] for number in part.followup_ids]
    merged = {
        row.lesion_id for row in others if _is_same(row.followup_point_xyz, part.followup_point_xyz)
    } & after
    return {part.lesion_id} | (merged - before) if part.lesion_id in after else merged


def _is_same(one: Vector | None, other: Vector | None) -> bool:
    return one is not None and one == other


def _linked_by_id(
    cohort: Cohort, pair: RawPair, surveys: Mapping[str, ScanSurvey]
) -> tuple[list[RawLesion], list[Problem]]:
    """The lesions of a pair of labelmaps; equal ids are one lesion, except those that are renamed."""
    baseline, followup = surveys[pair.baseline].by_id, surveys[pair.followup].by_id
    renamed, problems = dict(pair.renamed), list(_unknown_ids(cohort, pair, surveys))
    points, propagated = dict(pair.baseline_points), dict(pair.propagated_points)
    followup_ids = {own: renamed.get(own, (own,) if own in followup else ()) for own in baseline}
    claimed = {number for ids in followup_ids.values() for number in ids}
    new = [own for own in followup if own not in claimed and own not in baseline]
    if pair.baseline_is_first:  # its points place lesions
        placed = [own for own in points if own not in baseline and own not in renamed]
        problems += [_missing_before(cohort, _at_point(pair, own, points[own])) for own in placed]
    else:  # propagated points: only for lesions without a mask
        followup_ids |= {own: (own,) for own in new if own in points}
        points = {own: point for own, point in points.items() if own not in baseline}
    lesions = [
        RawLesion(own, pair.baseline, pair.followup, ids, points.get(own), None, propagated.get(own))
        for own, ids in followup_ids.items()
        if set(ids) <= followup.keys()
    ]
    pointless = [own for own in new if own not in points]
    reused = [own for own in followup if own not in claimed and own in baseline]
    return lesions, [*problems, *_left_out(cohort, pair, pointless, reused)]


def _at_point(pair: RawPair, own: int, point: Vector) -> RawLesion:
    return RawLesion(own, pair.baseline, pair.followup, (), point)


def _left_out(cohort: Cohort, pair: RawPair, new: list[int], reused: list[int]) -> Iterator[Problem]:
    """Notes on lesions of the follow-up alone: new ones, and those that reuse the id of another lesion."""
    scan = cohort.scan(pair.followup)
    file = scan.labels or scan.image
    if new:
        text = f"{_subject(sorted(new))} new, with neither voxels nor a point in {pair.baseline}"
        yield Problem(file, text, _NEW_LEFT_OUT, is_note=True)
    if reused:
        text = f"{_subject(reused)} another one in {pair.baseline} by the links"
        yield Problem(file, text, _NEW_LEFT_OUT, is_note=True)


def _unknown_ids(cohort: Cohort, pair: RawPair, surveys: Mapping[str, ScanSurvey]) -> Iterator[Problem]:
    """Links of a pair with ids that its labelmaps lack."""
    for own, ids in pair.renamed:
        for scan_id, linked in ((pair.baseline, {own}), (pair.followup, set(ids))):
            missing = sorted(linked - surveys[scan_id].by_id.keys())
            if missing:
                lesion = RawLesion(own, pair.baseline, pair.followup, ids)
                yield _missing(cohort, scan_id, missing, "which the links place there", lesion)


def _missing_before(cohort: Cohort, lesion: RawLesion) -> Problem:
    """A lesion that the baseline lacks; if only a follow-up point is given, one that the follow-up lacks."""
    baseline, followup = lesion.baseline_point_xyz, lesion.followup_point_xyz
    if baseline is not None:
        scan_id, why = lesion.baseline, f"whose baseline point is {format_point(baseline)}"
    elif followup is not None and lesion.propagated_point_xyz is None:
        scan_id, why = lesion.followup, f"whose follow-up point is {format_point(followup)}"
    elif lesion.propagated_point_xyz is not None:
        point = format_point(lesion.propagated_point_xyz)
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


def format_point(point: Vector) -> str:
    """Format a point for a message, e.g. "[1, 2.5, 3]".

    Args:
        point: voxel index (x, y, z) of a file.
    """
    return "[" + ", ".join(f"{value:g}" for value in point) + "]"


def _subject(ids: list[int]) -> str:
    return f"{_noun(ids)} {'are' if len(ids) > 1 else 'is'}"


def _noun(ids: list[int]) -> str:
    return f"lesion{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
