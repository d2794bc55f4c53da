"""Series manifests in CSV and JSON, and their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.case.case import Slot
from model.errors import InputError
from model.tracking.discovery import discover_series
from model.tracking.series_files import PatientFiles

HEADER = "patient,timepoint,order,scan,mask,clicks,boxes,scan_slot"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mha", "b.mha", "c.mha", "mask.mha", "clicks.json", "boxes.json"):
        (tmp_path / name).touch()
    return tmp_path


def _csv(folder: Path, *rows: str, header: str = HEADER, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _json(folder: Path, document: Any) -> Path:
    path = folder / "series.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _names(files: PatientFiles) -> list[str]:
    return [point.name for point in files.time_points]


def test_manifest_rows_become_sorted_time_points(folder: Path) -> None:
    path = _csv(folder, "P1,late,10,b.mha,,,,", "P1,early,-2.5,a.mha,mask.mha,clicks.json,boxes.json,primary")
    (files,) = discover_series(path)
    assert files.patient == "P1" and _names(files) == ["early", "late"]
    (scan,) = files.time_points[0].scans
    assert (scan.slot, scan.ct, scan.mask) == (Slot.PRIMARY, folder / "a.mha", folder / "mask.mha")
    assert scan.clicks == folder / "clicks.json"
    assert files.time_points[0].boxes == {Slot.PRIMARY: folder / "boxes.json"}
    (later,) = files.time_points[1].scans
    assert later.mask is None and later.clicks is None and not files.time_points[1].boxes


def test_dates_with_and_without_dashes(folder: Path) -> None:
    path = _csv(folder, "P,x,20240401,a.mha", "P,y,2024-03-31,b.mha", header="patient,timepoint,date,scan")
    (files,) = discover_series(path)
    assert _names(files) == ["y", "x"] and files.time_points[1].when == "2024-04-01"


def test_json_manifest_has_the_same_keys(folder: Path) -> None:
    path = _json(
        folder,
        [
            {"patient": 7, "timepoint": "b", "date": 20240401, "scan": "b.mha", "mask": None},
            {"patient": 7, "timepoint": "a", "date": "2023-12-24", "scan": "a.mha", "scan_slot": "primary"},
        ],
    )
    (files,) = discover_series(path)
    assert files.patient == "7" and _names(files) == ["a", "b"]


def test_manifest_in_a_folder_is_used(folder: Path) -> None:
    _csv(folder, "P1,early,1,a.mha,,,,")
    assert discover_series(folder) == discover_series(folder / "series.csv")


def test_two_scans_per_time_point_and_several_patients(folder: Path) -> None:
    path = _csv(
        folder,
        "P1,t0,0,a.mha,,,,secondary",
        "P2,t0,5,c.mha,,,,",
        "P1,t0,0,b.mha,,,,",
        "P1,t1,1,c.mha,,,,secondary",
    )
    first, second = discover_series(path)
    assert (first.patient, second.patient) == ("P1", "P2")
    assert [scan.slot for scan in first.time_points[0].scans] == [Slot.PRIMARY, Slot.SECONDARY]
    assert [scan.slot for scan in first.time_points[1].scans] == [Slot.SECONDARY]


def test_order_has_precedence_over_date(folder: Path) -> None:
    path = _csv(
        folder, "P,x,2,2020-01-01,a.mha", "P,y,1,2024-01-01,b.mha", header="patient,timepoint,order,date,scan"
    )
    (files,) = discover_series(path)
    assert _names(files) == ["y", "x"]


def test_byte_order_mark_spaces_and_quotes(folder: Path) -> None:
    (folder / "a, b.mha").touch()
    text = '\ufeffpatient , timepoint, order, scan\nP, t0, 1, "a, b.mha"\n'
    (folder / "series.csv").write_text(text, encoding="utf-8")
    (files,) = discover_series(folder)
    assert files.time_points[0].scans[0].ct == folder / "a, b.mha"


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["P,t,1,a.mha,,,,", "P,u,1,b.mha,,,,"],
            HEADER,
            "'t' and 'u' have the same position in time (order 1)",
        ),
        (["P,t,1,a.mha,,,,", "P,t,1,b.mha,,,,"], HEADER, "row 3: time point 't' already has a primary scan"),
        (["P,t,1,a.mha,,,,", "P,t,2,b.mha,,,,secondary"], HEADER, "row 3: time point 't' has another order"),
        (
            ["P,t,1,a.mha,,,,", "P,u,,b.mha,,,,"],
            HEADER,
            "row 3: time point 'u' has neither an order nor a da",
        ),
        (["P,t,soon,a.mha,,,,"], HEADER, "row 2: order cannot be used"),
        (["P,t,nan,a.mha,,,,"], HEADER, "row 2: order cannot be used"),
        (["P,t,1,a.mha,,,,third"], HEADER, "row 2: scan_slot cannot be used"),
        (["P,t,1,x.mha,,,,"], HEADER, "row 2: the scan x.mha is missing"),
        (["P,t,1,a.mha,no.mha,,,"], HEADER, "row 2: the mask no.mha is missing"),
        (["P,t,1,,,,,"], HEADER, "row 2: scan is empty"),
        ([",t,1,a.mha,,,,"], HEADER, "row 2: patient is empty"),
        (["P,t"], HEADER, "row 2: scan is missing"),
        (["P,t,1,a.mha,,,,,more"], HEADER, "row 2: has more cells than the header"),
        (["P,t,1,a.mha"], "patient,timepoint,week,scan", "the column 'week' is unknown"),
        (["P,t,1,1"], "patient,timepoint,order,order", "the column 'order' appears twice"),
        (["P,t,a.mha"], "patient,timepoint,scan", "the column 'order (or date)' is missing"),
        (["t,1,a.mha"], "timepoint,order,scan", "the column 'patient' is missing"),
        (["P,t,31.3.2024,a.mha"], "patient,timepoint,date,scan", "row 2: date cannot be used"),
        (["P,t,20240231,a.mha"], "patient,timepoint,date,scan", "row 2: date cannot be used"),
        ([], HEADER, "lists no scan"),
        (
            ["P,t,1,,a.mha", "P,u,,2024-01-01,b.mha"],
            "patient,timepoint,order,date,scan",
            "time point 't' has no date and others have no order",
        ),
    ],
)
def test_csv_errors_name_the_row(rows: list[str], header: str, message: str, folder: Path) -> None:
    path = _csv(folder, *rows, header=header)
    with pytest.raises(InputError) as fault:
        discover_series(path)
    assert message in str(fault.value) and str(path) in str(fault.value) and "expected" in str(fault.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not valid JSON"),
        ({"patient": 1}, "patient holds no lesions"),  # as in LongiSeg's tracking files
        ([1], "is not a list of objects"),
        ([], "lists no scan"),
        (
            [{"patient": "P", "timepoint": "t", "order": 1, "scan": "a.mha", "x": 1}],
            "entry 1: 'x' is unknown",
        ),
        ([{"patient": "P", "timepoint": "t", "order": 1}], "entry 1: scan is missing"),
        ([{"patient": "P", "timepoint": "t", "order": True, "scan": "a.mha"}], "order cannot be used"),
        ([{"patient": "P", "timepoint": "t", "order": 1, "scan": 7}], "entry 1: scan cannot be used"),
    ],
)
def test_json_errors_name_the_entry(document: Any, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        discover_series(_json(folder, document))


def test_files_that_are_not_a_manifest(folder: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        discover_series(folder / "none.csv")
    with pytest.raises(InputError, match="is not a manifest"):
        discover_series(folder / "a.mha")
    (folder / "latin.csv").write_bytes(b"patient\xe9")
    with pytest.raises(InputError, match="cannot be read"):
        discover_series(folder / "latin.csv")
