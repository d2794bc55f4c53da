"""From measured time points to a patient's lesions over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from ..inference.fold_agreement import FoldSpread
from .changes import with_changes
from .findings import (
    Burden,
    Finding,
    FindingState,
    FollowedLesion,
    LesionRole,
    MeasuredPatient,
    MeasuredTimePoint,
    PromptFacts,
)
from .immune_response import immune_course
from .lesion_facts import FactsTable, LesionFacts
from .response import response_course
from .response_criteria import IRECIST, RECIST, VOLUMETRIC, SizeCriteria
from .scan_measures import MeasuredScan, TimePointMeasures, all_ids
from .target_lesions import TargetChoice, choose_targets

CUT_FLAG = "check: cut by the field of view"
# As of folds that agree, in `inference.fold_agreement`.
FOLDS_AGREE_DICE = 0.6


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """What the response is judged by.

    Attributes:
        facts: of lesions, from a reader.
        volumetric: criteria by volume.
    """

    facts: FactsTable = FactsTable()
    volumetric: SizeCriteria = VOLUMETRIC


def follow_patient(
    patient: str,
    time_points: Sequence[TimePointMeasures],
    warnings: Sequence[str] = (),
    options: ResponseOptions | None = None,
) -> MeasuredPatient:
    """Join the measurements of a patient's time points, with changes and responses.

    Args:
        patient: name of the patient.
        time_points: in order of time, the first is the baseline.
        warnings: about the patient's files.
        options: what the response is judged by; None for the defaults.
    """
    options = options or ResponseOptions()
    facts = options.facts.of_patient(patient)
    points = tuple(_time_point(point, time_points[0].facts.date) for point in time_points)
    found = [
        FollowedLesion(lesion_id, tuple(_finding(lesion_id, point) for point in time_points))
        for lesion_id in all_ids(time_points)
    ]
    slices = {scan.slot: scan.slice_mm for scan in points[0].scans}
    choice = choose_targets(found, facts, slices, RECIST)
    lesions = tuple(_with_facts(with_changes(one, points), choice, facts) for one in found)
    recist = response_course(lesions, choice, facts, RECIST)
    courses = (
        recist,
        immune_course(recist, [point.date for point in points][: len(recist.responses)], IRECIST),
        response_course(lesions, choice, facts, options.volumetric),
    )
    notes = [*warnings, *_date_warnings(time_points), *_fact_warnings(facts, lesions)]
    for point in time_points:
        notes += [f"{point.facts.name}: {note}" for note in point.warnings]
        notes += [f"{point.facts.name}: not measured: {point.failure}"] * (point.failure is not None)
    if not lesions:
        notes.append("no labelmap holds a lesion")
    return MeasuredPatient(
        patient,
        points,
        lesions,
        tuple(_burden(point.facts.name, lesions, number) for number, point in enumerate(time_points)),
        courses if lesions and len(points) > 1 else (),
        tuple(notes),
    )


def _with_facts(
    lesion: FollowedLesion, choice: TargetChoice, facts: Mapping[int, LesionFacts]
) -> FollowedLesion:
    own = facts.get(lesion.lesion_id) or LesionFacts()
    state = lesion.findings[0].state
    role = LesionRole.NEW if state is FindingState.ABSENT else LesionRole.UNKNOWN
    if state is FindingState.MEASURED:
        role = LesionRole.TARGET if lesion.lesion_id in choice.targets else LesionRole.NON_TARGET
    return replace(lesion, role=role, organ=own.organ, is_node=own.is_node, kind=own.kind)


def _fact_warnings(facts: Mapping[int, LesionFacts], lesions: Sequence[FollowedLesion]) -> list[str]:
    shown = {lesion.lesion_id for lesion in lesions}
    missing = ", ".join(str(key) for key in sorted(facts) if key not in shown)
    return [f"facts are given of lesions that no time point shows: {missing}"] if missing else []


def _finding(lesion_id: int, point: TimePointMeasures) -> Finding:
    facts = point.facts
    name, prompt, folds = facts.name, facts.prompts.get(lesion_id), facts.folds.get(lesion_id)
    flags = [*_prompt_flags(prompt), *_fold_flags(folds), *facts.flags.get(lesion_id, ())]
    shown = [scan for scan in point.scans if lesion_id in scan.lesions]
    if shown:
        scan = min(shown, key=lambda one: _rank(one, lesion_id))
        measures = scan.lesions[lesion_id]
        return Finding(
            name,
            FindingState.MEASURED,
            scan.facts.slot,
            measures=measures,
            prompt=prompt,
            flags=(*([CUT_FLAG] if measures.touches_border else []), *flags),
            folds=folds,
            mass=next((one for one in scan.masses if lesion_id in one.ids), None),
        )
    reason = facts.unknown.get(lesion_id)
    if point.failure is not None:
        reason = "the time point could not be measured"
    state = FindingState.ABSENT if reason is None else FindingState.UNKNOWN
    return Finding(name, state, reason=reason, prompt=prompt, flags=tuple(flags), folds=folds)


def _rank(scan: MeasuredScan, lesion_id: int) -> tuple[bool, float]:
    """Of two scans that show a lesion, the one that does not cut it, then that with more of it."""
    measures = scan.lesions[lesion_id]
    return measures.touches_border, -measures.volume_ml


def _prompt_flags(prompt: PromptFacts | None) -> list[str]:
    if prompt is None or not prompt.is_flagged:
        return []
    if prompt.confidence_mm is None:
        return ["check: point propagated, its error is not known"]
    return [f"check: point propagated, may be {prompt.confidence_mm:.0f} mm off"]


def _fold_flags(folds: FoldSpread | None) -> list[str]:
    if folds is None or folds.dice >= FOLDS_AGREE_DICE:
        return []
    return [f"check: folds disagree (Dice {folds.dice:.2f})"]


def _time_point(point: TimePointMeasures, first: date | None) -> MeasuredTimePoint:
    own = point.facts.date
    days = (own - first).days if own is not None and first is not None else None
    scans = tuple(scan.facts for scan in point.scans)
    return MeasuredTimePoint(point.facts.name, own, days, scans, point.failure)


def _burden(name: str, lesions: Sequence[FollowedLesion], number: int) -> Burden:
    findings = [(lesion.lesion_id, lesion.findings[number]) for lesion in lesions]
    states = [finding.state for _, finding in findings]
    return Burden(
        time_point=name,
        measured=states.count(FindingState.MEASURED),
        absent=states.count(FindingState.ABSENT),
        unknown=tuple(key for key, finding in findings if finding.state is FindingState.UNKNOWN),
        volume_ml=math.fsum(finding.volume_ml or 0.0 for _, finding in findings),
        long_mm=math.fsum(finding.long_mm or 0.0 for _, finding in findings),
    )


def _date_warnings(time_points: Sequence[TimePointMeasures]) -> list[str]:
    dates = [point.facts.date for point in time_points]
    names = [point.facts.name for point in time_points]
    missing = [name for name, one in zip(names, dates, strict=True) if one is None]
    if len(missing) == len(names):
        return ["no dates are known; growth per day is left out"] if len(names) > 1 else []
    warnings = [f"{name}: has no date; growth per day is left out" for name in missing]
    known = [(one, name) for one, name in zip(dates, names, strict=True) if one is not None]
    warnings += [
        f"{name}: has the date of {before}, {day}; growth per day between them is left out"
        for (earlier, before), (day, name) in zip(known, known[1:], strict=False)
        if earlier == day
    ]
    return warnings
