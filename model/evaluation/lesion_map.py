"""Which lesions of the baseline became which lesions of the follow-up."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from ..case.case import Slot

_IMAGE_NUMBER = re.compile(r"(?:^|_)img_([0-9]+)$")
_CHALLENGE_NAME = re.compile(r"^(.+?)_(BL|FU)(?:_mask_(?:BL|FU))?_img_([0-9]+)$")


@dataclass(frozen=True, slots=True)
class MappedLesion:
    """Ids of one lesion in both scans; () where it is absent. Scans are names, numbers as texts, or None.

    ``may_be_absent``: the map leaves it to the masks whether the follow-up has the lesion. ``split_ids``: ids
    of the map's other lesions that were one with this one in the baseline, whose mask bears any of the ids.
    """

    baseline_ids: tuple[int, ...]
    followup_ids: tuple[int, ...]
    baseline_scan: str | None = None
    followup_scan: str | None = None
    may_be_absent: bool = False
    split_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientLesions:
    """``patient`` is None where the file does not name any: then it holds for every scan."""

    patient: str | None
    lesions: tuple[MappedLesion, ...]


@dataclass(frozen=True, slots=True)
class LesionMap:
    path: Path
    patients: tuple[PatientLesions, ...]

    def patient_of(self, scan: str) -> str | None:
        """The patient of the map whose scan (a path without suffix) that is; of several the longest."""
        names = (entry.patient for entry in self.patients if entry.patient is not None)
        parts = Path(scan).parts
        fits = [name for name in names if any(part == name or part.startswith(f"{name}_") for part in parts)]
        return max(fits, key=len, default=None)

    def lesions_of(self, scan: str, slot: Slot | None = None) -> tuple[MappedLesion, ...] | None:
        """The lesions of a follow-up scan; None where the map does not know it.

        ``scan`` is a path without suffix, or a case of the platform with the slot of its scan. Where the map
        names a single scan, and names as these cannot be compared, its lesions are those of every scan.
        """
        patient = self.patient_of(scan)
        found = [entry for entry in self.patients if entry.patient == patient]
        if not found:
            return None
        lesions = [lesion for entry in found for lesion in entry.lesions]
        named = {lesion.followup_scan for lesion in lesions if lesion.followup_scan is not None}
        if slot is not None and named and all(_number_of(name) is not None for name in named):
            wanted = _number_of_slot(slot, {_number_of(name) or 0 for name in named})
            lesions = [m for m in lesions if m.followup_scan is None or _number_of(m.followup_scan) == wanted]
        elif len(named) > 1 or any(_is_comparable(scan, name, patient) for name in named):
            lesions = [lesion for lesion in lesions if is_scan(scan, lesion.followup_scan)]
        return tuple(lesions) or None

    def ids_of_no_scan(self, scan: str) -> frozenset[int]:
        """Baseline lesions without a scan of the follow-up, of a patient of which other lesions have one."""
        patient = self.patient_of(scan)
        lesions = [m for entry in self.patients if entry.patient == patient for m in entry.lesions]
        if all(lesion.followup_scan is None for lesion in lesions):
            return frozenset()
        return frozenset(i for m in lesions if m.followup_scan is None for i in m.baseline_ids)


def split_scan_name(stem: str) -> tuple[str, str, int] | None:
    """The patient, "BL" or "FU", and the number of a scan or mask named as the challenge does."""
    match = _CHALLENGE_NAME.match(stem)
    return (match[1], match[2], int(match[3])) if match else None


def is_scan(stem: str, named: str | None) -> bool:
    """Whether a file's name is that of a scan which a map names in full, by its number, or not at all."""
    stem = Path(stem).name
    if named is None or stem == named:
        return True
    mine, other = split_scan_name(stem), split_scan_name(named)
    if other is not None:
        return mine == other
    number = _IMAGE_NUMBER.search(stem)
    return named.isdecimal() and number is not None and int(number[1]) == int(named)


def _is_comparable(scan: str, named: str, patient: str | None) -> bool:
    """Whether a file and a scan of the map are named in the same way: then another name is another scan."""
    stem = Path(scan).name
    if is_scan(stem, named):
        return True
    if named.isdecimal():
        return _IMAGE_NUMBER.search(stem) is not None
    if split_scan_name(named) is not None:
        return split_scan_name(stem) is not None
    return patient is not None and all(name.startswith(f"{patient}_") for name in (stem, named))


def _number_of(named: str) -> int | None:
    """The image number in a scan's name."""
    parts = split_scan_name(named)
    return int(named) if named.isdecimal() else parts[2] if parts is not None else None


def _number_of_slot(slot: Slot, numbers: Set[int]) -> int | None:
    """0 and 1 are the primary and the secondary scan; other numbers are taken in their order."""
    index = list(Slot).index(slot)
    if numbers <= {0, 1}:
        return index
    return dict(enumerate(sorted(numbers))).get(index)
