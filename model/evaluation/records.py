"""Measurements of one lesion in one scan at one step: all tables are derived from these records.

A record holds measurements, not scores: `definitions` sets the value of an empty mask, so that the records of
a run can be scored by any definition later on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..case.atomic_files import write_text
from ..case.text_files import read_text
from ..errors import InputError

RECORDS_NAME = "lesions.csv"


class Scope(StrEnum):
    """Subject of a record: one lesion, or all lesions of a scan as one foreground."""

    LESION = "lesion"
    SCAN = "scan"


@dataclass(frozen=True, slots=True)
class LesionRecord:
    """One lesion (or a scan's foreground) in one follow-up scan at one step; the fields are CSV columns.

    Attributes:
        patient: name of the patient.
        scan: name of the follow-up scan.
        step: number of the step, from 1 on.
        scope: a lesion or the foreground of the scan.
        lesion: name of the lesion, unique in the scan.
        baseline_ids: labels of the lesion in the baseline.
        reference_ids: labels of the reference that were joined.
        prediction_ids: labels of the prediction that were joined.
        existed: the baseline has the lesion; None if no baseline was given.
        is_missing: there is no file of the prediction.
        voxel_ml: volume of a voxel of the follow-up.
        diagonal_mm: diagonal of the whole scan.
        baseline_ml: volume in the baseline; None if unknown.
        reference_voxels: size of the reference.
        prediction_voxels: size of the prediction.
        common_voxels: size of their intersection.
        fn_voxels: size of the reference's components (18 neighbours) without any prediction.
        fp_voxels: size of the prediction's components (18 neighbours) without any reference.
        nsd_2mm: normalised surface Dice at 2 mm, 0 to 1. This and the distances are None if a mask is empty.
        hd95_mm: the larger of the two directed 95th percentiles of the surface distance.
        assd_mm: average symmetric surface distance.
        centre_mm: distance of the centres of gravity.
    """

    patient: str
    scan: str
    step: int
    scope: Scope
    lesion: str
    baseline_ids: tuple[int, ...]
    reference_ids: tuple[int, ...]
    prediction_ids: tuple[int, ...]
    existed: bool | None
    is_missing: bool
    voxel_ml: float
    diagonal_mm: float
    baseline_ml: float | None
    reference_voxels: int
    prediction_voxels: int
    common_voxels: int
    fn_voxels: int
    fp_voxels: int
    nsd_2mm: float | None
    hd95_mm: float | None
    assd_mm: float | None
    centre_mm: float | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Key of the same lesion in another step or run."""
        return (self.patient, self.scan, self.scope, self.lesion)

    @property
    def is_real(self) -> bool:
        """True for a lesion, False for a label that only a prediction has."""
        return bool(self.existed) or self.reference_voxels > 0 or self.scope is Scope.SCAN

    @property
    def reference_ml(self) -> float:
        return self.reference_voxels * self.voxel_ml

    @property
    def prediction_ml(self) -> float:
        return self.prediction_voxels * self.voxel_ml


def write_records(path: Path, records: Iterable[LesionRecord]) -> None:
    """Write the records as CSV; floats keep all their digits.

    Raises:
        OutputError: the file cannot be written; an existing one is left unchanged.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(LesionRecord)]
    writer.writerow(names)
    for record in records:
        writer.writerow([_cell(getattr(record, name)) for name in names])
    write_text(path, text.getvalue())


def read_records(path: Path) -> tuple[LesionRecord, ...]:
    """Read the records of an earlier evaluation.

    Raises:
        InputError: not readable, other columns, or a cell of the wrong type.
    """
    expected = "the records of an evaluation"
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, expected)), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: is no table ({error}); expected {expected}") from error
    names = [field.name for field in fields(LesionRecord)]
    if not rows or rows[0] != names:
        raise InputError(
            f"{path}: has other columns; expected the records of an evaluation ({names[0]}, ...)"
        )
    return tuple(_record(path, number, names, row) for number, row in enumerate(rows[1:], start=2))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split())


def _flag(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else None


_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "Scope": Scope,
    "bool": _flag,
    "tuple[int, ...]": _ids,
    "float | None": _or_none(float),
    "bool | None": _or_none(_flag),
}


def _record(path: Path, number: int, names: Sequence[str], row: Sequence[str]) -> LesionRecord:
    kinds = [str(field.type) for field in fields(LesionRecord)]
    if len(row) != len(names):
        raise InputError(f"{path}: line {number} has {len(row)} cells; expected {len(names)}")
    values: dict[str, Any] = {}
    for name, kind, text in zip(names, kinds, row, strict=True):
        try:
            values[name] = _PARSERS[kind](text)
        except (ValueError, KeyError) as error:
            raise InputError(f"{path}: line {number}: {name} is {text!r}; expected {kind}") from error
    return LesionRecord(**values)
