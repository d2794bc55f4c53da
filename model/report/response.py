"""Response of a patient at each time point by the sum of the target lesions' sizes.

RECIST 1.1 [Eisenhauer2009] by diameters, and the same rules by volumes. Each verdict has its reason in a
sentence. The unequivocal progression of non-target lesions is a reader's judgement and not made here: their
growth is told in the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .changes import percent_change
from .findings import FindingState, FollowedLesion, Response, ResponseCourse, ResponseVerdict
from .lesion_facts import LesionFacts
from .response_criteria import SizeCriteria
from .target_lesions import TargetChoice, is_gone, target_size

_FACTLESS = LesionFacts()


@dataclass(frozen=True, slots=True)
class _Sum:
    """The targets at a time point.

    Attributes:
        known: sum of those that are known.
        unknown: ids of the others.
        is_gone: all are known and gone.
    """

    known: float
    unknown: tuple[int, ...]
    is_gone: bool

    @property
    def whole(self) -> float | None:
        """The sum, None if it lacks a target."""
        return None if self.unknown else self.known


@dataclass(frozen=True, slots=True)
class _New:
    """Lesions that the baseline does not show: new ones, and ids that were unknown at the baseline."""

    ids: tuple[int, ...]
    doubtful: tuple[int, ...]


def response_course(
    lesions: Sequence[FollowedLesion],
    choice: TargetChoice,
    facts: Mapping[int, LesionFacts],
    criteria: SizeCriteria,
) -> ResponseCourse:
    """Judge every time point of a patient.

    Args:
        lesions: of the patient; their first finding is the baseline.
        choice: its target lesions.
        facts: by lesion id.
        criteria: thresholds.
    """
    patient = _Patient(lesions, choice, facts, criteria)
    responses: list[Response] = []
    for number in range(len(lesions[0].findings) if lesions else 0):
        responses.append(patient.response(number, responses))
    return ResponseCourse(
        criteria.name, criteria.unit, choice.targets, choice.others, choice.notes, tuple(responses)
    )


class _Patient:
    """Sums and verdicts of one patient by one table of criteria."""

    def __init__(
        self,
        lesions: Sequence[FollowedLesion],
        choice: TargetChoice,
        facts: Mapping[int, LesionFacts],
        criteria: SizeCriteria,
    ) -> None:
        self._lesions = {lesion.lesion_id: lesion for lesion in lesions}
        self._choice, self._facts, self._criteria = choice, facts, criteria
        count = len(lesions[0].findings) if lesions else 0
        self._sums = [self._sum(number) for number in range(count)]

    def response(self, number: int, earlier: Sequence[Response]) -> Response:
        """The response at one time point, given those before it."""
        name = next(iter(self._lesions.values())).findings[number].time_point
        now = self._sums[number]
        new = self._new(number)
        if number == 0:
            return Response(name, now.whole, reason="the baseline", new_sum=0.0)
        baseline = self._sums[0].whole
        nadir = min((one.whole for one in self._sums[:number] if one.whole is not None), default=None)
        target, reason = self._target(number, baseline, nadir, earlier)
        other, other_reason = self._other(number)
        overall, overall_reason = _overall(target, other, new)
        return Response(
            name,
            now.whole,
            baseline_percent=_percent(baseline, now.whole),
            nadir=nadir,
            nadir_percent=_percent(nadir, now.whole),
            target=target,
            other=other,
            new_lesions=new.ids,
            new_sum=self._new_sum(new.ids, number),
            overall=overall,
            reason="; ".join(text for text in (reason, other_reason, overall_reason) if text),
        )

    def _is_node(self, lesion_id: int) -> bool:
        return self._facts.get(lesion_id, _FACTLESS).is_node

    def _sum(self, number: int) -> _Sum:
        sizes: list[float] = []
        unknown, gone = [], True
        counted: set[tuple[int, ...]] = set()  # merged lesions, which have one diameter
        for key in self._choice.targets:
            finding = self._lesions[key].findings[number]
            size = target_size(finding, self._is_node(key), self._criteria)
            if finding.mass is not None and self._criteria.measure == "diameter":
                size = 0.0 if finding.mass.ids in counted else size
                counted.add(finding.mass.ids)
            if size is None:
                unknown.append(key)
            else:
                sizes.append(size)
                gone = gone and is_gone(finding, self._is_node(key), self._criteria)
        return _Sum(math.fsum(sizes), tuple(unknown), gone and not unknown)

    def _target(
        self, number: int, baseline: float | None, nadir: float | None, earlier: Sequence[Response]
    ) -> tuple[ResponseVerdict | None, str]:
        """ResponseVerdict on the target lesions; None if there are none."""
        now, criteria, unit = self._sums[number], self._criteria, self._criteria.unit
        if not self._choice.targets:
            return None, "no target lesions"
        if now.is_gone:
            return ResponseVerdict.CR, "all target lesions are gone"
        if any(one.overall is ResponseVerdict.CR for one in earlier) and now.known > 0:
            return ResponseVerdict.PD, "a target lesion has come back after a complete response"
        if nadir is not None and self._has_progressed(nadir, now.known):
            return ResponseVerdict.PD, (
                f"the sum {now.known:.1f} {unit} is {_against(nadir, now.known, unit)} above the nadir of "
                f"{nadir:.1f} {unit}" + (", even without the targets that are unknown" if now.unknown else "")
            )
        if now.unknown:
            return ResponseVerdict.NE, f"target lesions {_listed(now.unknown)} are unknown"
        if baseline is None or nadir is None:
            return ResponseVerdict.NE, "no earlier sum is known"
        change = percent_change(baseline, now.known)
        if change is not None and change <= criteria.partial_percent:
            return ResponseVerdict.PR, (
                f"the sum {now.known:.1f} {unit} is {-change:.0f} % below the baseline of {baseline:.1f} "
                f"{unit}"
            )
        return ResponseVerdict.SD, (
            f"the sum {now.known:.1f} {unit} is neither {-criteria.partial_percent:g} % below the baseline "
            f"of {baseline:.1f} {unit} nor {_least(criteria)} above the nadir of {nadir:.1f} {unit}"
        )

    def _has_progressed(self, nadir: float, now: float) -> bool:
        increase = now - nadir
        share = nadir * self._criteria.progression_percent / 100
        return increase > 0 and increase >= max(share, self._criteria.progression_least) - 1e-9

    def _other(self, number: int) -> tuple[ResponseVerdict | None, str]:
        """ResponseVerdict on the non-target lesions; None if there are none."""
        if not self._choice.others:
            return None, ""
        findings = {key: self._lesions[key].findings[number] for key in self._choice.others}
        unknown = [key for key, one in findings.items() if one.state is FindingState.UNKNOWN]
        left = [
            key
            for key, one in findings.items()
            if key not in unknown and not is_gone(one, self._is_node(key), self._criteria)
        ]
        if left:
            return ResponseVerdict.NON_CR_NON_PD, self._growth(left, number)
        if unknown:
            return ResponseVerdict.NE, f"non-target lesions {_listed(unknown)} are unknown"
        return ResponseVerdict.CR, "all non-target lesions are gone"

    def _growth(self, ids: Sequence[int], number: int) -> str:
        """A sentence on non-targets that have grown as much as targets of a progression."""
        grown = []
        for key in ids:
            sizes = [
                size
                for finding in self._lesions[key].findings[: number + 1]
                if (size := target_size(finding, self._is_node(key), self._criteria)) is not None
            ]
            if len(sizes) > 1 and self._has_progressed(min(sizes[:-1]), sizes[-1]):
                grown.append(key)
        if not grown:
            return ""
        return f"non-target lesions {_listed(grown)} have grown: a reader judges whether unequivocally"

    def _new(self, number: int) -> _New:
        """New lesions up to a time point: once new, a lesion that is still there stays new."""
        new, doubtful = [], []
        for key, lesion in self._lesions.items():
            if lesion.findings[number].measures is None:
                continue
            state = lesion.findings[0].state
            if state is FindingState.ABSENT:
                new.append(key)
            elif state is FindingState.UNKNOWN:
                doubtful.append(key)
        return _New(tuple(new), tuple(doubtful))

    def _new_sum(self, ids: Sequence[int], number: int) -> float:
        findings = ((key, self._lesions[key].findings[number]) for key in ids)
        sizes = (target_size(one, self._is_node(key), self._criteria) for key, one in findings)
        return math.fsum(size or 0.0 for size in sizes)


def _overall(
    target: ResponseVerdict | None, other: ResponseVerdict | None, new: _New
) -> tuple[ResponseVerdict, str]:
    """The overall response, by the tables 1 to 3 of RECIST 1.1."""
    if new.ids:
        return ResponseVerdict.PD, f"new lesions {_listed(new.ids)}"
    if target is ResponseVerdict.PD:
        return ResponseVerdict.PD, ""
    if new.doubtful:
        return ResponseVerdict.NE, (
            f"lesions {_listed(new.doubtful)} are unknown at the baseline: new if their place was not scanned"
        )
    if target is None:
        return (other, "") if other is not None else (ResponseVerdict.NE, "the baseline shows no lesion")
    if target is ResponseVerdict.CR and other not in (None, ResponseVerdict.CR):
        return ResponseVerdict.PR, "not all non-target lesions are known to be gone"
    return target, ""


def _percent(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else percent_change(before, now)


def _against(nadir: float, now: float, unit: str) -> str:
    percent = percent_change(nadir, now)
    share = f"{percent:.0f} % and " if percent is not None else ""
    return f"{share}{now - nadir:.1f} {unit}"


def _least(criteria: SizeCriteria) -> str:
    share = f"{criteria.progression_percent:g} %"
    least = criteria.progression_least
    return f"{share} and {least:g} {criteria.unit}" if least else share


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))
