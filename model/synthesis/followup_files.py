"""The files of a follow-up, and whether they are whole."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..case.clicks import write_clicks
from ..case.geometry import Geometry, Vector, flip_order
from ..case.images import write_image
from ..case.lesion_json import write_json
from ..errors import InputError
from ..propagation.register.stored import save_transform
from .compose_followup import Followup
from .followup_record import SyntheticLesion
from .settings import SynthesisSettings

CT, LABELS, DISPLACEMENT, RECORD = "ct.mha", "labels.mha", "displacement.mha", "record.json"
POINTS = "propagated-points.json"
_FILES = (CT, LABELS, DISPLACEMENT, POINTS)
# Clicks keep four decimals of a voxel: a point this far inside is not rounded out of the scan.
_LEAST_DEPTH_MM = 1e-3


@dataclass(frozen=True, slots=True)
class SourceScan:
    """A scan of the data set; ``labels`` is None where it has no lesions.

    ``links``, ``points`` and ``baseline`` (a time point) are those that its own manifest has; "" or None for
    none. ``patient_ids`` are the lesion ids of all scans of the patient, none where this is the only one.
    """

    patient: str
    timepoint: str
    ct: Path
    labels: Path | None
    patient_ids: frozenset[int] = frozenset()
    links: str = ""
    points: Path | None = None
    baseline: str = ""

    @property
    def name(self) -> str:
        """What the scan is known by, also to its random numbers: no path, so that data sets may be moved."""
        return f"{self.patient}_{self.timepoint}"

    @property
    def folder(self) -> str:
        """The name as a folder; a checksum keeps names apart that look alike without odd characters."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip(".-") or "scan"
        return plain if plain == self.name else f"{plain}-{zlib.crc32(self.name.encode()):08x}"


def followup_folder(output: Path, source: SourceScan, number: int) -> Path:
    return output / source.folder / f"followup-{number:03d}"


def followup_timepoint(source: SourceScan, number: int) -> str:
    return f"{source.timepoint}-synthetic-{number:03d}"


def write_followup(
    folder: Path, followup: Followup, lesions: Sequence[SyntheticLesion], geometry: Geometry
) -> dict[str, dict[str, int]]:
    """All files but the record; returns their sizes in bytes, which tell later if they are whole.

    The propagated points are clicks, so that those out of the scan, which nobody could click, are left out.

    Raises:
        OutputError: a file cannot be written.
    """
    points: dict[int, Vector] = {}
    for lesion in lesions:
        point = lesion.propagated_point_xyz
        if point is not None and geometry.depth_mm(flip_order(point)) > _LEAST_DEPTH_MM:
            points[lesion.lesion_id] = point
    write_image(folder / CT, followup.ct, geometry)
    write_image(folder / LABELS, followup.labels, geometry)
    save_transform(folder / DISPLACEMENT, followup.displacement)
    write_clicks(folder / POINTS, points)
    return {name: {"bytes": (folder / name).stat().st_size} for name in _FILES}


def file_checksum(path: Path | None) -> dict[str, Any] | None:
    """Name and checksum of a file's bytes."""
    if path is None:
        return None
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return {"name": path.name, "bytes": path.stat().st_size, "crc32": f"{checksum:08x}"}


def complete_record(folder: Path) -> dict[str, Any] | None:
    """The record of a follow-up whose files are all there, as large as they were; None where there is none.

    Records of earlier versions do not know the size of every file.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in _FILES}
        known = {name: int(entry["bytes"]) for name, entry in record["files"].items()}
        whole = known.keys() >= {CT, LABELS, DISPLACEMENT} and isinstance(record["source"]["ct"], dict)
        whole = whole and all(sizes[name] == size for name, size in known.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None


def finished_record(
    folder: Path, seed: int, settings: SynthesisSettings, sources: Mapping[str, Any], version: int
) -> dict[str, Any] | None:
    """The record of a follow-up that is whole and was made from the same; None where there is none."""
    record = complete_record(folder)
    try:
        same = (
            record is not None
            and record["version"] == version
            and POINTS in record["files"]
            and record["seed"] == seed
            and record["settings"] == json.loads(json.dumps(asdict(settings)))
            and record["source"] == json.loads(json.dumps(sources))
        )
    except KeyError:
        return None
    return record if same else None


def complete_followups(output: Path, source: SourceScan) -> dict[int, dict[str, Any]]:
    """The records of a scan's follow-ups that are whole, by number, whoever made them."""
    found = {}
    for path in sorted((output / source.folder).glob(f"followup-*/{RECORD}")):
        number = path.parent.name.removeprefix("followup-")
        is_number = number.isdecimal() and path.parent == followup_folder(output, source, int(number))
        if is_number and (record := complete_record(path.parent)):
            found[int(number)] = record
    return found


def check_same_origin(
    output: Path, source: SourceScan, seed: int, settings: SynthesisSettings, version: int
) -> None:
    """Look whether what is there of a scan's name was made from the same CT, with the same seed and settings.

    A scan's follow-ups are of one run, which may be gone on with; those of other scans are not looked at.

    Raises:
        InputError: it was made from another file, or by another run.
    """
    there = complete_followups(output, source)
    now = file_checksum(source.ct) if there else None
    for number, record in there.items():
        folder = followup_folder(output, source, number)
        before = record["source"]["ct"]
        if now and any(now[key] != before.get(key) for key in ("bytes", "crc32")):
            raise InputError(
                f"{folder.parent}: holds follow-ups of another CT, {before.get('name')} (checksum "
                f"{before.get('crc32')}), than {source.ct} (checksum {now['crc32']}); expected the same "
                "file, another --patient, or another --output"
            )
        _check_same_run(folder, record, seed, settings, version)


def _check_same_run(
    folder: Path, record: Mapping[str, Any], seed: int, settings: SynthesisSettings, version: int
) -> None:
    """Raises InputError for another seed, or other settings; of records of earlier versions they may be
    called otherwise, so that the seed alone is compared."""
    before, now = {"seed": record.get("seed")}, {"seed": seed}
    if record.get("version") == version:
        before |= _flat(record.get("settings"))
        now |= _flat(json.loads(json.dumps(asdict(settings))))
    odd = [name for name in now if now[name] != before.get(name)]
    if odd:
        has, wants = (", ".join(f"{name}={_shown(of.get(name))}" for name in odd) for of in (before, now))
        raise InputError(
            f"{folder.parent}: holds follow-ups of {has} ({folder.name}), but {wants} was asked for; "
            "expected the same seed and settings, or another --output"
        )


def _flat(settings: Any, before: str = "") -> dict[str, Any]:
    """Settings of a record by the names that ``--set`` has for them."""
    found: dict[str, Any] = {}
    for name, value in (settings if isinstance(settings, dict) else {}).items():
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _shown(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def write_record(folder: Path, document: Mapping[str, Any]) -> None:
    """The last file: where it is, the others are whole."""
    write_json(folder / RECORD, document, decimals=None)
