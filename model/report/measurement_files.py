"""Measurements as files: `measurements.json`, and tables of lesions and of time points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..case.atomic_files import write_text
from ..case.lesion_json import write_json
from ..case.text_files import aligned_text, csv_text, read_json
from ..errors import InputError
from ..measure.lesion_measures import HU_PERCENTILES, LesionMeasures
from ..measure.measurement_names import MEASUREMENT_NAMES
from .findings import (
    FORMAT,
    Burden,
    Finding,
    FindingState,
    MeasuredPatient,
    MeasuredTimePoint,
    Measurements,
    Response,
)

_DOCUMENT: TypeAdapter[Measurements] = TypeAdapter(Measurements)

_KEYS = ("patient", "time_point", "date", "days")
_CHANGE = (
    *("since", "days", "volume_ml", "volume_percent", "long_mm", "long_percent", "ml_per_day"),
    *("doubling_days", "repeatability_percent", "is_within_repeatability"),
)
_CHANGES = [f"{reference}_{name}" for reference in ("baseline", "nadir") for name in _CHANGE]
_MEASURES = (
    *("volume_ml", "long_mm", "short_mm", "slice", "longest_3d_mm"),
    *("hu_mean", "hu_std", "hu_min", "hu_max", *(f"hu_p{name}" for name in HU_PERCENTILES)),
    *("centroid_x", "centroid_y", "centroid_z", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
    *("sphericity", "pieces", "touches_border"),
)


def measurements_schema() -> dict[str, Any]:
    """The JSON schema of `measurements.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_DOCUMENT.json_schema()}


def write_measurements(folder: Path, measurements: Measurements) -> list[Path]:
    """Write `measurements.json`, `lesions.csv` and `patient.csv`; returns their paths.

    Raises:
        OutputError: they cannot be written.
    """
    paths = [folder / name for name in MEASUREMENT_NAMES]
    write_json(paths[0], _DOCUMENT.dump_python(measurements, mode="json"))
    write_text(paths[1], csv_text(_lesion_rows(measurements.patients)))
    write_text(paths[2], csv_text(_burden_rows(measurements.patients)))
    return paths


def read_measurements(path: Path) -> Measurements:
    """Read `measurements.json`.

    Raises:
        InputError: it cannot be read, or is of another format.
    """
    expected = f"measurements of the format {FORMAT}"
    document = read_json(path, expected)
    try:
        measurements = _DOCUMENT.validate_python(document)
    except ValidationError as error:
        fault: Any = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{path}: {where or 'the document'}: {fault['msg']}; expected {expected}") from error
    if measurements.format != FORMAT:
        raise InputError(f"{path}: has the format {measurements.format[:80]!r}; expected {expected}")
    return measurements


def _lesion_rows(patients: Sequence[MeasuredPatient]) -> Iterator[Sequence[Any]]:
    yield (*_KEYS, "lesion", "role", "organ", "scan", "state", "reason", *_MEASURES, *_CHANGES, "flags")
    for patient in patients:
        for lesion in patient.lesions:
            for point, finding in zip(patient.time_points, lesion.findings, strict=True):
                yield (
                    *(patient.patient, point.name, point.date, point.days),
                    *(
                        lesion.lesion_id,
                        lesion.role,
                        lesion.organ,
                        finding.scan,
                        finding.state,
                        finding.reason,
                    ),
                    *(*_measure_cells(finding), *_change_cells(finding)),
                    "; ".join(finding.flags),
                )


def _measure_cells(finding: Finding) -> list[Any]:
    measures = finding.measures
    if measures is None:
        known = finding.state is FindingState.ABSENT
        return [0.0 if known else None] * 3 + [None] * (len(_MEASURES) - 3)
    axial = measures.axial
    return [
        *(measures.volume_ml, axial.long.length_mm, axial.short.length_mm, axial.slice_index),
        *(measures.longest.length_mm, *_density_cells(measures)),
        *(*measures.centroid.voxel_xyz, *measures.centroid.world_mm),
        *(measures.sphericity, measures.pieces, measures.touches_border),
    ]


def _change_cells(finding: Finding) -> list[Any]:
    cells: list[Any] = []
    for change in (finding.from_baseline, finding.from_nadir):
        values = [getattr(change, name) for name in _CHANGE] if change is not None else [None] * len(_CHANGE)
        cells += values
    return cells


def _density_cells(measures: LesionMeasures) -> list[float | None]:
    hu = measures.density
    if hu is None:
        return [None] * (4 + len(HU_PERCENTILES))
    return [hu.mean, hu.std, hu.min, hu.max, *(hu.percentiles[str(name)] for name in HU_PERCENTILES)]


def _burden_rows(patients: Sequence[MeasuredPatient]) -> Iterator[Sequence[Any]]:
    names = [name for criteria in ("recist", "irecist", "volumetric") for name in _response_names(criteria)]
    yield (*_KEYS, "measured", "absent", "unknown", "volume_ml", "long_mm", "failure", *names)
    for patient in patients:
        for number, (point, burden) in enumerate(zip(patient.time_points, patient.burden, strict=True)):
            known = point.failure is None
            responses = [course.responses[number] for course in patient.courses]
            yield (
                *(patient.patient, point.name, point.date, point.days),
                *(burden.measured, burden.absent, len(burden.unknown)),
                *(burden.volume_ml if known else None, burden.long_mm if known else None, point.failure),
                *(cell for response in responses for cell in _response_cells(response)),
                *([None] * len(names) if not responses else []),
            )


def _response_names(criteria: str) -> list[str]:
    return [f"{criteria}{part}" for part in ("", "_sum", "_baseline_percent", "_nadir_percent", "_reason")]


def _response_cells(response: Response) -> list[Any]:
    return [
        *(response.overall, response.sum, response.baseline_percent, response.nadir_percent),
        response.reason,
    ]


def measurements_table(patient: MeasuredPatient) -> str:
    """Format a patient's lesions for a terminal: volume and both diameters at each time point."""
    header = ["lesion", *(f"{point.name}{_day(point.days)}" for point in patient.time_points), "check"]
    rows = [header]
    for lesion in patient.lesions:
        flags = {
            f"{finding.time_point}: {flag.removeprefix('check: ')}"
            for finding in lesion.findings
            for flag in finding.flags
        }
        rows.append([str(lesion.lesion_id), *map(_cell, lesion.findings), "; ".join(sorted(flags))])
    total = [_total(one, point) for one, point in zip(patient.burden, patient.time_points, strict=True)]
    rows.append(["all", *total, "* without the lesions that are unknown" if "*" in "".join(total) else ""])
    title = f"{patient.patient}: volume, longest axial diameter x perpendicular"
    return "\n".join([title, aligned_text(rows), *_response_lines(patient)])


def _response_lines(patient: MeasuredPatient) -> Iterator[str]:
    for course in patient.courses:
        yield ""
        targets = ", ".join(map(str, course.targets)) or "none"
        yield f"{course.criteria}, target lesions {targets} ({'; '.join(course.notes)})"
        rows = [
            [f"  {one.time_point}", str(one.overall or "-"), _sum(one.sum, course.unit), one.reason]
            for one in course.responses
        ]
        yield aligned_text(rows)


def _sum(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def _total(burden: Burden, point: MeasuredTimePoint) -> str:
    if point.failure is not None:
        return str(FindingState.UNKNOWN)
    return f"{burden.volume_ml:.2f} ml" + (" *" if burden.unknown else "")


def _day(days: int | None) -> str:
    return f" (day {days})" if days is not None else ""


def _cell(finding: Finding) -> str:
    if finding.measures is None:
        return str(finding.state)
    axial = finding.measures.axial
    return f"{finding.measures.volume_ml:.2f} ml, {axial.long.length_mm:.1f} x {axial.short.length_mm:.1f} mm"
