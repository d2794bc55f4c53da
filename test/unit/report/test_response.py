"""Responses of hand-made trials: every rule of RECIST 1.1, iRECIST and the volumetric criteria."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from model.measure.lesion_measures import AxialLines, LesionMeasures, Line, PieceMeasures, Place
from model.report.findings import Finding, FindingState, FollowedLesion, MergedMass, ResponseCourse
from model.report.immune_response import immune_course
from model.report.lesion_facts import LesionFacts
from model.report.response import response_course
from model.report.response_criteria import IRECIST, RECIST, VOLUMETRIC
from model.report.target_lesions import choose_targets

Size = float | None
"""Longest axial diameter in mm; 0 for an absent lesion, None for an unknown one."""

PLACE = Place((0, 0, 0), (0, 0, 0))
NODE, NOT_TARGET = LesionFacts(is_node=True), LesionFacts(is_target=False)


def _finding(number: int, size: Size, parts: Sequence[float] = (), mass: MergedMass | None = None) -> Finding:
    """A ball of a diameter, or several."""
    name = f"t{number}"
    if size is None:
        return Finding(name, FindingState.UNKNOWN, reason="failed")
    if not size:
        return Finding(name, FindingState.ABSENT)
    line = Line(size, PLACE, PLACE)
    pieces = tuple(PieceMeasures(_ball_ml(one), one, one) for one in parts or (size,))
    measures = LesionMeasures(
        lesion_id=1,
        voxels=100,
        volume_ml=sum(piece.volume_ml for piece in pieces),
        axial=AxialLines(0, line, line),
        longest=line,
        density=None,
        centroid=PLACE,
        sphericity=1.0,
        pieces=len(pieces),
        parts=pieces,
        touches_border=False,
    )
    return Finding(name, FindingState.MEASURED, "primary", None, measures, mass=mass)


def _ball_ml(diameter_mm: float) -> float:
    return math.pi / 6 * diameter_mm**3 / 1000


def _lesions(trial: Mapping[int, Sequence[Size]]) -> list[FollowedLesion]:
    return [
        FollowedLesion(key, tuple(_finding(number, size) for number, size in enumerate(sizes)))
        for key, sizes in trial.items()
    ]


def _courses(
    trial: Mapping[int, Sequence[Size]],
    facts: Mapping[int, LesionFacts] | None = None,
    days: Sequence[int] = (),
) -> tuple[ResponseCourse, ResponseCourse, ResponseCourse]:
    """By RECIST 1.1, iRECIST and volumes; on days since the baseline, none for unknown dates."""
    return _judged(_lesions(trial), facts or {}, days)


def _judged(
    lesions: Sequence[FollowedLesion], facts: Mapping[int, LesionFacts], days: Sequence[int] = ()
) -> tuple[ResponseCourse, ResponseCourse, ResponseCourse]:
    choice = choose_targets(lesions, facts, {"primary": 1.0}, RECIST)
    recist = response_course(lesions, choice, facts, RECIST)
    first = datetime.date(2024, 1, 1)
    dates: list[datetime.date | None] = [None] * len(recist.responses)
    if days:
        dates = [first + datetime.timedelta(day) for day in days]
    return recist, immune_course(recist, dates, IRECIST), response_course(lesions, choice, facts, VOLUMETRIC)


def _verdicts(course: ResponseCourse) -> str:
    return " ".join(str(one.overall) for one in course.responses[1:])


# Name, sizes by lesion, facts, verdicts by RECIST 1.1 and by iRECIST.
TRIALS: list[tuple[str, dict[int, list[Size]], dict[int, LesionFacts], str, str]] = [
    ("30 % less is partial, 29 % is not", {1: [100, 71, 70]}, {}, "SD PR", "iSD iPR"),
    ("20 % above the nadir progresses", {1: [100, 60, 71, 72]}, {}, "PR SD PD", "iPR iSD iUPD"),
    ("but only with 5 mm", {1: [20, 24, 25]}, {}, "SD PD", "iSD iUPD"),
    ("the nadir may be the baseline", {1: [50, 55, 60]}, {}, "SD PD", "iSD iUPD"),
    ("all gone is complete", {1: [20, 10, 0], 2: [12, 6, 0]}, {}, "PR CR", "iPR iCR"),
    ("back after a complete response", {1: [20, 0, 4]}, {}, "CR PD", "iCR iUPD"),
    ("back after less than that adds up", {1: [60, 60, 60], 2: [30, 0, 4]}, {}, "PR SD", "iPR iSD"),
    ("a node of 9 mm is normal", {1: [20, 10, 9]}, {1: NODE}, "PR CR", "iPR iCR"),
    ("a node is a target from 15 mm on", {1: [14, 9]}, {1: NODE}, "CR", "iCR"),
    ("too small counts as 5 mm", {1: [20, 3]}, {}, "PR", "iPR"),
    ("an unknown target", {1: [30, None, 30], 2: [20, 20, 20]}, {}, "NE SD", "NE iSD"),
    ("progresses all the same", {1: [30, None], 2: [20, 61]}, {}, "PD", "iUPD"),
    ("an unknown baseline", {1: [None, 30, 30]}, {}, "NE NE", "NE NE"),
    ("is no hindrance to a new lesion", {1: [None, 30], 2: [0, 8]}, {}, "PD", "iUPD"),
    ("targets gone, others left", {1: [30, 0], 2: [20, 20]}, {2: NOT_TARGET}, "PR", "iPR"),
    ("targets gone, others unknown", {1: [30, 0], 2: [20, None]}, {2: NOT_TARGET}, "PR", "iPR"),
    ("targets and others gone", {1: [30, 0], 2: [20, 0]}, {2: NOT_TARGET}, "CR", "iCR"),
    ("others do not decide by size", {1: [30, 30], 2: [20, 60]}, {2: NOT_TARGET}, "SD", "iSD"),
    ("no targets", {1: [8, 8, 0]}, {}, "non-CR/non-PD CR", "non-iCR/non-iUPD iCR"),
    ("no targets, unknown", {1: [8, None]}, {}, "NE", "NE"),
    ("a new lesion", {1: [30, 20, 20], 2: [0, 6, 0]}, {}, "PD PR", "iUPD iPR"),
    ("that stays as it is", {1: [30, 30, 30], 2: [0, 6, 6]}, {}, "PD PD", "iUPD iUPD"),
    ("that grows by 5 mm", {1: [30, 30, 30], 2: [0, 6, 11]}, {}, "PD PD", "iUPD iCPD"),
    ("and another one", {1: [30] * 3, 2: [0, 6, 6], 3: [0, 0, 6]}, {}, "PD PD", "iUPD iCPD"),
    ("targets grow on by 5 mm", {1: [50, 65, 70, 40]}, {}, "PD PD SD", "iUPD iCPD iCPD"),
    ("targets grow on by less", {1: [50, 65, 69, 70]}, {}, "PD PD PD", "iUPD iUPD iCPD"),
    ("targets after a new lesion", {1: [50, 50, 62], 2: [0, 6, 6]}, {}, "PD PD", "iUPD iCPD"),
    ("reset, and again", {1: [50, 65, 50, 65]}, {}, "PD SD PD", "iUPD iSD iUPD"),
    ("unknown neither confirms nor resets", {1: [50, 65, None, 71]}, {}, "PD NE PD", "iUPD NE iCPD"),
]


@pytest.mark.parametrize(
    ("trial", "facts", "recist", "irecist"), [case[1:] for case in TRIALS], ids=[case[0] for case in TRIALS]
)
def test_trials(
    trial: dict[int, list[Size]], facts: dict[int, LesionFacts], recist: str, irecist: str
) -> None:
    by_size, immune, _ = _courses(trial, facts)
    assert (_verdicts(by_size), _verdicts(immune)) == (recist, irecist)
    for course in (by_size, immune):
        assert course.responses[0].overall is None
        assert all(one.reason for one in course.responses)


def test_a_progression_is_not_confirmed_within_four_weeks() -> None:
    _, early, _ = _courses({1: [50, 65, 75]}, days=(0, 60, 87))
    assert _verdicts(early) == "iUPD iUPD" and "only 27 days after t1" in early.responses[2].reason
    _, late, _ = _courses({1: [50, 65, 75]}, days=(0, 60, 88))
    assert _verdicts(late) == "iUPD iCPD"


def test_volumes_have_thresholds_of_their_own() -> None:
    # Balls of 0.7 times the diameter have 34.3 % of the volume, those of 1.2 times 172.8 %.
    _, _, volumes = _courses({1: [100, 71, 70, 84, 85]})
    assert _verdicts(volumes) == "SD PR SD PD"
    assert volumes.unit == "ml" and volumes.responses[0].sum == pytest.approx(_ball_ml(100))
    assert volumes.responses[2].baseline_percent == pytest.approx(-65.7)
    assert volumes.responses[4].nadir_percent == pytest.approx(100 * ((85 / 70) ** 3 - 1))


def test_the_reason_gives_the_figures() -> None:
    recist, _, _ = _courses({1: [100, 60, 72], 2: [0, 0, 0], 3: [20, 20, 30]}, {3: NOT_TARGET})
    assert recist.responses[1].reason == "the sum 60.0 mm is 40 % below the baseline of 100.0 mm"
    assert recist.responses[2].reason == (
        "the sum 72.0 mm is 20 % and 12.0 mm above the nadir of 60.0 mm; non-target lesions 3 have grown: a "
        "reader judges whether unequivocally"
    )
    stable, _, _ = _courses({1: [100, 90]})
    assert stable.responses[1].reason == (
        "the sum 90.0 mm is neither 30 % below the baseline of 100.0 mm nor 20 % and 5 mm above the nadir of "
        "100.0 mm"
    )


def test_five_targets_and_two_of_an_organ() -> None:
    trial: dict[int, list[Size]] = {key: [50 - key, 50] for key in range(1, 9)}
    recist, _, _ = _courses(trial)
    assert (recist.targets, recist.others) == ((1, 2, 3, 4, 5), (6, 7, 8))
    assert "no facts of the lesions are given" in recist.notes[0]
    liver = {key: LesionFacts(organ="liver") for key in range(1, 5)} | {5: LesionFacts(organ="lung"), 6: NODE}
    by_organ, _, _ = _courses(trial, liver)
    assert by_organ.targets == (1, 2, 5, 6, 7)


def test_given_targets() -> None:
    facts = {1: LesionFacts(is_target=True), 2: LesionFacts(is_target=True)}
    recist, _, _ = _courses({1: [8, 8], 2: [30, 30], 3: [40, 40]}, facts)
    assert (recist.targets, recist.others) == ((1, 2), (3,))
    assert recist.notes == ("targets as given: 1, 2", "targets that are too small to be measurable: 1")


def test_thick_slices_need_larger_targets() -> None:
    lesions = _lesions({1: [15, 15], 2: [16, 16]})
    assert choose_targets(lesions, {}, {"primary": 8.0}, RECIST).targets == (2,)


def test_a_split_lesion_is_the_sum_of_its_parts() -> None:
    split = _finding(1, 30, parts=(30, 12, 3))
    recist, _, volumes = _judged([FollowedLesion(1, (_finding(0, 40), split))], {})
    assert recist.responses[1].sum == pytest.approx(30 + 12 + 5)
    assert volumes.responses[1].sum == pytest.approx(_ball_ml(30) + _ball_ml(12) + _ball_ml(3))


def test_merged_lesions_have_one_diameter() -> None:
    mass = MergedMass((1, 2), 45.0, 20.0)
    lesions = [
        FollowedLesion(key, (_finding(0, size), _finding(1, size, mass=mass)))
        for key, size in ((1, 30), (2, 20))
    ]
    recist, _, volumes = _judged(lesions, {})
    assert (recist.responses[0].sum, recist.responses[1].sum) == (50, 45)
    assert volumes.responses[1].baseline_percent == 0


def test_settable_thresholds() -> None:
    lesions = _lesions({1: [100, 90]})
    choice = choose_targets(lesions, {}, {}, RECIST)
    strict = replace(VOLUMETRIC, partial_percent=-20.0)
    assert _verdicts(response_course(lesions, choice, {}, strict)) == "PR"
