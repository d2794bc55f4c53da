"""Which lesions of the baseline became which lesions of the follow-up.

Read from LongiSeg's ``tracking.json`` (a dictionary per patient; of its second generation,
``trackingTr.json``, also a list of them, one per pair of scans), from the challenge's CSV (``lesion_id,
img_id_bl, img_id_fu, cog_bl, cog_fu, cog_propagated``: lesions that share their centre in one follow-up scan
have merged), or from a plain CSV (``baseline_id, followup_ids`` and optionally ``patient`` and ``scan``).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..case.case import MAX_LESION_ID, Slot
from ..errors import InputError

_EXPECTED = (
    "LongiSeg's tracking.json, the challenge's CSV (lesion_id, img_id_bl, img_id_fu, cog_bl, cog_fu, "
    "cog_propagated), or a CSV with baseline_id, followup_ids[, patient, scan]"
)
_IMAGE_NUMBER = re.compile(r"(?:^|_)img_([0-9]+)$")
_CHALLENGE_NAME = re.compile(r"^(.+?)_(BL|FU)(?:_mask_(?:BL|FU))?_img_([0-9]+)$")
_NOTHING = {"", "nan", "none", "null", "na", "n/a"}


@dataclass(frozen=True, slots=True)
class MappedLesion:
    """Ids of one lesion in both scans; () where it is absent. Scans are names, numbers as texts, or None.

    ``may_be_absent``: the map leaves it to the masks whether the follow-up has the lesion.
    """

    baseline_ids: tuple[int, ...]
    followup_ids: tuple[int, ...]
    baseline_scan: str | None = None
    followup_scan: str | None = None
    may_be_absent: bool = False


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


def read_lesion_map(path: Path) -> LesionMap:
    """Read the map in any of its three formats.

    Raises:
        InputError: not readable, another format, an id out of range, or a baseline id twice in a scan.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected {_EXPECTED}") from error
    parse = _from_tracking if path.suffix.lower() == ".json" else _from_csv
    patients = parse(path, text)
    for entry in patients:
        _check(path, entry)
    return LesionMap(path, tuple(patients))


def _check(path: Path, entry: PatientLesions) -> None:
    seen: set[tuple[int, str | None, str | None]] = set()
    for lesion in entry.lesions:
        for lesion_id in (*lesion.baseline_ids, *lesion.followup_ids):
            if not 0 < lesion_id <= MAX_LESION_ID:
                raise InputError(f"{path}: lesion id {lesion_id}; expected 1 to {MAX_LESION_ID}")
        for lesion_id in lesion.baseline_ids:
            key = (lesion_id, lesion.baseline_scan, lesion.followup_scan)
            if key in seen:
                where = "" if entry.patient is None else f" of patient {entry.patient}"
                raise InputError(f"{path}: lesion {lesion_id}{where} is listed twice; expected it once")
            seen.add(key)


def _from_tracking(path: Path, text: str) -> list[PatientLesions]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not valid JSON ({error}); expected {_EXPECTED}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: is no dictionary of patients; expected {_EXPECTED}")
    return [
        PatientLesions(
            str(patient),
            tuple(
                _tracked(path, str(patient), str(name), lesion)
                for pair in (pairs if isinstance(pairs, list) else [pairs])
                for name, lesion in _items(path, str(patient), pair)
            ),
        )
        for patient, pairs in document.items()
    ]


def _items(path: Path, patient: str, pair: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(pair, dict) or not all(isinstance(lesion, dict) for lesion in pair.values()):
        raise InputError(f"{path}: patient {patient} holds no dictionary of lesions; expected {_EXPECTED}")
    return pair.items()


def _tracked(path: Path, patient: str, name: str, lesion: Mapping[str, Any]) -> MappedLesion:
    own = _numbers(path, f"lesion {name!r} of patient {patient}", name)
    merged = lesion.get("merged_lesions", list(own))
    joined = merged if isinstance(merged, list) else [merged]
    ids = _numbers(path, f"merged_lesions of lesion {name} of patient {patient}", *joined)
    # A lesion that is new has no point in the baseline.
    is_new = "bl_point" in lesion and _is_nothing(lesion["bl_point"])
    return MappedLesion(
        () if is_new else own, ids, _scan_name(lesion.get("img_bl")), _scan_name(lesion.get("img_fu"))
    )


def _is_nothing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, list):
        return not value or all(_is_nothing(entry) for entry in value)
    return isinstance(value, str) and value.strip().lower() in _NOTHING


