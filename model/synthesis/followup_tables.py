"""Tables manifest.csv and lesions.csv of an output folder: follow-ups of this run and of earlier ones."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..case.atomic_files import write_text
from ..case.text_files import read_table
from ..data.formats.manifest import NO_BASELINE, REQUIRED_COLUMNS
from ..errors import InputError
from .followup_files import CT, LABELS, POINTS, complete_record, followup_folder, followup_timepoint
from .source_scans import SourceScan

MANIFEST, LESIONS = "manifest.csv", "lesions.csv"

_MANIFEST_COLUMNS = ("patient", "timepoint", "image", "labels", "order", "baseline", "links", "points")
_LESION_COLUMNS = (
    "patient",
    "baseline",
    "followup",
    "baseline_id",
    "followup_ids",
    "fate",
    "cog_bl",
    "cog_fu",
    "cog_propagated",
    "baseline_ml",
    "followup_ml",
    "achieved_ratio",
    "growth_ratio",
    "target_ratio",
)

Row = dict[str, Any]


def read_earlier_rows(output: Path) -> tuple[list[Row], list[Row]]:
    """Read the rows of both tables of a folder, without follow-ups that are no longer complete.

    Raises:
        InputError: a table that this command did not write.
    """
    manifest: list[Row] = _rows(output / MANIFEST, REQUIRED_COLUMNS, _MANIFEST_COLUMNS)
    lesions = _rows(output / LESIONS, ("patient", "followup"), _LESION_COLUMNS)
    kept = [row for row in manifest if _is_there(output, row)]
    scans = {(row["patient"], row["timepoint"]) for row in kept}
    return kept, [row for row in lesions if (row["patient"], row["followup"]) in scans]


def _rows(path: Path, required: Sequence[str], columns: Sequence[str]) -> list[Row]:
    if not path.exists():
        return []
    columns_found, rows = read_table(path, "a table of train synthesize")
    names = set(columns_found)
    if not set(required) <= names <= set(columns):
        raise InputError(
            f"{path}: is not a table of train synthesize (columns {', '.join(sorted(names)) or 'none'}); "
            "expected another output folder"
        )
    return [{name: row.cells.get(name, "") for name in columns} for row in rows]


def _is_there(output: Path, row: Row) -> bool:
    """Check if a listed scan still exists; a follow-up in the folder must be complete."""
    image = output / row["image"]
    is_made = image.name == CT and image.resolve().is_relative_to(output.resolve())
    return image.is_file() and (not is_made or complete_record(image.parent) is not None)


def write_followup_tables(
    output: Path,
    sources: Sequence[SourceScan],
    records: Mapping[tuple[str, int], Any],
    earlier: tuple[Sequence[Row], Sequence[Row]] = ((), ()),
) -> None:
    """Write manifest.csv and lesions.csv from the records, after the rows of earlier runs.

    In the manifest each synthetic scan is a follow-up of the scan that it was made from, with its links to
    that one. The given scans keep their own baselines.

    Args:
        output: folder of the tables.
        sources: the scans of this run.
        records: contents of record.json by name of the scan and number of the follow-up.
        earlier: rows of both tables from `read_earlier_rows`.

    Raises:
        OutputError: a table cannot be written.
    """
    rows: list[Row] = []
    lesions: list[Row] = []
    for source in sources:
        rows.append(_scan_row(output, source))
        for number in sorted(n for name, n in records if name == source.name):
            of_followup = records[source.name, number]["lesions"]
            folder, timepoint = followup_folder(output, source, number), followup_timepoint(source, number)
            made = SourceScan(
                source.patient,
                timepoint,
                folder / CT,
                folder / LABELS,
                links=_links(of_followup),
                points=folder / POINTS,
                baseline=source.timepoint,
            )
            rows.append(_scan_row(output, made))
            lesions += [_lesion_row(source, timepoint, lesion) for lesion in of_followup]
    scans = {(row["patient"], row["timepoint"]) for row in rows}
    # For the scans of this run the records are complete.
    folders = {(output / source.folder).resolve() for source in sources}
    before = [
        row
        for row in earlier[0]
        if (row["patient"], row["timepoint"]) not in scans
        and (output / row["image"]).resolve().parent.parent not in folders
    ]
    kept = {(row["patient"], row["timepoint"]) for row in before}
    rows = before + rows
    lesions = [row for row in earlier[1] if (row["patient"], row["followup"]) in kept] + lesions
    orders: dict[str, int] = {}
    for row in rows:
        row["order"] = orders[row["patient"]] = orders.get(row["patient"], -1) + 1
    _write_csv(output / MANIFEST, _MANIFEST_COLUMNS, rows)
    _write_csv(output / LESIONS, _LESION_COLUMNS, lesions)


def _scan_row(output: Path, scan: SourceScan) -> dict[str, Any]:
    """A row of the manifest without its order; paths are relative to the output folder."""
    files = {"image": scan.ct, "labels": scan.labels, "points": scan.points}
    return {
        "patient": scan.patient,
        "timepoint": scan.timepoint,
        **{name: os.path.relpath(path, output) if path else "" for name, path in files.items()},
        # Explicit, as the default is the scan of the row before, which may belong to another run.
        "baseline": scan.baseline or NO_BASELINE,
        "links": scan.links,
    }


def _links(lesions: Iterable[Mapping[str, Any]]) -> str:
    """Links of the lesions that have more than their own id in this scan."""
    return "; ".join(
        f"{lesion['lesion_id']}>{'+'.join(map(str, lesion['followup_ids']))}"
        for lesion in lesions
        if len(lesion["followup_ids"]) > 1
    )


def _lesion_row(source: SourceScan, timepoint: str, lesion: Mapping[str, Any]) -> dict[str, Any]:
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
        **{name: "" if lesion[name] is None else f"{lesion[name]:.4f}" for name in _LESION_COLUMNS[9:]},
    }


def _point(point: Sequence[float] | None) -> str:
    return "" if point is None else " ".join(f"{value:.3f}" for value in point)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
