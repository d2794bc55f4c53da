"""Read the pair lists of LongiTrack's viewer: pairs of scans, each a patient of its own.

A list of ``{"baseline_scan": path, "followup_scan": path}``, with paths relative to the list. The viewer's
export beside it, ``inference_meta.json``, holds the points of the lesions. Without it, an entry may name the
files of prompts: ``baseline_mask``, ``baseline_clicks``, ``followup_clicks``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..case.case import ScanFiles, Slot
from ..case.geometry import Vector
from ..case.input_files import is_regular_file
from ..case.lesion_json import Triple
from ..case.stored_image import IMAGE_SUFFIXES
from ..case.text_files import read_json
from ..case.voxel_checks import MAX_LESION_ID
from ..errors import InputError
from .longiseg_series import FollowupPoints
from .series_files import PatientFiles, TimePointFiles

EXPORT_NAME = "inference_meta.json"

_EXPECTED = 'a list of {"baseline_scan": path, "followup_scan": path}'
_CHANNEL = re.compile(r"_[0-9]{4}$")
_Path = Annotated[str, Field(min_length=1)]


class _Pair(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    baseline_scan: _Path
    followup_scan: _Path
    baseline_mask: _Path | None = None
    baseline_clicks: _Path | None = None
    followup_clicks: _Path | None = None


class _ExportedLesion(BaseModel):
    # Points are (z, y, x), in the order of the viewer's arrays.
    model_config = ConfigDict(strict=True)

    bl_point: Triple
    fu_point_corrected: Triple | None = None
    fu_point_propagated: Triple | None = None


class _ExportedPair(BaseModel):
    model_config = ConfigDict(strict=True)

    baseline_scan: str
    followup_scan: str
    lesions: dict[str, _ExportedLesion]


_Model = TypeVar("_Model", bound=BaseModel)
_Lesions = Mapping[int, _ExportedLesion]


def is_pair_list(document: Any) -> bool:
    """True if a JSON document is a pair list, whole or with faults."""
    keys = set(_Pair.model_fields)
    return isinstance(document, list) and any(isinstance(one, dict) and keys & one.keys() for one in document)


def read_pair_list(path: Path, followup_points: FollowupPoints) -> list[PatientFiles]:
    """Read the pairs of a list, with the time points ``baseline`` and ``followup``; nothing is decoded.

    Raises:
        InputError: an entry cannot be used, is there twice or has no lesion, or a file is missing.
    """
    exported = _exported_lesions(path.parent / EXPORT_NAME)
    patients: dict[str, PatientFiles] = {}
    for where, entry in _entries(path, _EXPECTED):
        pair = _parsed(_Pair, where, entry)
        name = f"{_stem(pair.baseline_scan)}-to-{_stem(pair.followup_scan)}"
        if name in patients:
            raise InputError(f"{where}: is there twice; expected each pair once")
        lesions = exported.get((_identifier(pair.baseline_scan), _identifier(pair.followup_scan)), {})
        if not (lesions or pair.baseline_mask or pair.baseline_clicks or pair.followup_clicks):
            raise InputError(
                f"{where}: has no lesion; expected its points in {EXPORT_NAME} beside the list, as the "
                "viewer exports them, or baseline_mask, baseline_clicks or followup_clicks"
            )
        patients[name] = _patient(where, path.parent, name, pair, lesions, followup_points)
    return list(patients.values())


def _entries(path: Path, expected: str) -> Iterator[tuple[str, Any]]:
    """Place for messages and content of each entry of a list."""
    document = read_json(path, expected)
    if not isinstance(document, list):
        raise InputError(f"{path}: is not a list; expected {expected}")
    for number, entry in enumerate(document, 1):
        yield f"{path}: entry {number}", entry


def _parsed(kind: type[_Model], where: str, entry: Any) -> _Model:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "it"
        names = ", ".join(kind.model_fields)
        raise InputError(f"{where}: {place} cannot be used ({fault['msg']}); expected {names}") from error


def _exported_lesions(path: Path) -> dict[tuple[str, str], _Lesions]:
    """The lesions of each pair of scans, by the scans' names; {} if there is no export."""
    found: dict[tuple[str, str], _Lesions] = {}
    for where, entry in _entries(path, "the export of LongiTrack's viewer") if path.exists() else ():
        pair = _parsed(_ExportedPair, where, entry)
        for key in pair.lesions:
            if not (key.isascii() and key.isdecimal() and 0 < int(key) <= MAX_LESION_ID):
                raise InputError(f"{where}: lesion id {key!r}; expected 1 to {MAX_LESION_ID}")
        names = (pair.baseline_scan, pair.followup_scan)
        if names in found:
            raise InputError(f"{where}: {' and '.join(names)} are there twice; expected each pair once")
        found[names] = {int(key): lesion for key, lesion in pair.lesions.items()}
    return found


def _patient(
    where: str, folder: Path, name: str, pair: _Pair, lesions: _Lesions, followup_points: FollowupPoints
) -> PatientFiles:
    def file(given: str | None) -> Path | None:
        if given is not None and not is_regular_file(folder / given):
            raise InputError(f"{where}: {given} is missing; expected a file relative to {folder}")
        return None if given is None else folder / given

    before, after = dict[int, Vector](), dict[int, Vector]()
    for lesion_id, one in lesions.items():
        before[lesion_id] = _xyz(one.bl_point)
        later = {"verified": one.fu_point_corrected, "propagated": one.fu_point_propagated, "none": None}
        if (point := later[followup_points]) is not None:
            after[lesion_id] = _xyz(point)
    baseline, followup = file(pair.baseline_scan), file(pair.followup_scan)
    assert baseline is not None and followup is not None
    mask, clicks = file(pair.baseline_mask), file(pair.baseline_clicks)
    scans = (
        ScanFiles(Slot.PRIMARY, baseline, mask, clicks, before),
        ScanFiles(Slot.PRIMARY, followup, None, file(pair.followup_clicks), after),
    )
    time_points = (
        TimePointFiles(point, float(number), f"order {number}", (scan,))
        for number, (point, scan) in enumerate(zip(("baseline", "followup"), scans, strict=True))
    )
    return PatientFiles(name, tuple(time_points))


def _xyz(point: list[float]) -> Vector:
    z, y, x = point
    return (x, y, z)


def _stem(scan: str) -> str:
    """The path of a scan without its suffix."""
    suffix = next((one for one in IMAGE_SUFFIXES if scan.lower().endswith(one)), "")
    return scan[: len(scan) - len(suffix)]


def _identifier(scan: str) -> str:
    """The viewer's name of a scan: that of its file, without suffix and nnU-Net's number of the channel."""
    return _CHANNEL.sub("", Path(_stem(scan)).name)
