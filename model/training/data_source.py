"""What training reads of a prepared data set, whoever keeps it.

All coordinates are those of a scan's prepared grid, the network grid of inference (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..case.geometry import Array, Box, Index
from ..data.point_tables import LesionVoxels
from ..data.store import PreparedLesion
from ..errors import InputError
from ..network.resample import FloatVolume


class CTSource(Protocol):
    """The CT of a scan on its prepared grid, read box by box."""

    @property
    def scan_id(self) -> str: ...

    @property
    def shape_zyx(self) -> Index: ...

    def read_ct(self, box: Box) -> FloatVolume:
        """Normalised CT, float32 of the box's shape, 0 (the mean HU) beyond the image."""
        ...


class ScanSource(CTSource, Protocol):
    """A prepared scan with its lesions."""

    def read_labels(self, box: Box) -> Array:
        """Lesion ids, integers of the box's shape, 0 or less where there is none, also beyond the image."""
        ...


@dataclass(frozen=True, eq=False)
class LesionPair(PreparedLesion):
    """A prepared lesion with the voxels that pretraining draws its points from."""

    baseline_table: LesionVoxels | None = None
    followup_table: LesionVoxels | None = None


@dataclass(frozen=True, eq=False)
class ScanPair:
    """A baseline and a follow-up of one patient."""

    patient_id: str
    baseline: ScanSource
    followup: ScanSource
    lesions: tuple[LesionPair, ...]


@dataclass(frozen=True, eq=False)
class Patients:
    """Scan pairs by patient, in the order of the patients' names, so that a seed means the same anywhere."""

    names: tuple[str, ...]
    pairs: tuple[tuple[ScanPair, ...], ...]


def patients_of(pairs: Sequence[ScanPair], wanted: Sequence[str] | None = None) -> Patients:
    """Order pairs by patient.

    Args:
        wanted: the patients of a fold; None takes all.

    Raises:
        InputError: no pair is left, or a wanted patient has none.
    """
    names = sorted({pair.patient_id for pair in pairs} if wanted is None else set(wanted))
    grouped = tuple(tuple(pair for pair in pairs if pair.patient_id == name) for name in names)
    for name, group in zip(names, grouped, strict=True):
        if not group:
            raise InputError(
                f"patient {name}: has no prepared pair of scans; expected one as its fold names it"
            )
    if not names:
        raise InputError("training data: holds no pair of scans; expected one patient or more")
    return Patients(tuple(names), grouped)


def reversed_pair(pair: ScanPair) -> ScanPair:
    """The same pair with time turned round, as the real scan of a synthetic pair is the follow-up (A2).

    A lesion that vanished has no prompt then, and is left out. Lesions that merged are taken as one that
    split: each keeps the point of its own, and all of them are its target.
    """
    became: dict[int, list[LesionPair]] = {}
    for lesion in pair.lesions:
        for followup_id in lesion.followup_ids:
            became.setdefault(followup_id, []).append(lesion)
    lesions = tuple(
        LesionPair(
            lesion_id=followup_id,
            followup_ids=tuple(sorted(lesion.lesion_id for lesion in sources)),
            baseline_point_zyx=source.followup_point_zyx,
            followup_point_zyx=source.baseline_point_zyx,
            propagated_point_zyx=None,
            baseline_table=source.followup_table,
            followup_table=source.baseline_table,
        )
        for followup_id, sources in sorted(became.items())
        for source in sources
    )
    return ScanPair(pair.patient_id, pair.followup, pair.baseline, lesions)
