"""Change of a lesion against an earlier time point."""

from __future__ import annotations

import math
from dataclasses import replace

from .findings import Change, Finding, FindingState, FollowedLesion, MeasuredTimePoint
from .response_criteria import repeatability_limit


def with_changes(lesion: FollowedLesion, time_points: tuple[MeasuredTimePoint, ...]) -> FollowedLesion:
    """Add the changes against the baseline and against the nadir to a lesion's findings.

    The baseline is the first time point; the nadir is the earlier time point with the smallest volume, of
    equal ones the last.
    """
    findings = list(lesion.findings)
    for number, finding in enumerate(lesion.findings):
        earlier = [
            index for index in range(number) if lesion.findings[index].state is not FindingState.UNKNOWN
        ]
        if not earlier or finding.state is FindingState.UNKNOWN:
            continue
        nadir = min(reversed(earlier), key=lambda index: lesion.findings[index].volume_ml or 0.0)
        findings[number] = replace(
            finding,
            from_baseline=_change(lesion, time_points, 0, number) if earlier[0] == 0 else None,
            from_nadir=_change(lesion, time_points, nadir, number),
        )
    return replace(lesion, findings=tuple(findings))


def _change(
    lesion: FollowedLesion, time_points: tuple[MeasuredTimePoint, ...], before: int, now: int
) -> Change:
    earlier, later = lesion.findings[before], lesion.findings[now]
    volumes = earlier.volume_ml or 0.0, later.volume_ml or 0.0
    lengths = earlier.long_mm or 0.0, later.long_mm or 0.0
    days = _days(time_points[before], time_points[now])
    percent = percent_change(*volumes)
    limit = repeatability_limit(lengths[0]) if _is_whole(earlier) and _is_whole(later) else None
    return Change(
        since=earlier.time_point,
        days=days,
        volume_ml=volumes[1] - volumes[0],
        volume_percent=percent,
        long_mm=lengths[1] - lengths[0],
        long_percent=percent_change(*lengths),
        ml_per_day=(volumes[1] - volumes[0]) / days if days else None,
        doubling_days=_doubling_days(*volumes, days),
        repeatability_percent=limit.percent if limit is not None else None,
        is_within_repeatability=(
            abs(percent) <= limit.percent if limit is not None and percent is not None else None
        ),
    )


def _is_whole(finding: Finding) -> bool:
    """True for a measured lesion that the border of its scan does not cut."""
    return finding.measures is not None and not finding.measures.touches_border


def percent_change(before: float, now: float) -> float | None:
    """Change in percent; None from zero."""
    return 100.0 * (now - before) / before if before > 0 else None


def _days(before: MeasuredTimePoint, now: MeasuredTimePoint) -> int | None:
    if before.date is None or now.date is None:
        return None
    return (now.date - before.date).days


def _doubling_days(before_ml: float, now_ml: float, days: int | None) -> float | None:
    """Days in which the volume doubles, negative if it halves in as many; None if it is not defined."""
    if not days or before_ml <= 0 or now_ml <= 0 or before_ml == now_ml:
        return None
    return days * math.log(2) / math.log(now_ml / before_ml)
