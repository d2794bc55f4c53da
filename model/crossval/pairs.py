"""The pairs of scans to evaluate: original files, and lesions with points in voxels of those files."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..case.atomic_files import shortened_name
from ..case.raw_lesion import RawLesion
from ..data.checks import check_cohort
from ..data.dataset import RawScan, safe_name
from ..data.formats.readers import read_cohort
from ..data.original_files import read_sources
from ..data.scan_survey import survey_scans
from ..errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EvaluationPair:
    """A pair of scans of one patient.

    Attributes:
        patient_id: name of the patient.
        name: unique among the pairs of a data set; used in file names.
        baseline: the earlier scan.
        followup: the later scan.
        lesions: those to prompt for; each has a baseline point and at least one follow-up point.
    """

    patient_id: str
    name: str
    baseline: RawScan
    followup: RawScan
    lesions: tuple[RawLesion, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Images and labelmaps of both scans."""
        return (*self.baseline.files, *self.followup.files)


def evaluation_pairs(folder: Path) -> tuple[EvaluationPair, ...]:
    """Return all pairs of a prepared data set, with its original files.

    They include lesions that resampling removed, as these are to be found nevertheless.

    Raises:
        InputError: it is not a prepared data set, or an earlier version of `train prepare` wrote it, without
            its sources.
    """
    sources = read_sources(folder)
    return _pairs(sources.scans, sources.lesions)


def data_set_pairs(
    path: Path, data_format: str = "auto", surveys: Path | None = None, workers: int = 1
) -> tuple[EvaluationPair, ...]:
    """Return all pairs of a data set in any format that `train prepare` reads, checked in the same way.

    Logs a line for each problem.

    Args:
        path: folder or table of the data set.
        data_format: the format, as for `read_cohort`.
        surveys: folder that keeps the surveys of the scans, so that files are read only once.
        workers: processes that survey scans.

    Raises:
        InputError: it cannot be read, or contains no usable lesion.
    """
    cohort = read_cohort(path, data_format)
    with tempfile.TemporaryDirectory() as temporary:
        scan_surveys = survey_scans(cohort.scans, surveys or Path(temporary), 0, workers)
    checked = check_cohort(cohort, scan_surveys)
    for problem in checked.problems:
        log.warning("%s", problem)
    if not checked.cohort.lesions:
        first = f" ({checked.problems[0]})" if checked.problems else ""
        raise InputError(f"{path}: no lesion can be used{first}; expected lesions of pairs of scans")
    return _pairs(checked.cohort.scans, checked.cohort.lesions)


def _pairs(scans: Sequence[RawScan], lesions: Sequence[RawLesion]) -> tuple[EvaluationPair, ...]:
    """Group lesions by pair, sorted by patient, so that pairs that share a scan follow each other."""
    by_id = {scan.scan_id: scan for scan in scans}
    grouped: dict[tuple[str, str], list[RawLesion]] = {}
    for lesion in lesions:
        _check_points(lesion)
        grouped.setdefault((lesion.baseline, lesion.followup), []).append(lesion)
    pairs = [
        EvaluationPair(
            patient_id=by_id[followup].patient_id,
            name=shortened_name(f"{safe_name(baseline)}-to-{safe_name(followup)}"),
            baseline=by_id[baseline],
            followup=by_id[followup],
            lesions=tuple(sorted(pair_lesions, key=lambda lesion: lesion.lesion_id)),
        )
        for (baseline, followup), pair_lesions in grouped.items()
    ]
    pairs.sort(key=lambda pair: (pair.patient_id, pair.followup.order, pair.baseline.order, pair.name))
    return tuple(_with_unique_names(pairs))


def _check_points(lesion: RawLesion) -> None:
    """Raise InputError if a lesion has no point in one of its scans."""
    followup_points = (lesion.followup_point_xyz, lesion.propagated_point_xyz)
    if lesion.baseline_point_xyz is None or followup_points == (None, None):
        raise InputError(
            f"lesion {lesion.lesion_id} of {lesion.baseline}: has no point in one of its scans; expected both"
        )


def _with_unique_names(pairs: Sequence[EvaluationPair]) -> Iterator[EvaluationPair]:
    """Number pairs of equal names, ignoring case, as not all file systems distinguish it."""
    taken: set[str] = set()
    for pair in pairs:
        name, number = pair.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{pair.name}-{number}"
        taken.add(name.casefold())
        yield replace(pair, name=name)
