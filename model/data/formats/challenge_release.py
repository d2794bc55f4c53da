"""Reader of the challenge's release (autoPET/CT IV, Task 2).

Each patient has a CSV ``<id>.csv`` (``lesion_id, img_id_bl, img_id_fu, cog_bl, cog_fu, cog_propagated``;
further columns are ignored), images ``<id>_BL_img_BL_img_00``, ``<id>_FU_img_FU_img_00`` and masks
``<id>_BL_mask_BL_img_00``, ``<id>_FU_mask_FU_img_00``, in any sub-folders. Points are voxel indices x, y, z.

As in the challenge's own script, equal points mark merges and splits: lesions with one ``cog_fu`` have
merged, lesions with one ``cog_bl`` have split. The ids that a labelmap holds are only known once it is read:
the links of this cohort are candidates. A lesion with a ``cog_bl`` is in the baseline, one with a ``cog_fu``
in the follow-up; one without ``cog_fu`` has vanished unless the labelmap holds it all the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...case.geometry import Vector
from ...case.raw_lesion import RawLesion
from ...case.stored_image import IMAGE_SUFFIXES
from ...case.text_files import read_table, written_number
from ...case.voxel_checks import MAX_LESION_ID
from ...errors import InputError, one_line
from ..dataset import Cohort, Links, Problem, RawScan

COLUMNS = ("lesion_id", "img_id_bl", "img_id_fu", "cog_bl", "cog_fu", "cog_propagated")
_MISSING = {"", "nan", "none", "null", "na", "n/a", "<na>"}
_BRACKETS = str.maketrans("", "", "()[]")


@dataclass(frozen=True, slots=True)
class _Row:
    lesion_id: int
    baseline: int
    followup: int
    baseline_point: Vector | None
    followup_point: Vector | None
    propagated_point: Vector | None


def is_challenge_table(path: Path) -> bool:
    """True if a CSV has the header of the release."""
    try:
        with path.open("rb") as file:
            header = file.readline()
    except OSError:
        return path.is_file()  # unreadable files are reported later, by the reader
    # Recognise tables in other encodings too, which the reader reports. UTF-16 has a zero in each letter.
    text = header.decode("utf-8-sig", "replace").replace("\0", "")
    return set(COLUMNS) <= {name.strip('\ufffd" \t\r\n') for name in text.split(",")}


def challenge_tables(folder: Path) -> list[Path]:
    """List the patients' CSV files in a folder and its sub-folders."""
    return [path for path in sorted(folder.rglob("*.csv")) if is_challenge_table(path)]


def read_challenge(folder: Path) -> Cohort:
    """Read the scans and lesions of the release; no image is opened.

    Faults of single tables and rows become problems of the cohort.

    Raises:
        InputError: the folder holds none of its tables.
    """
    tables = challenge_tables(folder)
    if not tables:
        raise InputError(
            f"{folder}: holds no table of the release; expected CSV files with {', '.join(COLUMNS)}"
        )
    images = _images(folder)
    scans: dict[str, RawScan] = {}
    lesions: list[RawLesion] = []
    problems: list[Problem] = []
    by_patient: dict[str, Path] = {}
    for table in tables:
        first = by_patient.setdefault(table.stem, table)
        if first != table:  # a copy would count all lesions twice, a different table contradict the first
            text = f"patient {table.stem} is in {first} already; expected one table for each patient"
            problems.append(Problem(table, text, "the table is left out"))
            continue
        rows = list(_rows(table, problems))
        for scan in _scans(table, rows, images):
            scans[scan.scan_id] = scan
        lesions += _lesions(table.stem, rows)
    return Cohort(
        folder.resolve().name,
        tuple(scans.values()),
        tuple(lesions),
        Links.CANDIDATES,
        problems=tuple(problems),
    )


