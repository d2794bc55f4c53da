"""Links between lesions of the baseline and lesions of the follow-up."""

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
    """Ids of one lesion in both scans, () if it is absent there. Scans are names, numbers as text, or None.

    Attributes:
        may_be_absent: the masks decide if the follow-up has the lesion, not the map.
        split_ids: ids of other lesions of the map that were one lesion with this one in the baseline; its
            mask there has any one of these ids.
    """

    baseline_ids: tuple[int, ...]
    followup_ids: tuple[int, ...]
    baseline_scan: str | None = None
    followup_scan: str | None = None
    may_be_absent: bool = False
    split_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientLesions:
    """Lesions of one patient; ``patient`` is None if the file names none and holds for every scan."""

    patient: str | None
    lesions: tuple[MappedLesion, ...]

    def lists(self, scan: str) -> bool:
        """True if a lesion has a scan of this name."""
        return any(scan in (lesion.baseline_scan, lesion.followup_scan) for lesion in self.lesions)


@dataclass(frozen=True, slots=True)
class LesionMap:
    """A lesion map as read from ``path``."""

    path: Path
    patients: tuple[PatientLesions, ...]

    def patient_of(self, scan: str) -> str | None:
        """Find the patient of a scan (a path without suffix): the one who lists it, else by name.

        Of several patients whose name it begins with, it is the one with the longest.
        """
        stem = Path(scan).name
        listing = [entry.patient for entry in self.patients if not stem.isdecimal() and entry.lists(stem)]
        if len(listing) == 1 and listing[0] is not None:
            return listing[0]
        names = (entry.patient for entry in self.patients if entry.patient is not None)
        parts = Path(scan).parts
        matches = [n for n in names if any(part == n or part.startswith(f"{n}_") for part in parts)]
        return max(matches, key=len, default=None)

    def lesions_of(self, scan: str, slot: Slot | None = None) -> tuple[MappedLesion, ...] | None:
        """Select the lesions of a follow-up scan; None if the map does not list it.

        If the map names a single scan in a way that cannot be compared with file names, its lesions hold for
        every scan.

        Args:
            scan: path without suffix, or a case of the platform.
            slot: slot of the scan in a case of the platform.
        """
        patient = self.patient_of(scan)
        entries = [entry for entry in self.patients if entry.patient == patient]
        if not entries:
            return None
        lesions = [lesion for entry in entries for lesion in entry.lesions]
        named = {lesion.followup_scan for lesion in lesions if lesion.followup_scan is not None}
        if slot is not None and named and all(_number_of(name) is not None for name in named):
            wanted = _number_of_slot(slot, {_number_of(name) or 0 for name in named})
            lesions = [m for m in lesions if m.followup_scan is None or _number_of(m.followup_scan) == wanted]
        elif len(named) > 1 or any(_is_comparable(scan, name, patient) for name in named):
            lesions = [lesion for lesion in lesions if is_scan(scan, lesion.followup_scan)]
        return tuple(lesions) or None

    def ids_of_no_scan(self, scan: str) -> frozenset[int]:
        """Ids of the patient's baseline lesions without a follow-up scan, if other lesions do have one."""
        patient = self.patient_of(scan)
        lesions = [m for entry in self.patients if entry.patient == patient for m in entry.lesions]
        if all(lesion.followup_scan is None for lesion in lesions):
            return frozenset()
        return frozenset(i for m in lesions if m.followup_scan is None for i in m.baseline_ids)


def split_scan_name(stem: str) -> tuple[str, str, int] | None:
    """Split a scan or mask name of the challenge into patient, "BL" or "FU", and number; None for others."""
    match = _CHALLENGE_NAME.match(stem)
    return (match[1], match[2], int(match[3])) if match else None


def is_scan(stem: str, named: str | None) -> bool:
    """Check if a file name matches a scan of the map, which is named in full, by number, or not at all."""
    stem = Path(stem).name
    if named is None or stem == named:
        return True
    of_file, of_map = split_scan_name(stem), split_scan_name(named)
    if of_map is not None:
        return of_file == of_map
    number = _IMAGE_NUMBER.search(stem)
    return named.isdecimal() and number is not None and int(number[1]) == int(named)


def _is_comparable(scan: str, named: str, patient: str | None) -> bool:
    """Check if a file and a scan of the map follow the same naming: then different names mean other scans."""
    stem = Path(scan).name
    if is_scan(stem, named):
        return True
    if named.isdecimal():
        return _IMAGE_NUMBER.search(stem) is not None
    if split_scan_name(named) is not None:
        return split_scan_name(stem) is not None
    return patient is not None and all(name.startswith(f"{patient}_") for name in (stem, named))


def _number_of(named: str) -> int | None:
    """Image number in the name of a scan, or None."""
    parts = split_scan_name(named)
    return int(named) if named.isdecimal() else parts[2] if parts is not None else None


def _number_of_slot(slot: Slot, numbers: Set[int]) -> int | None:
    """Image number of a slot: 0 and 1 are primary and secondary; other numbers count in ascending order."""
    index = list(Slot).index(slot)
    if numbers <= {0, 1}:
        return index
    return dict(enumerate(sorted(numbers))).get(index)
