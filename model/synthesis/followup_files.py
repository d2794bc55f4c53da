"""Files of a follow-up: write them, check that they are complete, and match them with their origin."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..case.clicks import write_clicks
from ..case.geometry import Geometry, Vector, flip_order
from ..case.images import write_image
from ..case.lesion_json import write_json
from ..case.text_files import read_json
from ..errors import InputError
from ..propagation.register.stored import save_transform
from .compose_followup import Followup
from .followup_record import SyntheticLesion
from .settings import SynthesisSettings
from .source_scans import SourceScan

CT, LABELS, DISPLACEMENT, RECORD = "ct.mha", "labels.mha", "displacement.mha", "record.json"
POINTS = "propagated-points.json"
_FILES = (CT, LABELS, DISPLACEMENT, POINTS)
# Clicks are written with four decimals of a voxel: a point this far inside is not rounded out of the scan.
_LEAST_DEPTH_MM = 1e-3


def followup_folder(output: Path, source: SourceScan, number: int) -> Path:
    """Return the folder of a scan's follow-up."""
    return output / source.folder / f"followup-{number:03d}"


def followup_timepoint(source: SourceScan, number: int) -> str:
    """Return the time point of a scan's follow-up in the manifest."""
    return f"{source.timepoint}-synthetic-{number:03d}"


def write_followup(
    folder: Path, followup: Followup, lesions: Sequence[SyntheticLesion], geometry: Geometry
) -> dict[str, dict[str, int]]:
    """Write all files but the record; returns their sizes in bytes, which later runs check.

    The propagated points are written as clicks; those outside the scan are left out.

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
    """Return name, size and CRC-32 of a file; None for None."""
    if path is None:
        return None
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return {"name": path.name, "bytes": path.stat().st_size, "crc32": f"{checksum:08x}"}


def complete_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of a follow-up if all its files exist with their recorded sizes; otherwise None.

    Records of earlier versions do not hold the size of every file.
    """
    try:
        record: dict[str, Any] = read_json(folder / RECORD, "the record of a follow-up")
        sizes = {name: (folder / name).stat().st_size for name in _FILES}
        recorded = {name: int(entry["bytes"]) for name, entry in record["files"].items()}
        is_complete = recorded.keys() >= {CT, LABELS, DISPLACEMENT} and isinstance(
            record["source"]["ct"], dict
        )
        is_complete = is_complete and all(sizes[name] == size for name, size in recorded.items())
    except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if is_complete else None


def finished_record(
    folder: Path, seed: int, settings: SynthesisSettings, sources: Mapping[str, Any], version: int
) -> dict[str, Any] | None:
    """Read the record of a complete follow-up of the same version, seed, settings and sources, or None."""
    record = complete_record(folder)
    try:
        matches = (
            record is not None
            and record["version"] == version
            and POINTS in record["files"]
            and record["seed"] == seed
            and _with_defaults(record["settings"]) == json.loads(json.dumps(asdict(settings)))
            and record["source"] == json.loads(json.dumps(sources))
        )
    except KeyError:
        return None
    return record if matches else None


def complete_followups(output: Path, source: SourceScan) -> dict[int, dict[str, Any]]:
    """Read the records of all complete follow-ups of a scan, by number, whichever run made them."""
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
    """Check that existing follow-ups of a scan were made from the same CT with the same seed and settings.

    Later runs may add to the follow-ups of a scan; those of other scans are not checked.

    Raises:
        InputError: they were made from another file, with another seed or with other settings.
    """
    existing = complete_followups(output, source)
    now = file_checksum(source.ct) if existing else None
    for number, record in existing.items():
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
    """Raise InputError for another seed or other settings.

    Records of earlier versions may name their settings differently; only their seed is compared.
    """
    before, now = {"seed": record.get("seed")}, {"seed": seed}
    if record.get("version") == version:
        before |= _flat(_with_defaults(record.get("settings")))
        now |= _flat(json.loads(json.dumps(asdict(settings))))
    odd = [name for name in now if now[name] != before.get(name)]
    if odd:
        has, wants = (", ".join(f"{name}={_shown(of.get(name))}" for name in odd) for of in (before, now))
        raise InputError(
            f"{folder.parent}: holds follow-ups with {has} ({folder.name}), not {wants}; "
            "expected the same seed and settings, or another --output"
        )


def _with_defaults(settings: Any) -> Any:
    """Add the settings that did not exist when a record was written; their defaults change nothing."""
    known: dict[str, Any] = json.loads(json.dumps(asdict(SynthesisSettings())))
    if not isinstance(settings, dict):
        return settings
    for name, value in settings.items():
        merges = isinstance(value, dict) and isinstance(known.get(name), dict)
        known[name] = {**known[name], **value} if merges else value
    return known


def _flat(settings: Any, before: str = "") -> dict[str, Any]:
    """Flatten the settings of a record to the names used by ``--set``."""
    found: dict[str, Any] = {}
    for name, value in (settings if isinstance(settings, dict) else {}).items():
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _shown(value: Any) -> str:
    """Format a value as ``--set`` expects it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def write_record(folder: Path, document: Mapping[str, Any]) -> None:
    """Write record.json, the last file of a follow-up: if it exists, the others are complete."""
    write_json(folder / RECORD, document, decimals=None)
