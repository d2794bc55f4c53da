"""The files of a follow-up, and the tables of all of them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...case.clicks import write_clicks
from ...case.documents import write_json
from ...case.geometry import Geometry
from ...case.images import TEMPORARY_PREFIX, write_image
from ...errors import OutputError
from ...propagation.register.stored import save_transform
from .compose import Followup
from .settings import SynthesisSettings

CT, LABELS, DISPLACEMENT, RECORD = "ct.mha", "labels.mha", "displacement.mha", "record.json"
POINTS = "propagated-points.json"
MANIFEST, LESIONS = "manifest.csv", "lesions.csv"

_MANIFEST_COLUMNS = (
    "patient", "timepoint", "image", "labels", "order", "baseline", "links", "points",
)  # fmt: skip
_LESION_COLUMNS = (
    "patient", "baseline", "followup", "baseline_id", "followup_ids", "fate", "cog_bl", "cog_fu",
    "cog_propagated", "baseline_ml", "followup_ml", "achieved_ratio", "growth_ratio", "target_ratio",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A scan of the data set; ``labels`` is None where it has no lesions.

    ``links``, ``points`` and ``baseline`` (a time point) are those that its own manifest has; "" or None for
    none.
    """

    patient: str
    timepoint: str
    ct: Path
    labels: Path | None
    highest_id: int = 0
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


def followup_folder(output: Path, source: Source, number: int) -> Path:
    return output / source.folder / f"followup-{number:03d}"


def followup_timepoint(source: Source, number: int) -> str:
    return f"{source.timepoint}-synthetic-{number:03d}"


def write_followup(folder: Path, followup: Followup, geometry: Geometry) -> dict[str, dict[str, int]]:
    """CT, labelmap and displacement; returns their sizes in bytes, which tell later if they are whole.

    Raises:
        OutputError: a file cannot be written.
    """
    write_image(folder / CT, followup.ct, geometry)
    write_image(folder / LABELS, followup.labels, geometry)
    save_transform(folder / DISPLACEMENT, followup.displacement)
    return {name: {"bytes": (folder / name).stat().st_size} for name in (CT, LABELS, DISPLACEMENT)}


def fingerprint(path: Path | None) -> dict[str, Any] | None:
    """Name and checksum of a file's bytes."""
    if path is None:
        return None
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return {"name": path.name, "bytes": path.stat().st_size, "crc32": f"{checksum:08x}"}


def finished_record(
    folder: Path, seed: int, settings: SynthesisSettings, sources: Mapping[str, Any], version: int
) -> dict[str, Any] | None:
    """The record of a follow-up that is whole and was made from the same; None where there is none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in (CT, LABELS, DISPLACEMENT)}
        same = (
            record["version"] == version
            and record["seed"] == seed
            and record["settings"] == json.loads(json.dumps(asdict(settings)))
            and record["source"] == json.loads(json.dumps(sources))
            and all(record["files"][name]["bytes"] == size for name, size in sizes.items())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same else None


def write_record(folder: Path, document: Mapping[str, Any]) -> None:
    """The propagated points, as clicks, and the last file: where it is, the others are whole."""
    points = {
        lesion["lesion_id"]: lesion["propagated_point_xyz"]
        for lesion in document["lesions"]
        if lesion["propagated_point_xyz"] is not None
    }
    write_clicks(folder / POINTS, points)
    write_json(folder / RECORD, document, decimals=None)


def write_tables(output: Path, sources: Sequence[Source], records: Mapping[tuple[str, int], Any]) -> None:
    """manifest.csv and lesions.csv out of the records, by scan name and number.

    In the manifest each synthetic scan is a follow-up of the scan that it was made from, with its links
    against that one. The scans that were there follow the same baselines as before.
    """
    rows: list[dict[str, Any]] = []
    lesions: list[dict[str, Any]] = []
    for source in sources:
        rows.append(_scan_row(output, source))
        for number in sorted(n for name, n in records if name == source.name):
            found = records[source.name, number]["lesions"]
            folder, timepoint = followup_folder(output, source, number), followup_timepoint(source, number)
            made = Source(
                source.patient, timepoint, folder / CT, folder / LABELS,
                links=_links(found), points=folder / POINTS, baseline=source.timepoint,
            )  # fmt: skip
            rows.append(_scan_row(output, made))
            lesions += [_lesion_row(source, timepoint, lesion) for lesion in found]
    orders: dict[str, int] = {}
    for row in rows:
        row["order"] = orders[row["patient"]] = orders.get(row["patient"], -1) + 1
    write_csv(output / MANIFEST, _MANIFEST_COLUMNS, rows)
    write_csv(output / LESIONS, _LESION_COLUMNS, lesions)


def _scan_row(output: Path, scan: Source) -> dict[str, Any]:
    """A row of the manifest without its order; paths are relative to the output folder."""
    files = {"image": scan.ct, "labels": scan.labels, "points": scan.points}
    return {
        "patient": scan.patient,
        "timepoint": scan.timepoint,
        **{name: os.path.relpath(path, output) if path else "" for name, path in files.items()},
        "baseline": scan.baseline,
        "links": scan.links,
    }


def _links(lesions: Iterable[Mapping[str, Any]]) -> str:
    """Lesions that are more than their own id in this scan."""
    return "; ".join(
        f"{lesion['lesion_id']}>{'+'.join(map(str, lesion['followup_ids']))}"
        for lesion in lesions
        if len(lesion["followup_ids"]) > 1
    )


def _lesion_row(source: Source, timepoint: str, lesion: Mapping[str, Any]) -> dict[str, Any]:
    is_new = lesion["fate"] == "new"
    return {
        "patient": source.patient,
        "baseline": source.timepoint,
        "followup": timepoint,
        "baseline_id": "" if is_new else lesion["lesion_id"],
        "followup_ids": " ".join(map(str, lesion["followup_ids"])),
        "fate": lesion["fate"],
        "cog_bl": _point(lesion["baseline_point_xyz"]),
        "cog_fu": _point(lesion["followup_point_xyz"]),
        "cog_propagated": _point(lesion["propagated_point_xyz"]),
        **{
            name: "" if lesion[name] is None else f"{lesion[name]:.4f}"
            for name in _LESION_COLUMNS[9:]
        },
    }  # fmt: skip


def _point(point: Sequence[float] | None) -> str:
    return "" if point is None else " ".join(f"{value:.3f}" for value in point)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table under a temporary name, and only then give it its own.

    Raises:
        OutputError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=".csv", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text.getvalue())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); expected a writable folder"
        ) from error
