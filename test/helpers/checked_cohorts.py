"""Data sets that are read and checked, for tests of readers, links and checks."""

from __future__ import annotations

from pathlib import Path

from model.data.checks import CheckedCohort, check_cohort
from model.data.dataset import Cohort
from model.data.formats.challenge_release import read_challenge
from model.data.scan_survey import survey_scans

from .data_sets import Lesions, write_challenge

ONE: Lesions = {1: ((5, 8, 9), 2)}
MOVED: Lesions = {1: ((6, 9, 10), 2)}
TWO: Lesions = {**ONE, 2: ((9, 15, 18), 1)}


def survey_and_check(cohort: Cohort, folder: Path) -> CheckedCohort:
    """Check a data set; surveys go into a folder."""
    return check_cohort(cohort, survey_scans(cohort.scans, folder, 0, 1))


def only_problem(checked: CheckedCohort, part: str) -> str:
    """The line of the only problem that contains a text."""
    lines = [str(problem) for problem in checked.problems if part in str(problem)]
    assert len(lines) == 1, [str(problem) for problem in checked.problems]
    return lines[0]


def checked_release(
    folder: Path, rows: list[tuple[str, str, str, str]], before: Lesions, after: Lesions
) -> tuple[CheckedCohort, dict[int, tuple[int, ...]]]:
    """A patient of the release, read and checked, and the follow-up ids by lesion id.

    Args:
        rows: lesion id, baseline point, follow-up point, propagated point.
    """
    columns = ("lesion_id", "cog_bl", "cog_fu", "cog_propagated")
    write_challenge(folder, "p", [dict(zip(columns, row, strict=True)) for row in rows], before, after)
    checked = survey_and_check(read_challenge(folder), folder / "survey")
    return checked, {lesion.lesion_id: lesion.followup_ids for lesion in checked.cohort.lesions}
