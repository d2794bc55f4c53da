"""Reader of a manifest (CSV) with one row per scan.

========= ==================================================================================
patient   any name
timepoint any name, unique within the patient
image     the CT
labels    instance labelmap on the grid of the CT, value = lesion id; may be empty
order     optional: a whole number that sorts the patient's scans (default: order of the rows)
points    optional: click JSON of lesions, voxel indices of this scan: in a first scan their places, in a
          later one their propagated points. A later scan that is itself a baseline is prompted at the
          centres of its masks instead
links     optional, in a later scan: lesions that have other ids than in the scan before, as in
          ``3>5; 4>5; 7>7+8; 9>`` (3 and 4 merged into 5, 7 split, 9 is absent)
baseline  optional: the time point that this scan is a follow-up of (default: the one before it); ``-``
          if it is no follow-up
========= ==================================================================================

Paths are relative to the manifest. Each scan of a patient but the first makes a pair with its baseline; equal
ids in both scans of a pair are the same lesion, except as given by ``links``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ...case.clicks import read_clicks
from ...case.geometry import Vector
from ...case.text_files import read_table, written_number
from ...case.voxel_checks import MAX_LESION_ID
from ...errors import InputError
from ..dataset import Cohort, Links, Problem, RawPair, RawScan

REQUIRED_COLUMNS = ("patient", "timepoint", "image", "labels")
OPTIONAL_COLUMNS = ("order", "points", "links", "baseline")
NO_BASELINE = "-"
_EXPECTED = f"columns {', '.join(REQUIRED_COLUMNS)}, and optionally {', '.join(OPTIONAL_COLUMNS)}"
_LINK = re.compile(r"([0-9]{1,9})\s*>\s*((?:[0-9]{1,9}(?:\s*\+\s*[0-9]{1,9})*)?)")

Renamed = tuple[tuple[int, tuple[int, ...]], ...]
Points = tuple[tuple[int, Vector], ...]


@dataclass(frozen=True, slots=True)
class _Row:
    scan: RawScan
    points: Points
    renamed: Renamed
    baseline: str | None  # a time point of the patient, or `NO_BASELINE`


def read_manifest(path: Path) -> Cohort:
    """Read the scans of a manifest and their pairs; no image is opened.

    Faults of single rows become problems of the cohort.

    Raises:
        InputError: the file cannot be read, columns are missing or unknown, or no row can be used.
    """
    rows: list[_Row] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, cells in _entries(path):
        try:
            row = _row(path, cells, len(rows))
            if row.scan.scan_id in seen:
                raise InputError(f"{path}: patient and time point {row.scan.scan_id} are listed twice")
        except InputError as error:
            text = str(error).removeprefix(f"{path}: ")
            problems.append(Problem(path, f"row {number}: {text}", "the row is left out"))
            continue
        seen.add(row.scan.scan_id)
        rows.append(row)
    if not rows:
        first = f" ({problems[0].text})" if problems else ""
        raise InputError(f"{path}: lists no scan that can be used{first}; expected {_EXPECTED}")
    pairs = tuple(_pairs(path, rows, problems))
    return Cohort(
        name=path.resolve().parent.name if path.stem == "manifest" else path.stem,
        scans=tuple(row.scan for row in rows),
        lesions=(),
        links=Links.SAME_ID,
        pairs=pairs,
        problems=tuple(problems),
    )


def _entries(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row."""
    columns, rows = read_table(path, f"a manifest with {_EXPECTED}")
    _check_columns(path, columns)
    for row in rows:
        yield row.line, row.cells


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in REQUIRED_COLUMNS + OPTIONAL_COLUMNS]
    for fault, names in (("is missing", missing), ("is unknown", unknown)):
        if names:
            raise InputError(
                f"{path}: the column {', '.join(map(repr, names))} {fault}; expected {_EXPECTED}"
            )


def _row(path: Path, cells: Mapping[str, str], index: int) -> _Row:
    for column in ("patient", "timepoint", "image"):
        if not cells.get(column):
            raise InputError(f"{column} is empty; expected a value")
    order = cells.get("order") or str(index)
    try:
        written_number(order)
        number = int(order)
    except ValueError:
        raise InputError(f"order is {order!r}; expected a whole number") from None
    folder = path.parent
    scan = RawScan(
        scan_id=f"{cells['patient']}_{cells['timepoint']}",
        patient_id=cells["patient"],
        order=number,
        image=folder / cells["image"],
        labels=folder / cells["labels"] if cells.get("labels") else None,
        points=folder / cells["points"] if cells.get("points") else None,
    )
    points = read_clicks(scan.points) if scan.points else {}
    return _Row(
        scan, tuple(points.items()), parse_links(cells.get("links", "")), cells.get("baseline") or None
    )


def parse_links(text: str) -> Renamed:
    """Parse links, e.g. ``3>5; 7>7+8; 9>`` to ((3, (5,)), (7, (7, 8)), (9, ())).

    Raises:
        InputError: invalid syntax, an id out of range, or one id twice on the left.
    """
    links: dict[int, tuple[int, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _LINK.fullmatch(part)
        if match is None:
            raise InputError(f"links holds {part!r}; expected ids as in '3>5; 7>7+8; 9>'")
        source, targets = int(match[1]), tuple(sorted({int(t) for t in re.findall(r"[0-9]+", match[2])}))
        if not all(0 < number <= MAX_LESION_ID for number in (source, *targets)):
            raise InputError(f"links holds {part!r}; expected ids from 1 to {MAX_LESION_ID}")
        if source in links:
            raise InputError(f"links holds lesion {source} twice on the left; expected it once")
        links[source] = targets
    return tuple(links.items())


def _pairs(path: Path, rows: Sequence[_Row], problems: list[Problem]) -> Iterator[RawPair]:
    """Pair each scan of a patient but the first with its baseline, if any."""
    for patient in dict.fromkeys(row.scan.patient_id for row in rows):
        own = sorted((r for r in rows if r.scan.patient_id == patient), key=lambda row: row.scan.order)
        by_id = {row.scan.scan_id: row for row in own}
        for earlier, later in pairwise(own):
            if later.baseline == NO_BASELINE:
                continue
            named = f"{patient}_{later.baseline}"
            first = by_id.get(named, later) if later.baseline else earlier
            if first is later:
                text = f"the baseline {named} of {later.scan.scan_id} is no other scan; expected one"
                problems.append(Problem(path, text, "the pair is left out"))
                continue
            yield RawPair(
                first.scan.scan_id,
                later.scan.scan_id,
                later.renamed,
                first.points,
                later.points,
                baseline_is_first=first is own[0],
            )
