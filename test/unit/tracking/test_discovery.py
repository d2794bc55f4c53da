"""Series from folders of scans, and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.case.case import Slot
from model.errors import InputError
from model.tracking.discovery import discover_series
from model.tracking.series_files import PatientFiles


def _names(files: PatientFiles) -> list[str]:
    return [point.name for point in files.time_points]


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folder_of_one_patient(tmp_path: Path) -> None:
    root = _touch(
        tmp_path / "Meyer",
        "2024-03-31/ct.nii.gz",
        "2024-03-31/mask.nii.gz",
        "2024-03-31/clicks.json",
        "2024-03-31/boxes.json",
        "scan_20231224/ct.mha",
        "scan_20231224/secondary-ct.mha",
        "scan_20231224/secondary-mask.mha",
    )
    (files,) = discover_series(root)
    assert files.patient == "Meyer" and _names(files) == ["scan_20231224", "2024-03-31"]
    early, late = files.time_points
    assert [(scan.slot, scan.mask and scan.mask.name) for scan in early.scans] == [
        (Slot.PRIMARY, None),
        (Slot.SECONDARY, "secondary-mask.mha"),
    ]
    assert late.boxes == {Slot.PRIMARY: root / "2024-03-31/boxes.json"}
    assert late.scans[0].clicks == root / "2024-03-31/clicks.json"


def test_folder_numbers_sort_numerically_with_a_folder_per_patient(tmp_path: Path) -> None:
    _touch(tmp_path, "P1/week_12/ct.mha", "P1/week_9/ct.mha", "P2/0/ct.mha", ".git/x")
    first, second = discover_series(tmp_path)
    assert (first.patient, second.patient) == ("P1", "P2")
    assert _names(first) == ["week_9", "week_12"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["baseline/ct.mha"], "the position in time of time point 'baseline' is unknown"),
        (["t1_scan2/ct.mha"], "the position in time of time point 't1_scan2' is unknown"),
        (["2024-01-01_2024-02-01/ct.mha"], "is unknown"),
        (["t1/ct.mha", "x1/ct.mha"], "'t1' and 'x1' have the same position in time"),
        (["t1/ct.mha", "2024-01-01/ct.mha"], "'t1' has no date in its name and others have"),
        (["t1/ct.mha", "t2/mask.mha"], "contains no ct"),
        (["t1/ct.mha", "t1/ct.nii"], "expected one image named ct"),
        (["t1/ct.mha", "t1/secondary-clicks.json"], "belongs to no scan"),
        (["P1/t1/ct.mha", "P2/notes.txt"], "contains no time point"),
        (["notes.txt"], "contains no series"),
        (["t1/ct.mha", "t2.mha"], "t2.mha: belongs to no time point"),
        (["P1/t1/ct.mha", "P1/t2.nii.gz"], "t2.nii.gz: belongs to no time point"),
        (["P1/t1/ct.mha", "late.nrrd"], "late.nrrd: belongs to no time point"),
    ],
)
def test_folder_errors(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        discover_series(_touch(tmp_path, *names))
