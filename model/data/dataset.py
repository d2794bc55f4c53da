"""A data set before anything of it is decoded: scans, the lesions that link them, and problems.

Every reader returns a `Cohort`; all later steps work on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from ..case.atomic_files import shortened_name
from ..case.geometry import Vector
from ..case.raw_lesion import RawLesion


def safe_name(scan_id: str) -> str:
    """The id of a scan as a file name; any character may occur in an id."""
    name = quote(scan_id.encode("utf-8", "surrogatepass"), safe=" +=@")
    return shortened_name(name.replace(".", "%2E") if not name.strip(".") else name)


@dataclass(frozen=True, slots=True)
class RawScan:
    """One CT of a patient.

    Attributes:
        scan_id: unique in the data set.
        patient_id: the patient.
        order: sorts the scans of a patient in time, the earliest first.
        image: the CT file.
        labels: instance labelmap, value = lesion id; None if unlabelled.
        points: click file, if a manifest names one.
    """

    scan_id: str
    patient_id: str
    order: int
    image: Path
    labels: Path | None = None
    points: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The CT and, if there is one, its labelmap."""
        return (self.image,) if self.labels is None else (self.image, self.labels)


class Links(StrEnum):
    """Kind of the links between the lesions of a baseline and those of its follow-up."""

    EXPLICIT = "explicit"  # follow-up ids are final
    CANDIDATES = "candidates"  # follow-up ids count if the labelmaps hold them
    SAME_ID = "same-id"  # by equal ids in the labelmaps of a pair of scans


@dataclass(frozen=True, slots=True)
class RawPair:
    """A baseline and a follow-up whose lesions are linked by equal ids.

    Points are (lesion id, voxel index (x, y, z) of the scan's own file).

    Attributes:
        baseline: scan id of the baseline.
        followup: scan id of the follow-up.
        renamed: exceptions, (id in the baseline, its ids in the follow-up).
        baseline_points: points of lesions in the baseline, propagated ones unless `baseline_is_first`.
        propagated_points: points propagated to the follow-up.
        baseline_is_first: whether the baseline is the patient's first scan.
    """

    baseline: str
    followup: str
    renamed: tuple[tuple[int, tuple[int, ...]], ...] = ()
    baseline_points: tuple[tuple[int, Vector], ...] = ()
    propagated_points: tuple[tuple[int, Vector], ...] = ()
    baseline_is_first: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a data set, and its consequence.

    Attributes:
        file: the file at fault.
        text: what is wrong.
        consequence: what is done about it.
        is_note: worth knowing, but nothing usable is left out for it, and ``--strict`` does not stop for it.
    """

    file: Path
    text: str
    consequence: str
    is_note: bool = False

    def __str__(self) -> str:
        kind = "note" if self.is_note else "problem"
        return f"{kind}: {self.file}: {self.text}; {self.consequence}"


@dataclass(frozen=True)
class Cohort:
    """A data set.

    Attributes:
        name: of the data set.
        scans: its scans.
        lesions: its lesions; () if the links are `Links.SAME_ID`.
        links: how lesions are linked.
        pairs: pairs of scans if the links are `Links.SAME_ID`, otherwise ().
        problems: what the reader could not use and left out.
    """

    name: str
    scans: tuple[RawScan, ...]
    lesions: tuple[RawLesion, ...]
    links: Links = Links.EXPLICIT
    pairs: tuple[RawPair, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients' ids, sorted."""
        return tuple(sorted({scan.patient_id for scan in self.scans}))

    @cached_property
    def _by_id(self) -> dict[str, RawScan]:
        return {scan.scan_id: scan for scan in self.scans}

    def scan(self, scan_id: str) -> RawScan:
        """Return a scan by its id; KeyError if it is unknown."""
        return self._by_id[scan_id]

    def without(self, patients: frozenset[str]) -> Cohort:
        """Return the data set without all scans, lesions and pairs of some patients."""
        kept = tuple(scan for scan in self.scans if scan.patient_id not in patients)
        return self.with_scans(kept)

    def with_scans(self, scans: tuple[RawScan, ...]) -> Cohort:
        """Return the data set with only these scans, and the lesions and pairs between them."""
        ids = {scan.scan_id for scan in scans}
        return replace(
            self,
            scans=scans,
            lesions=tuple(
                lesion for lesion in self.lesions if lesion.baseline in ids and lesion.followup in ids
            ),
            pairs=tuple(pair for pair in self.pairs if pair.baseline in ids and pair.followup in ids),
        )
