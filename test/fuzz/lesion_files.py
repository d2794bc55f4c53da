"""Files about lesions and scans: clicks, boxes, sockets, series, cohorts, lesion maps and landmarks."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from model.case.boxes import read_boxes
from model.case.challenge import discover
from model.case.clicks import read_clicks
from model.data.formats.manifest import read_manifest
from model.evaluation.lesion_map_files import read_lesion_map
from model.tracking.series_manifest import read_series_manifest

from .judge import Kind, Mutant, Seed
from .mutations import damaged_bytes, damaged_json, damaged_table

_CLICKS = {
    "name": "Points of interest",
    "type": "Multiple points",
    "version": {"major": 1, "minor": 0},
    "points": [
        {"name": "Lesion 7", "point": [12.5, 20.25, 3.0]},
        {"name": "Lesion 12", "point": [1.0, 2.0, 30.0]},
        {"name": "300", "point": [40, 5, 6]},
    ],
}
_BOXES = {
    "name": "Lesion boxes",
    "boxes": [
        {"name": "7", "start": [1, 2, 3], "stop": [4.5, 5, 6]},
        {"name": "8", "start": [10, 20, 30], "stop": [40, 50, 60]},
    ],
}
_SLUGS = {
    **{f"primary-{time}-ct": f"images/primary-{time}-ct" for time in ("baseline", "followup")},
    "primary-baseline-ct-tumor-lesion-seg": "images/primary-baseline-ct-tumor-lesion-seg",
    "secondary-followup-ct": "images/secondary-followup-ct",
    **{f"primary-{time}-lesion-clicks": f"primary-{time}-lesion-clicks.json" for time in ("baseline",)},
    "primary-followup-lesion-clicks": "primary-followup-lesion-clicks.json",
}
_SERIES = """patient,timepoint,order,scan,mask,clicks,scan_slot
anna,first,1,a1.nii.gz,a1m.nii.gz,,primary
anna,first,1,a1b.nii.gz,,,secondary
anna,second,2.5,a2.nii.gz,,c.json,
ben,2024-01,20240131,b1.nii.gz,b1m.nii.gz,,
"""
_COHORT = """patient,timepoint,image,labels,order,points,links,baseline
anna,bl,a1.nii.gz,a1m.nii.gz,1,,,
anna,fu,a2.nii.gz,a2m.nii.gz,2,,3>5; 4>5; 7>7+8; 9>,
anna,fu2,a2.nii.gz,,3,c.json,,bl
ben,bl,b1.nii.gz,b1m.nii.gz,1,,,
"""
_MAP_COLUMNS = ("baseline_id", "followup_ids")
_PLAIN_MAP = """baseline_id,followup_ids,patient,scan
1,1,anna,2
2,2+3,anna,2
3,,anna,2
7,9,ben,
"""
_SCAN_FILES = {f"{name}.nii.gz": b"" for name in ("a1", "a1m", "a1b", "a2", "a2m", "b1", "b1m")}

TextChange = Callable[[Random, str], tuple[str, str]]
Reading = tuple[Any, tuple[str, ...]]


def text_mutations(change: TextChange) -> Callable[[Random, Seed], Mutant]:
    def mutate(rng: Random, seed: Seed) -> Mutant:
        content = seed.files[seed.main]
        if rng.random() < 0.25:
            damaged, words = damaged_bytes(rng, content)
        else:
            text, words = change(rng, content.decode())
            damaged = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.02:
            depth = rng.choice((100, 10_000))
            damaged, words = b"[" * depth + damaged + b"]" * depth, "nested"
        return Mutant({**seed.files, seed.main: damaged}, words)

    return mutate


def strict_json(path: Path, allow_nan: bool = False) -> Any:
    """Parse JSON that every parser reads in the same way; NaN, which Python writes, becomes None."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key is there twice"
        return dict(pairs)

    def refuse(name: str) -> None:
        if not allow_nan or name != "NaN":
            raise ValueError(name)

    return json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)


