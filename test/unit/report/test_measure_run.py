"""Patients measured from files to files: states of lesions, failures, tables, JSON."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from model.case.geometry import Box
from model.errors import ExitCode, InputError
from model.report.findings import FindingState, MeasuredPatient
from model.report.labelmap_sources import PatientSource, listed_pairs, series_with_masks
from model.report.measure_run import MeasureResult, measure_patients
from model.report.measurement_files import measurements_schema, measurements_table, read_measurements
from test.helpers.labelled_scans import GRID, cube, write_labelled_scan
from test.helpers.paths import CHECKOUT

DATES = ("2024-01-10", "2024-03-10", "2024-05-09")


def _source(folder: Path, dates: tuple[str, ...] = DATES, **changes: Any) -> PatientSource:
    """Lesion 1 grows, 2 vanishes, 3 is new at the last time point."""
    visits = [
        {1: cube((2, 4, 4), 8), 2: cube((2, 18, 18), 4)},
        {1: cube((2, 4, 4), 10), 2: cube((2, 18, 18), 4)},
        {1: cube((2, 4, 4), 12), 3: cube((7, 22, 24), 6)},
    ]
    pairs = [write_labelled_scan(folder, f"t{n}", lesions) for n, lesions in enumerate(visits)]
    scans, labelmaps = (list(paths) for paths in zip(*pairs, strict=True))
    for number, path in changes.get("labelmaps", {}).items():
        labelmaps[number] = path
    return listed_pairs("P1", scans, labelmaps, dates)


def _patient(result: MeasureResult) -> MeasuredPatient:
    (patient,) = result.measurements.patients
    return patient


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_lesions_over_time(tmp_path: Path) -> None:
    result = measure_patients([_source(tmp_path)], tmp_path / "out")
    patient = _patient(result)
    assert (result.exit_code, result.message) == (0, None)
    assert [(point.name, point.date, point.days) for point in patient.time_points] == [
        ("baseline", datetime.date(2024, 1, 10), 0),
        ("followup-1", datetime.date(2024, 3, 10), 60),
        ("followup-2", datetime.date(2024, 5, 9), 120),
    ]
    grown, vanished, new = patient.lesions
    assert [finding.volume_ml for finding in grown.findings] == pytest.approx([0.512, 1.0, 1.728])
    assert [finding.state for finding in vanished.findings] == ["measured", "measured", "absent"]
    assert [finding.volume_ml for finding in vanished.findings] == pytest.approx([0.064, 0.064, 0.0])
    assert [finding.state for finding in new.findings] == ["absent", "absent", "measured"]
    assert new.findings[2].flags == ("check: cut by the field of view",)
    assert [burden.volume_ml for burden in patient.burden] == pytest.approx([0.576, 1.064, 1.944])
    assert [(one.measured, one.absent) for one in patient.burden] == [(2, 1), (2, 1), (2, 1)]
    assert patient.time_points[0].scans[0].slice_mm == 2.0
    assert [lesion.role for lesion in patient.lesions] == ["target", "non-target", "new"]
    change = grown.findings[2].from_baseline
    assert change is not None and (change.since, change.days) == ("baseline", 120)
    assert change.volume_percent == pytest.approx(237.5)
    recist, immune, volumes = patient.courses
    assert (recist.targets, recist.others) == ((1,), (2,))
    assert [one.overall for one in recist.responses] == [None, "SD", "PD"]
    assert [one.overall for one in immune.responses] == [None, "iSD", "iUPD"]
    assert volumes.responses[2].sum == pytest.approx(1.728)


def test_tables_are_views_of_the_document(tmp_path: Path) -> None:
    result = measure_patients([_source(tmp_path)], tmp_path / "out")
    json_path, lesions, patients = result.paths
    read = read_measurements(json_path)
    assert read.patients[0].time_points == result.measurements.patients[0].time_points
    assert read.patients[0].lesions[0].findings[1].volume_ml == pytest.approx(1.0)
    rows = _rows(lesions)
    assert [(row["time_point"], row["lesion"], row["state"]) for row in rows][:3] == [
        ("baseline", "1", "measured"),
        ("followup-1", "1", "measured"),
        ("followup-2", "1", "measured"),
    ]
    assert len(rows) == 9 and float(rows[1]["volume_ml"]) == 1.0 and rows[1]["hu_mean"] == "40"
    gone = next(row for row in rows if (row["lesion"], row["time_point"]) == ("2", "followup-2"))
    assert (gone["volume_ml"], gone["long_mm"], gone["hu_mean"]) == ("0", "0", "")
    assert rows[2]["baseline_volume_percent"] == "237.5" and rows[0]["nadir_days"] == ""
    assert [row["volume_ml"] for row in _rows(patients)] == ["0.576", "1.064", "1.944"]
    assert [row["recist"] for row in _rows(patients)] == ["", "SD", "PD"]
    assert "new lesions 3" in _rows(patients)[2]["irecist_reason"]
    table = measurements_table(_patient(result)).splitlines()
    assert table[2].split("  ")[0] == "1" and "1.00 ml, 13.5 x" in table[2]
    assert table[5].startswith("all") and "cut by the field of view" in table[4]
    assert [line.split(",")[0] for line in table if "target lesions" in line and "sum" not in line] == [
        *("RECIST 1.1", "iRECIST", "volumetric")
    ]


def test_the_published_schema_is_that_of_the_document(tmp_path: Path) -> None:
    published = json.loads((CHECKOUT / "docs" / "measurements.schema.json").read_text())
    assert published == measurements_schema()
    path = measure_patients([_source(tmp_path)], tmp_path / "out").paths[0]
    document = json.loads(path.read_text())
    assert document.keys() == published["properties"].keys()
    finding = document["patients"][0]["lesions"][0]["findings"][0]
    assert finding.keys() == published["$defs"]["Finding"]["properties"].keys()
    assert finding["measures"].keys() == published["$defs"]["LesionMeasures"]["properties"].keys()


def test_a_time_point_that_cannot_be_read_leaves_the_others_whole(tmp_path: Path) -> None:
    other = GRID.cropped(Box((0, 0, 0), (9, 30, 32)))
    _, elsewhere = write_labelled_scan(tmp_path, "elsewhere", {1: cube((2, 4, 4), 8)}, other)
    result = measure_patients([_source(tmp_path, labelmaps={1: elsewhere})], tmp_path / "out")
    patient = _patient(result)
    assert result.exit_code == ExitCode.INPUT
    assert result.message is not None and "P1 at followup-1" in result.message
    assert "lies on another grid" in result.message
    assert [finding.state for finding in patient.lesions[0].findings] == ["measured", "unknown", "measured"]
    assert patient.lesions[0].findings[1].volume_ml is None
    assert patient.burden[1].unknown == (1, 2, 3)
    rows = _rows(result.paths[2])
    assert rows[1]["volume_ml"] == "" and rows[2]["volume_ml"] == "1.944"
    assert "unknown" in measurements_table(patient).splitlines()[5]


def test_no_lesion_at_all(tmp_path: Path) -> None:
    ct, labels = write_labelled_scan(tmp_path, "t", {})
    result = measure_patients([listed_pairs("P1", [ct], [labels], ())], tmp_path / "out")
    assert result.exit_code == 0 and _patient(result).lesions == ()
    assert "no labelmap holds a lesion" in _patient(result).warnings
    assert _rows(result.paths[1]) == []
    assert measurements_table(_patient(result)).splitlines()[-1].startswith("all")


def test_dates(tmp_path: Path) -> None:
    source = _source(tmp_path, dates=("2024-05-09", "20240110", "2024-03-10"))
    assert [str(point.facts.date) for point in source.time_points] == list(DATES)
    assert [point.scans[0].ct.name for point in source.time_points] == [
        *("t1-ct.nii.gz", "t2-ct.nii.gz", "t0-ct.nii.gz")
    ]
    assert "sorted by date" in source.warnings[0]
    equal = measure_patients([_source(tmp_path, dates=(*DATES[:2], DATES[1]))], tmp_path / "equal")
    assert any("has the date of followup-1" in warning for warning in _patient(equal).warnings)
    one_missing = measure_patients([_source(tmp_path, dates=("-", *DATES[1:]))], tmp_path / "missing")
    assert [point.days for point in _patient(one_missing).time_points] == [None, None, None]
    assert any(warning.startswith("baseline: has no date") for warning in _patient(one_missing).warnings)


@pytest.mark.parametrize(
    ("count", "dates", "message"),
    [
        (1, (), "--labelmap: 1 for 2 of --scan"),
        (2, ("2024-01-01",), "--dates: 1 for 2 scans"),
        (2, ("2024-01-01", "March"), "'March' is no date"),
    ],
)
def test_lists_that_do_not_fit(count: int, dates: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        listed_pairs("P1", [Path("a"), Path("b")], [Path("c")] * count, dates)


def test_series_of_masks(tmp_path: Path) -> None:
    for name, side in (("2024-01-10", 8), ("2024-03-10", 10)):
        ct, labels = write_labelled_scan(tmp_path, name, {1: cube((2, 4, 4), side)})
        folder = tmp_path / "P7" / name
        folder.mkdir(parents=True)
        ct.rename(folder / "ct.nii.gz")
        labels.rename(folder / "mask.nii.gz")
    (folder / "mask.nii.gz").unlink()
    result = measure_patients(series_with_masks(tmp_path / "P7"), tmp_path / "out")
    first, second = _patient(result).lesions[0].findings
    assert first.volume_ml == pytest.approx(0.512)
    assert second.state is FindingState.UNKNOWN
    assert result.message is not None and "has no mask" in result.message
