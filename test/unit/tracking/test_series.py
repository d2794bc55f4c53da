"""Reading a series: its source, units, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.case.case import Slot
from model.case.geometry import Box
from model.errors import InputError
from model.tracking.discovery import discover_series
from model.tracking.series import Series, read_series

from ...helpers.moving_lesions import NAMES, Patient

BOX = Box((7, 8, 8), (14, 15, 15))


def _read(manifest: Path, source: str | None = None, units: str = "voxel") -> Series:
    (files,) = discover_series(manifest)
    return read_series(files, source, units)  # type: ignore[arg-type]


def _source(patient: Patient, folder: Path, source: str | None = None) -> str:
    series = _read(patient.write(folder), source)
    return series.time_points[series.source].name


def test_scans_and_prompts_are_read(tmp_path: Path) -> None:
    patient = Patient(clicks={"t1": {1: (12.0, 10.0, 14.0)}}, boxes={"t2": {2: BOX}})
    series, expected = _read(patient.write(tmp_path, permuted=["t1", "t2"])), patient.series()
    assert [point.name for point in series.time_points] == list(NAMES)
    for point, truth_point in zip(series.time_points, expected.time_points, strict=True):
        (scan,), (truth,) = point.scans, truth_point.scans
        assert np.array_equal(scan.ct, truth.ct) and scan.geometry.same_grid(truth.geometry)
        assert scan.clicks == truth.clicks and (scan.mask is None) == (truth.mask is None)
        assert point.boxes == truth_point.boxes and point.when == truth_point.when
    assert series.time_points[2].box_of(series.time_points[2].scans[0], 2) == BOX
    assert series.time_points[1].box_of(series.time_points[1].scans[0], 2) is None


def test_source_is_the_earliest_mask(tmp_path: Path) -> None:
    assert _source(Patient(masks=("t2", "t3"), clicks={"t0": {1: (1, 1, 1)}}), tmp_path) == "t2"


def test_source_is_the_earliest_click_or_box_without_masks(tmp_path: Path) -> None:
    assert _source(Patient(masks=(), clicks={"t3": {1: (1, 1, 1)}}, boxes={"t1": {1: BOX}}), tmp_path) == "t1"


def test_source_by_name(tmp_path: Path) -> None:
    assert _source(Patient(masks=("t0",)), tmp_path, "t3") == "t3"
    with pytest.raises(
        InputError, match="patient 'P 1' has no time point 't9'; expected one of t0, t1, t2, t3"
    ):
        _source(Patient(masks=("t0",)), tmp_path, "t9")


def test_a_patient_without_any_prompt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'P 1' has no lesion in any mask, click or box"):
        _read(Patient(masks=()).write(tmp_path))
    with pytest.raises(InputError, match="has no lesion"):  # the mask is empty
        _read(Patient({}, masks=("t0",)).write(tmp_path))


def test_clicks_and_boxes_in_world_coordinates(tmp_path: Path) -> None:
    manifest = Patient(masks=(), clicks={"t0": {1: (10.0, 20.0, 30.0)}}, boxes={"t0": {1: BOX}}).write(
        tmp_path
    )
    point = _read(manifest, units="world").time_points[0]
    assert point.scans[0].clicks[0].point_zyx == (5.0, 10.0, 15.0)  # voxels of 2 mm
    box = point.boxes[Slot.PRIMARY][1]
    assert box.start_zyx == (4, 4, 4) and box.stop_zyx == (8, 8, 8)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    manifest = Patient().write(tmp_path)
    (tmp_path / "t2-primary-ct.mha").write_bytes(b"no image")
    with pytest.raises(InputError, match="t2-primary-ct.mha"):
        _read(manifest)