def _scan_name(value: Any) -> str | None:
    if _is_nothing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text[:-2] if re.fullmatch(r"[0-9]+\.0", text) else text


def _numbers(path: Path, where: str, *values: Any) -> tuple[int, ...]:
    """Ids without 0 (= absent), in order and once each."""
    found: dict[int, None] = {}
    for value in values:
        if _is_nothing(value):
            continue
        try:
            number = float(value)
            if isinstance(value, bool) or not number.is_integer():
                raise ValueError
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}: {where}: {value!r} is no lesion id; expected a whole number"
            ) from error
        if number:
            found[int(number)] = None
    return tuple(found)


def _from_csv(path: Path, text: str) -> list[PatientLesions]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (csv.Error, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is no CSV ({error}); expected {_EXPECTED}") from error
    if {"baseline_id", "followup_ids"} <= set(columns):
        return _from_plain(path, rows)
    if {"lesion_id", "cog_fu"} <= set(columns):
        return [PatientLesions(_patient_of_file(path), tuple(_from_challenge(path, rows)))]
    raise InputError(f"{path}: has the columns {', '.join(columns) or '(none)'}; expected {_EXPECTED}")


def _patient_of_file(path: Path) -> str | None:
    """The challenge names its files by patient; a hash of hexadecimal digits tells that it did."""
    return path.stem if re.fullmatch(r"[0-9a-f]{10}", path.stem) else None


def _from_plain(path: Path, rows: Iterable[Mapping[str, str]]) -> list[PatientLesions]:
    by_patient: dict[str | None, list[MappedLesion]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"line {line}"
        lesion = MappedLesion(
            _numbers(path, where, *re.split(r"[\s;|+,]+", row["baseline_id"])),
            _numbers(path, where, *re.split(r"[\s;|+,]+", row["followup_ids"])),
            followup_scan=row.get("scan") or None,
        )
        by_patient.setdefault(row.get("patient") or None, []).append(lesion)
    return [PatientLesions(patient, tuple(lesions)) for patient, lesions in by_patient.items()]


def _from_challenge(path: Path, rows: Iterable[Mapping[str, str]]) -> list[MappedLesion]:
    """Lesions that share a centre in a follow-up scan share their mask there."""
    entries = []
    for line, row in enumerate(rows, start=2):
        ids = _numbers(path, f"line {line}", row["lesion_id"])
        if len(ids) != 1:
            raise InputError(f"{path}: line {line} holds no lesion_id; expected a whole number from 1 on")
        centre = _centre(path, line, row["cog_fu"])
        scan = _scan_name(row.get("img_id_fu", ""))
        is_new = "cog_bl" in row and _is_nothing(row["cog_bl"])
        entries.append((ids[0], is_new, _scan_name(row.get("img_id_bl", "")), scan, centre))
    lesions = []
    for own, is_new, baseline_scan, scan, centre in entries:
        # The mask of a merged lesion bears one of the ids: which one is left to the mask.
        shared = [e[0] for e in entries if e[3] == scan and e[4] == centre] if centre else [own]
        lesions.append(MappedLesion(() if is_new else (own,), tuple(shared), baseline_scan, scan, not centre))
    return lesions


def _centre(path: Path, line: int, text: str) -> tuple[float, ...]:
    """Three numbers, whatever separates or encloses them; () for none."""
    parts = re.sub(r"[\[\](){}]", " ", text).replace(",", " ").replace(";", " ").split()
    if all(_is_nothing(part) for part in parts):
        return ()
    try:
        centre = tuple(float(part) for part in parts)
    except ValueError:
        centre = ()
    if len(centre) != 3 or not all(map(math.isfinite, centre)):
        raise InputError(f"{path}: line {line}: cog_fu is {text!r}; expected three numbers, or nothing")
    return centre
