"""Who is asked about: pairs of scans with their original files, and lesions with points on those."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.checks import check_cohort
from ..data.dataset import Problem, RawLesion, RawScan, safe_name
from ..data.formats.readers import read_cohort
from ..data.original_files import read_sources
from ..data.scan_survey import survey_scans
from ..errors import InputError
from ..training.job import Say


@dataclass(frozen=True, eq=False)
class EvaluationPair:
    """A pair of scans of one patient. ``name`` is unique among the pairs of a data set, and names files."""

    patient_id: str
    name: str
    baseline: RawScan
    followup: RawScan
    lesions: tuple[RawLesion, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read of it."""
        return (*self.baseline.files, *self.followup.files)


def evaluation_pairs(folder: Path) -> tuple[EvaluationPair, ...]:
    """All pairs of a prepared data set, as its original files have them.

    Lesions that resampling took are among them: they are there to be found all the same.

    Raises:
        InputError: it is none, or `train prepare` wrote it before it wrote down its sources.
    """
    sources = read_sources(folder)
    return _pairs(sources.scans, sources.lesions)


def data_set_pairs(
    path: Path,
    data_format: str = "auto",
    surveys: Path | None = None,
    workers: int = 1,
    say: Say | None = None,
) -> tuple[EvaluationPair, ...]:
    """All pairs of a data set in any format that `train prepare` reads, checked as there.

    Args:
        data_format: the format, as for `read_cohort`.
        surveys: a folder that keeps what each scan's files told, so that they are read once.
        say: takes a line for each problem.

    Raises:
        InputError: it cannot be read, or nothing of it can be used.
    """
    cohort = read_cohort(path, data_format)
    with tempfile.TemporaryDirectory() as temporary:
        surveyed = survey_scans(cohort.scans, surveys or Path(temporary), 0, workers)
    checked = check_cohort(cohort, surveyed)
    _tell(checked.problems, say)
    if not checked.cohort.lesions:
        first = f" ({checked.problems[0]})" if checked.problems else ""
        raise InputError(f"{path}: no lesion can be used{first}; expected lesions of pairs of scans")
    return _pairs(checked.cohort.scans, checked.cohort.lesions)


def _tell(problems: Iterable[Problem], say: Say | None) -> None:
    for problem in problems:
        if say is not None:
            say(str(problem))


def _pairs(scans: Sequence[RawScan], lesions: Sequence[RawLesion]) -> tuple[EvaluationPair, ...]:
    """Lesions by pair, patient after patient, so that pairs that share a scan follow each other."""
    by_id = {scan.scan_id: scan for scan in scans}
    found: dict[tuple[str, str], list[RawLesion]] = {}
    for lesion in lesions:
        found.setdefault((lesion.baseline, lesion.followup), []).append(_with_points(lesion))
    pairs = [
        EvaluationPair(
            patient_id=by_id[followup].patient_id,
            name=f"{safe_name(baseline)}-to-{safe_name(followup)}",
            baseline=by_id[baseline],
            followup=by_id[followup],
            lesions=tuple(sorted(asked, key=lambda one: one.lesion_id)),
        )
        for (baseline, followup), asked in found.items()
    ]
    pairs.sort(key=lambda pair: (pair.patient_id, pair.followup.order, pair.baseline.order, pair.name))
    return tuple(_distinct(pairs))


def _with_points(lesion: RawLesion) -> RawLesion:
    """The lesion itself.

    Raises:
        InputError: it has no point in one of its scans.
    """
    followup_points = (lesion.followup_point_xyz, lesion.propagated_point_xyz)
    if lesion.baseline_point_xyz is None or followup_points == (None, None):
        raise InputError(
            f"lesion {lesion.lesion_id} of {lesion.baseline}: has no point in one of its scans; expected both"
        )
    return lesion


def _distinct(pairs: Iterable[EvaluationPair]) -> Iterable[EvaluationPair]:
    """The same with names of their own, also where file systems do not tell capitals apart."""
    taken: set[str] = set()
    for pair in pairs:
        name, number = pair.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{pair.name}-{number}"
        taken.add(name.casefold())
        yield replace(pair, name=name)
