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

_LESION_COLUMNS = (
    "patient", "baseline", "followup", "baseline_id", "followup_ids", "fate", "cog_bl", "cog_fu",
    "cog_propagated", "baseline_ml", "followup_ml", "achieved_ratio", "growth_ratio", "target_ratio",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A scan of the data set; ``labels`` is None where it has no lesions."""

    patient: str
    timepoint: str
    ct: Path
    labels: Path | None
    highest_id: int = 0
    links: str = ""

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

    In the manifest the scans of a patient are a chain: each is the follow-up of the one before it.
    """
    rows: list[dict[str, Any]] = []
    lesions: list[dict[str, Any]] = []
    orders: dict[str, int] = {}

    def add(source: Source, timepoint: str, image: Path, labels: Path | None, more: tuple[str, str]) -> None:
        order = orders[source.patient] = orders.get(source.patient, -1) + 1
        shown = [os.path.relpath(path, output) if path else "" for path in (image, labels)]
        rows.append(
            {"patient": source.patient, "timepoint": timepoint, "image": shown[0], "labels": shown[1],
             "order": order, "links": more[0], "points": more[1]}
        )  # fmt: skip

    for source in sources:
        add(source, source.timepoint, source.ct, source.labels, (source.links, ""))
        held: set[int] | None = None
        for number in sorted(n for name, n in records if name == source.name):
            record = records[source.name, number]
            folder = followup_folder(output, source, number)
            timepoint = followup_timepoint(source, number)
            add(
                source,
                timepoint,
                folder / CT,
                folder / LABELS,
                (_links(record["lesions"], held), os.path.relpath(folder / POINTS, output)),
            )
            lesions += [_lesion_row(source, timepoint, lesion) for lesion in record["lesions"]]
            held = {entry["lesion_id"] for entry in record["lesions"] if entry["followup_voxels"]}
    write_csv(
        output / MANIFEST, ("patient", "timepoint", "image", "labels", "order", "links", "points"), rows
    )
    write_csv(output / LESIONS, _LESION_COLUMNS, lesions)


def _links(lesions: Iterable[Mapping[str, Any]], held: set[int] | None) -> str:
    """Lesions that are more than their own id in this scan, of those that the scan before holds."""
    return "; ".join(
        f"{lesion['lesion_id']}>{'+'.join(map(str, lesion['followup_ids']))}"
        for lesion in lesions
        if len(lesion["followup_ids"]) > 1 and (held is None or lesion["lesion_id"] in held)
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