def parse_point(cell: str) -> Vector | None:
    """Parse a cell with a point.

    Args:
        cell: ``x y z``, ``(x, y, z)`` or ``[x, y, z]``.

    Returns:
        Voxel index (x, y, z) of the file; None if the cell is empty or NaN.

    Raises:
        InputError: anything else.
    """
    parts = re.split(r"[\s,;]+", cell.translate(_BRACKETS).strip())
    if all(part.lower() in _MISSING for part in parts):
        return None
    try:
        numbers = [written_number(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{cell!r} is no point; expected 'x y z', '(x, y, z)' or '[x, y, z]'")
    return (numbers[0], numbers[1], numbers[2])


def _rows(table: Path, problems: list[Problem]) -> Iterator[_Row]:
    seen: set[tuple[int, int, int]] = set()
    for number, cells in _entries(table, problems):
        try:
            row = _row(cells)
            if (row.lesion_id, row.baseline, row.followup) in seen:
                raise InputError(f"lesion {row.lesion_id} is listed twice for these scans; expected it once")
        except InputError as error:
            problems.append(Problem(table, f"row {number}: {error}", "the row is left out"))
            continue
        seen.add((row.lesion_id, row.baseline, row.followup))
        yield row


def _entries(table: Path, problems: list[Problem]) -> list[tuple[int, dict[str, str]]]:
    """The line number and cells of each row; () and a problem if the table cannot be read."""
    try:
        columns, rows = read_table(table, "a table (CSV)")
        return [(row.line, dict.fromkeys(columns, "") | row.cells) for row in rows]
    except InputError as error:
        text = one_line(error).removeprefix(f"{table}: ")
        problems.append(Problem(table, text, f"patient {table.stem} is left out"))
        return []


def _row(cells: Mapping[str, str]) -> _Row:
    lesion_id = _number(cells, "lesion_id")
    if not 0 < lesion_id <= MAX_LESION_ID:
        raise InputError(f"lesion_id is {lesion_id}; expected 1 to {MAX_LESION_ID}")
    return _Row(
        lesion_id,
        _number(cells, "img_id_bl"),
        _number(cells, "img_id_fu"),
        *(parse_point(cells.get(column, "")) for column in ("cog_bl", "cog_fu", "cog_propagated")),
    )


def _number(cells: Mapping[str, str], column: str) -> int:
    """A whole number, which tables with gaps store as 3.0; a missing image number is 0, the first image."""
    cell = cells.get(column, "")
    if cell.lower() in _MISSING and column != "lesion_id":
        return 0
    try:
        value = written_number(cell)
    except ValueError:
        value = math.nan
    if not value.is_integer() or value < 0:
        raise InputError(f"{column} is {cell!r}; expected a whole number")
    return int(value)


def _images(folder: Path) -> dict[str, Path]:
    """All images of the release by their name without suffix."""
    images: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        suffix = next((ending for ending in IMAGE_SUFFIXES if path.name.lower().endswith(ending)), None)
        if suffix is not None:
            images.setdefault(path.name[: -len(suffix)], path)
    return images


def _scans(table: Path, rows: Sequence[_Row], images: Mapping[str, Path]) -> Iterator[RawScan]:
    patient = table.stem
    used = [
        ("BL", 0, sorted({row.baseline for row in rows})),
        ("FU", 1000, sorted({row.followup for row in rows})),
    ]
    for which, first, numbers in used:
        for number in numbers:
            names = [f"{patient}_{which}_{kind}_{which}_img_{number:02d}" for kind in ("img", "mask")]
            image, mask = (images.get(name, table.parent / f"{name}.nii.gz") for name in names)
            yield RawScan(_scan_id(patient, which, number), patient, first + number, image, mask)


def _scan_id(patient: str, which: str, number: int) -> str:
    """The scan's name, as in LongiSeg."""
    return f"{patient}_{which}_img_{number:02d}"


def _lesions(patient: str, rows: Sequence[_Row]) -> Iterator[RawLesion]:
    for row in rows:
        yield RawLesion(
            lesion_id=row.lesion_id,
            baseline=_scan_id(patient, "BL", row.baseline),
            followup=_scan_id(patient, "FU", row.followup),
            followup_ids=tuple(sorted({other.lesion_id for other in rows if _may_be_same(row, other)})),
            baseline_point_xyz=row.baseline_point,
            followup_point_xyz=row.followup_point,
            propagated_point_xyz=row.propagated_point,
        )


def _may_be_same(row: _Row, other: _Row) -> bool:
    """True if two rows of a patient are the same lesion, in the baseline or in the follow-up."""
    if row is other:
        return True
    if (row.baseline, row.followup) != (other.baseline, other.followup):
        return False
    has_merged = row.followup_point is not None and row.followup_point == other.followup_point
    has_split = row.baseline_point is not None and row.baseline_point == other.baseline_point
    return has_merged or has_split
