"""iRECIST [Seymour2017]: a progression is unconfirmed until a later time point confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from .findings import Response, ResponseCourse, ResponseVerdict
from .response_criteria import ImmuneCriteria

_IMMUNE = {
    ResponseVerdict.CR: ResponseVerdict.ICR,
    ResponseVerdict.PR: ResponseVerdict.IPR,
    ResponseVerdict.SD: ResponseVerdict.ISD,
    ResponseVerdict.NE: ResponseVerdict.NE,
    ResponseVerdict.NON_CR_NON_PD: ResponseVerdict.I_NON_CR_NON_PD,
}


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    """A progression that waits for confirmation: its response and date."""

    response: Response
    day: date | None


def immune_course(
    course: ResponseCourse, dates: Sequence[date | None], criteria: ImmuneCriteria
) -> ResponseCourse:
    """Judge a patient by iRECIST.

    A progression is iUPD. The next time points confirm it (iCPD) if it has gone further: another new lesion,
    or the sum of the targets or of the new lesions larger by the criteria's increase, or a progression in the
    targets or by new lesions where there was none of that kind. A time point without progression resets it.
    Without further increase it stays iUPD. Once confirmed it stays confirmed.

    Args:
        course: by RECIST 1.1.
        dates: of the time points, None if one is not known.
        criteria: what confirms.
    """
    waiting: _Unconfirmed | None = None
    is_confirmed = False
    responses = []
    for response, day in zip(course.responses, dates, strict=True):
        if response.overall is None:  # the baseline
            responses.append(response)
            continue
        if is_confirmed:
            verdict, reason = ResponseVerdict.ICPD, "the progression is confirmed since an earlier time point"
        elif response.overall is not ResponseVerdict.PD:
            verdict, reason = _IMMUNE[response.overall], ""
            if response.overall is not ResponseVerdict.NE:  # which neither confirms nor resets
                reason = "the unconfirmed progression is reset" if waiting is not None else ""
                waiting = None
        elif waiting is None:
            verdict, reason = ResponseVerdict.IUPD, "to be confirmed by the next scan, after 4 to 8 weeks"
            waiting = _Unconfirmed(response, day)
        else:
            verdict, reason = _next(waiting, response, day, criteria)
            is_confirmed = verdict is ResponseVerdict.ICPD
        text = "; ".join(part for part in (reason, response.reason) if part)
        responses.append(replace(response, overall=verdict, reason=text))
    return replace(course, criteria=criteria.name, responses=tuple(responses))


def _next(
    waiting: _Unconfirmed, now: Response, day: date | None, criteria: ImmuneCriteria
) -> tuple[ResponseVerdict, str]:
    """The verdict on a progression that follows an unconfirmed one."""
    reason = _further(waiting.response, now, criteria)
    if reason is None:
        return (
            ResponseVerdict.IUPD,
            f"no further increase since {waiting.response.time_point}: still unconfirmed",
        )
    if (
        waiting.day is not None
        and day is not None
        and (days := (day - waiting.day).days) < criteria.least_days
    ):
        return ResponseVerdict.IUPD, (
            f"{reason}, but only {days} days after {waiting.response.time_point}: confirmed from "
            f"{criteria.least_days} days on"
        )
    return ResponseVerdict.ICPD, reason


def _further(before: Response, now: Response, criteria: ImmuneCriteria) -> str | None:
    """How a progression has gone further, in words; None if it has not."""
    added = [key for key in now.new_lesions if key not in before.new_lesions]
    if added:
        return f"another new lesion ({', '.join(map(str, added))}) since {before.time_point}"
    if now.target is ResponseVerdict.PD and before.target is not ResponseVerdict.PD:
        return f"the target lesions now progress as well, unlike at {before.time_point}"
    for words, earlier, later in (("target", before.sum, now.sum), ("new", before.new_sum, now.new_sum)):
        if earlier is not None and later is not None and later - earlier >= criteria.increase_mm - 1e-9:
            increase = f"{later - earlier:.1f} mm larger than at {before.time_point}"
            return f"the sum of the {words} lesions is {increase}"
    return None
