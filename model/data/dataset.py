"""What a data set is before anything of it is decoded: scans, lesions that link them, and what is wrong.

Every reader answers with a `Cohort`; all later steps look at nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from ..case.geometry import Vector


@dataclass(frozen=True, slots=True)
class RawScan:
    """One CT of a patient. ``labels`` is its instance labelmap, value = lesion id; None where unlabelled.

    ``order`` sorts the scans of a patient in time, the earliest first. ``points`` is the click file that a
    manifest names.
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


@dataclass(frozen=True, slots=True)
class RawLesion:
    """One lesion of a baseline and what it is in a follow-up.

    ``followup_ids`` are the ids that it has there: its own as a rule, several where it has split, that of
    another lesion where both have merged, () where it is absent. Points are voxel indices (x, y, z) of the
    scan's own file. The follow-up point is the true one, the propagated point that of a registration.
    """

    lesion_id: int
    baseline: str
    followup: str
    followup_ids: tuple[int, ...]
    baseline_point_xyz: Vector | None = None
    followup_point_xyz: Vector | None = None
    propagated_point_xyz: Vector | None = None

    @property
    def points_xyz(self) -> tuple[Vector | None, Vector | None, Vector | None]:
        """Baseline, true and propagated follow-up point."""
        return (self.baseline_point_xyz, self.followup_point_xyz, self.propagated_point_xyz)


class Links(StrEnum):
    """How far a reader knows which lesion of a follow-up is which of its baseline."""

    TOLD = "told"  # as it stands
    CANDIDATES = "candidates"  # ids that count where the labelmaps hold them
    SAME_ID = "same-id"  # in pairs of scans, by the ids that the labelmaps hold


@dataclass(frozen=True, slots=True)
class RawPair:
    """A baseline and a follow-up whose lesions are linked by their ids.

    ``renamed`` are the exceptions: (id in the baseline, its ids in the follow-up). The points are voxel
    indices (x, y, z) of the scan's own file by lesion id, those of the follow-up propagated ones. Those of
    the baseline were propagated as well unless it is the patient's first scan (``baseline_is_first``).
    """

    baseline: str
    followup: str
    renamed: tuple[tuple[int, tuple[int, ...]], ...] = ()
    baseline_points: tuple[tuple[int, Vector], ...] = ()
    propagated_points: tuple[tuple[int, Vector], ...] = ()
    baseline_is_first: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a data set, and what is done about it.

    A note is worth knowing, but nothing that could be used is left out for it, and ``--strict`` does not stop
    for it.
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
    """A data set. ``pairs`` are only there where the links are `Links.SAME_ID`; lesions only elsewhere.

    ``problems`` is what the reader could not use; it left those rows out.
    """

    name: str
    scans: tuple[RawScan, ...]
    lesions: tuple[RawLesion, ...]
    links: Links = Links.TOLD
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
        """A scan by its id; KeyError when there is none."""
        return self._by_id[scan_id]

    def without(self, patients: frozenset[str]) -> Cohort:
        """The data set without some patients: none of their scans, lesions, pairs stays."""
        kept = tuple(scan for scan in self.scans if scan.patient_id not in patients)
        return self.with_scans(kept)

    def with_scans(self, scans: tuple[RawScan, ...]) -> Cohort:
        """Only these scans, and the lesions and pairs that have both of theirs among them."""
        ids = {scan.scan_id for scan in scans}
        return replace(
            self,
            scans=scans,
            lesions=tuple(
                lesion for lesion in self.lesions if lesion.baseline in ids and lesion.followup in ids
            ),
            pairs=tuple(pair for pair in self.pairs if pair.baseline in ids and pair.followup in ids),
        )