def _strict_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV with commas, without those that hold nothing."""
    text = path.read_bytes().decode("utf-8")
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = [name.strip() for name in header]
    assert len(set(names)) == len(names), "a column is there twice"
    filled = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    assert all(len(row) <= len(names) or not any(row[len(names) :]) for row in filled), "a row is too long"
    return [dict(zip(names, row, strict=False)) for row in filled]


def triple(values: Any) -> tuple[float, ...]:
    assert isinstance(values, list) and len(values) == 3
    assert all(type(value) in (int, float) and math.isfinite(value) for value in values)
    return tuple(map(float, values))


def _named_entries(path: Path, entries: str, parse: Callable[[dict[str, Any]], Any]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for entry in strict_json(path)[entries]:
        digits = re.search(r"(\d+)\s*$", entry["name"])
        assert digits is not None
        value = parse(entry)
        assert found.setdefault(int(digits[1]), value) == value
    return found


def _box(entry: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    start, stop = triple(entry["start"]), triple(entry["stop"])
    assert all(a < b for a, b in zip(start, stop, strict=True))
    return start, stop


def json_seed(name: str, document: Any) -> Seed:
    return Seed(name, {name: json.dumps(document, indent=1).encode()}, name)


CLICKS = Kind(
    "clicks",
    lambda: (json_seed("clicks.json", _CLICKS),),
    text_mutations(damaged_json),
    lambda path: (read_clicks(path), ()),
    lambda path: _named_entries(path, "points", lambda entry: triple(entry["point"])),
)
BOXES = Kind(
    "boxes",
    lambda: (json_seed("boxes.json", _BOXES),),
    text_mutations(damaged_json),
    lambda path: (read_boxes(path), ()),
    lambda path: _named_entries(path, "boxes", _box),
)


def _socket_seeds() -> tuple[Seed, ...]:
    files = {
        path + ("" if path.endswith(".json") else "/ct.mha"): b'{"points": []}' for path in _SLUGS.values()
    }
    seeds = []
    for key in ("socket", "interface"):
        listing = [
            {key: {"slug": slug, "relative_path": path, "kind": "Image"}, "value": None}
            for slug, path in _SLUGS.items()
        ]
        files = {**files, "inputs.json": json.dumps(listing).encode()}
        seeds.append(Seed(key, files, "inputs.json"))
    return tuple(seeds)


def _read_sockets(path: Path) -> Reading:
    files = discover(path.parent)
    scans = [(when, scan) for when in ("baseline", "followup") for scan in getattr(files, when)]
    return _flat_sockets(
        path, [(when, s.slot.value, s.ct, s.mask, s.clicks) for when, s in scans]
    ), files.warnings


def _flat_sockets(path: Path, scans: list[Any]) -> Any:
    """Paths of scans relative to the case, by time point and slot."""
    root = path.parent
    return {
        (when, slot): tuple(file and str(file.relative_to(root)) for file in files)
        for when, slot, *files in scans
    }


def _reference_sockets(path: Path) -> Any:
    listed: dict[str, Path] = {}
    for entry in strict_json(path):
        assert not {"socket", "interface"} <= entry.keys()
        socket = entry.get("socket") or entry["interface"]
        file = path.parent / socket["relative_path"]
        assert listed.setdefault(socket["slug"], file) == file, "a socket is there twice"
        assert file.exists(), "a listed file is missing"
    scans = []
    for when in ("baseline", "followup"):
        for slot in ("primary", "secondary"):
            ct, mask = listed.get(f"{slot}-{when}-ct"), listed.get(f"{slot}-{when}-ct-tumor-lesion-seg")
            clicks = listed.get(f"{slot}-{when}-lesion-clicks")
            if ct is not None:
                images = [
                    file if file is None or file.is_file() else next(file.iterdir()) for file in (ct, mask)
                ]
                scans.append((when, slot, *images, clicks))
            else:
                assert mask is None and clicks is None
            missing_mask = when == "baseline" and ct is not None and mask is None
            assert not missing_mask and (clicks is not None or slot == "secondary"), "told by a warning"
    return _flat_sockets(path, scans)


SOCKETS = Kind("inputs.json", _socket_seeds, text_mutations(damaged_json), _read_sockets, _reference_sockets)


def _series_seeds() -> tuple[Seed, ...]:
    files = {**_SCAN_FILES, "c.json": b'{"points": []}'}
    rows: list[dict[str, Any]] = [
        {name: value for name, value in row.items() if value} for row in csv.DictReader(io.StringIO(_SERIES))
    ]
    for row in rows:
        row["order"] = float(row["order"])
    return (
        Seed("series.csv", {**files, "series.csv": _SERIES.encode()}, "series.csv"),
        Seed("series.json", {**files, "series.json": json.dumps(rows).encode()}, "series.json"),
    )


def _read_series(path: Path) -> Reading:
    found = {}
    for patient in read_series_manifest(path):
        for place, point in enumerate(patient.time_points):
            for scan in point.scans:
                files = (scan.ct, scan.mask, scan.clicks, point.boxes.get(scan.slot))
                key = (patient.patient, point.name, scan.slot.value)
                found[key] = (place, *(file and file.name for file in files))
    return found, ()


def _reference_series(path: Path) -> Any:
    rows = strict_json(path) if path.suffix == ".json" else _strict_rows(path)
    entries: dict[Any, Any] = {}
    order: dict[str, dict[str, float]] = {}
    for row in rows:
        cells = {name: value for name, value in row.items() if value is not None and str(value).strip()}
        known = {"patient", "timepoint", "order", "date", "scan", "mask", "clicks", "boxes", "scan_slot"}
        assert cells.keys() <= known
        patient, name = (str(cells[key]).strip() for key in ("patient", "timepoint"))
        assert not isinstance(cells["order"], bool) and math.isfinite(float(cells["order"]))
        when = order.setdefault(patient, {}).setdefault(name, float(cells["order"]))
        assert when == float(cells["order"])
        files = [
            Path(cells[key]).name if key in cells else None for key in ("scan", "mask", "clicks", "boxes")
        ]
        key = (patient, name, cells.get("scan_slot", "primary"))
        assert key not in entries and all(file is None or (path.parent / file).exists() for file in files)
        entries[key] = files
    places: dict[tuple[str, str], int] = {}
    for patient, points in order.items():
        assert len(set(points.values())) == len(points)
        places |= {(patient, name): n for n, name in enumerate(sorted(points, key=points.__getitem__))}
    return {key: (places[key[:2]], *files) for key, files in entries.items()}


SERIES = Kind(
    "series",
    _series_seeds,
    lambda rng, seed: text_mutations(damaged_json if seed.main.endswith("json") else damaged_table)(
        rng, seed
    ),
    _read_series,
    _reference_series,
)


def _read_cohort(path: Path) -> Reading:
    cohort = read_manifest(path)
    scans = {
        scan.scan_id: (scan.order, *(file and file.name for file in (scan.image, scan.labels, scan.points)))
        for scan in cohort.scans
    }
    pairs = [(pair.baseline, pair.followup, pair.renamed) for pair in cohort.pairs]
    return (scans, sorted(pairs)), tuple(problem.text for problem in cohort.problems)


def _reference_cohort(path: Path) -> Any:
    scans: dict[str, Any] = {}
    pairs: list[Any] = []
    patients: dict[str, list[Any]] = {}
    known = {"patient", "timepoint", "image", "labels", "order", "points", "links", "baseline"}
    for index, row in enumerate(_strict_rows(path)):
        assert row.keys() <= known
        key = f"{row['patient']}_{row['timepoint']}"
        assert key not in scans and row["patient"] and row["timepoint"] and row["image"]
        order = int(row.get("order") or index)
        scans[key] = (
            order,
            *((Path(row[name]).name if row.get(name) else None) for name in ("image", "labels", "points")),
        )
        patients.setdefault(row["patient"], []).append((order, key, row))
    for entries in patients.values():
        entries.sort(key=lambda entry: entry[0])
        keys = [key for _, key, _ in entries]
        for (_, before, _), (_, key, row) in zip(entries, entries[1:], strict=False):
            named = row.get("baseline") or ""
            first = f"{row['patient']}_{named}" if named not in ("", "-") else before
            if named == "-":
                continue
            assert first in keys and first != key
            links = tuple(
                (int(left), tuple(sorted({int(n) for n in right.split("+") if n.strip()})))
                for left, right in (
                    part.split(">") for part in row.get("links", "").split(";") if part.strip()
                )
            )
            assert len(dict(links)) == len(links)
            pairs.append((first, key, links))
    return scans, sorted(pairs)


COHORTS = Kind(
    "cohort",
    lambda: (
        Seed(
            "manifest.csv",
            {**_SCAN_FILES, "c.json": b'{"points": []}', "manifest.csv": _COHORT.encode()},
            "manifest.csv",
        ),
    ),
    text_mutations(damaged_table),
    _read_cohort,
    _reference_cohort,
)


def _map_seeds() -> tuple[Seed, ...]:
    lesion = {"bl_point": [1.0, 2.0, 3.0], "fu_point": [4.0, 5.0, 6.0], "img_bl": "0", "img_fu": "1"}
    tracking = {
        "anna": {"1": {**lesion, "merged_lesions": [1]}, "2": {**lesion, "merged_lesions": [1, 3]}},
        "ben": {"5": {**lesion, "merged_lesions": 7}},
    }
    return (
        Seed("map.csv", {"map.csv": _PLAIN_MAP.encode()}, "map.csv"),
        json_seed("tracking.json", tracking),
    )


def _read_map(path: Path) -> Reading:
    return [
        (entry.patient, lesion.baseline_ids, lesion.followup_ids, lesion.followup_scan)
        for entry in read_lesion_map(path).patients
        for lesion in entry.lesions
    ], ()


def _ids(*values: Any) -> tuple[int, ...]:
    """Ids without 0 and without what stands for nothing."""
    given = [value for value in values if not _stands_for_nothing(value)]
    assert not any(isinstance(value, bool) or float(value) % 1 for value in given)
    return tuple(dict.fromkeys(int(float(value)) for value in given if float(value)))


def _stands_for_nothing(value: Any) -> bool:
    nothing = ("", "nan", "none", "null", "na", "n/a", "<na>")
    return value is None or value == [] or (isinstance(value, str) and value.strip().lower() in nothing)


def _reference_map(path: Path) -> Any:
    if path.suffix == ".csv":
        rows = _strict_rows(path)
        pairs = [[re.split(r"[\s;|+,]+", row.get(key, "")) for key in _MAP_COLUMNS] for row in rows]
        patients = [row.get("patient") or None for row in rows]
        entries = [
            (patient, _ids(*before), _ids(*after), row.get("scan") or None)
            for patient, (before, after), row in zip(patients, pairs, rows, strict=True)
        ]
        return sorted(entries, key=lambda entry: patients.index(entry[0]))
    found = []
    for patient, listed in strict_json(path, allow_nan=True).items():
        for pair in listed if isinstance(listed, list) else [listed]:
            for name, lesion in pair.items():
                merged = lesion.get("merged_lesions", [name])
                ids = _ids(*merged) if isinstance(merged, list) else _ids(merged)
                is_new = "bl_point" in lesion and _stands_for_nothing(lesion["bl_point"])
                scan = lesion.get("img_fu")
                assert not isinstance(scan, bool | dict) and (not isinstance(scan, list) or not scan)
                scan = (
                    None
                    if _stands_for_nothing(scan)
                    else f"{scan + 0:g}"
                    if isinstance(scan, float)
                    else str(scan)
                )
                found.append((patient, () if is_new else _ids(name), ids, scan))
    return found


LESION_MAPS = Kind(
    "lesion map",
    _map_seeds,
    lambda rng, seed: text_mutations(damaged_json if seed.main.endswith("json") else damaged_table)(
        rng, seed
    ),
    _read_map,
    _reference_map,
)
