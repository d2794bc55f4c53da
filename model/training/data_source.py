"""The scans, lesions and patients that training draws samples from, independent of their storage.

All coordinates are voxels (z, y, x) of a scan's prepared grid, which is the network grid of inference.
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
    """The CT of one scan on its prepared grid, read box by box."""

    @property
    def scan_id(self) -> str: ...

    @property
    def shape_zyx(self) -> Index:
        """Number of voxels along (z, y, x)."""
        ...

    def read_ct(self, box: Box) -> FloatVolume:
        """Read part of the CT.

        Args:
            box: voxels (z, y, x) of the prepared grid; may reach beyond the image.

        Returns:
            Normalised CT, float32 [z, y, x] of the box's shape, 0 (the mean HU) beyond the image.
        """
        ...


class ScanSource(CTSource, Protocol):
    """A prepared scan with its lesions."""

    def read_labels(self, box: Box) -> Array:
        """Read part of the labelmap.

        Args:
            box: voxels (z, y, x) of the prepared grid; may reach beyond the image.

        Returns:
            Lesion ids, integers [z, y, x] of the box's shape; 0 or less outside lesions and beyond the image.
        """
        ...


@dataclass(frozen=True, eq=False)
class LesionPair(PreparedLesion):
    """A prepared lesion with the voxels that pretraining draws its points from.

    Attributes:
        baseline_table: its voxels in the baseline; None if not loaded.
        followup_table: its voxels in the follow-up; None if not loaded, or if it vanished.
    """

    baseline_table: LesionVoxels | None = None
    followup_table: LesionVoxels | None = None


@dataclass(frozen=True, eq=False)
class ScanPair:
    """A baseline and a follow-up scan of one patient, with the lesions of the baseline."""

    patient_id: str
    baseline: ScanSource
    followup: ScanSource
    lesions: tuple[LesionPair, ...]


@dataclass(frozen=True, eq=False)
class Patients:
    """Scan pairs grouped by patient.

    Sorted by the patients' names, so that a seed draws the same samples on every machine.
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[ScanPair, ...], ...]


def patients_of(pairs: Sequence[ScanPair], patients: Sequence[str] | None = None) -> Patients:
    """Group scan pairs by patient.

    Args:
        pairs: of any patients.
        patients: names of the patients of a fold; None takes all.

    Raises:
        InputError: no pair is left, or one of the patients has none.
    """
    names = sorted({pair.patient_id for pair in pairs} if patients is None else set(patients))
    grouped = tuple(tuple(pair for pair in pairs if pair.patient_id == name) for name in names)
    for name, group in zip(names, grouped, strict=True):
        if not group:
            raise InputError(
                f"patient {name}: has no prepared pair of scans; expected one, as a fold lists the patient"
            )
    if not names:
        raise InputError("training data: contains no pair of scans; expected one patient or more")
    return Patients(tuple(names), grouped)


def reversed_pair(pair: ScanPair) -> ScanPair:
    """Swap baseline and follow-up: in published pretraining the real scan of a synthetic pair comes last.

    A lesion that vanished has no prompt in a reversed pair and is left out. Lesions that merged become one
    that splits: there is one entry for each of them with its own point, and all of them are the target. See
    docs/model_recipe.md, Pretraining.
    """
    sources_of: dict[int, list[LesionPair]] = {}
    for lesion in pair.lesions:
        for followup_id in lesion.followup_ids:
            sources_of.setdefault(followup_id, []).append(lesion)
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
        for followup_id, sources in sorted(sources_of.items())
        for source in sources
    )
    return ScanPair(pair.patient_id, pair.followup, pair.baseline, lesions)
