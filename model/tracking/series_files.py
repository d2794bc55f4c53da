"""Files of a patient's time points, in order of time; nothing is decoded yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..case.case import ScanFiles, Slot
from ..errors import InputError


@dataclass(frozen=True, slots=True)
class TimePointFiles:
    """Files of one time point.

    Attributes:
        position: number that time points are sorted by: the ordinal of the date, or the given order.
        when: the position in words, e.g. ``2024-03-31`` or ``order 3``.
        scans: primary scan first.
        boxes: box JSON of each scan that has one.
    """

    name: str
    position: float
    when: str
    scans: tuple[ScanFiles, ...]
    boxes: Mapping[Slot, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PatientFiles:
    """Files of one patient, earliest time point first."""

    patient: str
    time_points: tuple[TimePointFiles, ...]


def sorted_patient(path: Path, patient: str, time_points: Sequence[TimePointFiles]) -> PatientFiles:
    """Sort a patient's time points.

    Args:
        path: manifest or folder, for the error message.

    Raises:
        InputError: two time points have the same position in time.
    """
    ordered = sorted(time_points, key=lambda point: point.position)
    for earlier, later in zip(ordered, ordered[1:], strict=False):
        if earlier.position == later.position:
            raise InputError(
                f"{path}: patient {patient!r}: time points {earlier.name!r} and {later.name!r} have the same "
                f"position in time ({later.when}); expected one after the other"
            )
    return PatientFiles(patient, tuple(ordered))
