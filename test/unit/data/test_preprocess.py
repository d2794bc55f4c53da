"""Prepared scans against what inference extracts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Box, Geometry, Vector
from model.data.dataset import RawScan
from model.data.preprocess import PreparationJob, is_prepared, prepare_scan
from model.data.scan_survey import load_scan
from model.data.store import PreparedScan
from model.network.patches import extract_ct, extract_mask, network_grid
from model.network.plan import Plan
from test.helpers.data_sets import GRID, SAGITTAL, TURNED, write_raw_scan, write_scan


@pytest.mark.parametrize("geometry", [GRID, TURNED, SAGITTAL])
@pytest.mark.parametrize("spacing", [(2.0, 1.0, 0.9), (2.6, 1.2, 1.1), (4.0, 1.7, 1.3)])
def test_prepared_patches_equal_those_of_inference(
    tmp_path: Path, plan: Plan, geometry: Geometry, spacing: Vector
) -> None:
    plan = replace(plan, spacing_zyx=spacing)
    raw = write_raw_scan(tmp_path, geometry)
    prepare_scan(PreparationJob(raw, GRID, plan, tmp_path / "store", 0))
    prepared, scan = PreparedScan(tmp_path / "store"), load_scan(raw)
    grid = network_grid(scan.geometry, plan, GRID.in_axial_order())
    assert prepared.shape_zyx == grid.shape
    whole = Box.of_shape(grid.shape)
    for box in (whole, Box((-3, 2, 4), (9, 18, 40)), Box((3, 5, 7), (4, 6, 8)), Box((90, 0, 0), (95, 4, 4))):
        np.testing.assert_array_equal(prepared.read_ct(box), extract_ct(scan, grid, box, plan.normalization))
        labels = prepared.read_labels(box)
        for lesion in prepared.document.lesions:
            wanted = extract_mask(scan, lesion.lesion_id, grid, box)
            np.testing.assert_array_equal(labels == lesion.lesion_id, wanted > 0)
    assert prepared.read_ct(whole).dtype == np.float32 and prepared.read_labels(whole).dtype == np.uint16


def test_scans_of_many_slabs_are_complete(tmp_path: Path, plan: Plan) -> None:
    long = Geometry((12, 11, 90), (1.0, 1.0, 2.0), (0, 0, 0))
    raw = RawScan("a", "a", 0, tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz")
    write_scan(raw.image, tmp_path / "labels.nii.gz", {1: ((58, 5, 5), 4)}, long)
    plan = replace(plan, spacing_zyx=(1.4, 1.0, 1.0))
    prepare_scan(PreparationJob(raw, long, plan, tmp_path / "store", 0))
    prepared, scan = PreparedScan(tmp_path / "store"), load_scan(raw)
    grid = network_grid(scan.geometry, plan)
    assert grid.shape[0] > 128
    expected = extract_ct(scan, grid, grid.whole, plan.normalization)
    np.testing.assert_array_equal(prepared.read_ct(grid.whole), expected)
    expected = extract_mask(scan, 1, grid, grid.whole)
    np.testing.assert_array_equal(prepared.read_labels(grid.whole), expected)
    (lesion,) = prepared.document.lesions
    assert lesion.voxels == int(expected.sum())


def test_a_prepared_scan_is_not_prepared_again_until_something_changes(tmp_path: Path, plan: Plan) -> None:
    raw = write_raw_scan(tmp_path)
    job = PreparationJob(raw, GRID, plan, tmp_path / "store", 0)
    assert not is_prepared(job)
    prepare_scan(job)
    assert is_prepared(job)
    assert is_prepared(replace(job, plan=replace(plan, patch_size_zyx=(32, 32, 32))))
    assert not is_prepared(replace(job, plan=replace(plan, spacing_zyx=(2.0, 1.0, 1.0))))
    assert not is_prepared(replace(job, like=TURNED))
    (tmp_path / "store" / "scan.json").unlink()  # as an interrupted run leaves it
    assert not is_prepared(job)
    prepare_scan(job)
    write_scan(raw.image, tmp_path / "labels.nii.gz", {1: ((4, 5, 5), 1)})
    assert not is_prepared(job)
    prepare_scan(job)
    assert [lesion.lesion_id for lesion in PreparedScan(tmp_path / "store").document.lesions] == [1]
