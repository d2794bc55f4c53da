"""Prepared scans equal what inference cuts, and hold voxels to draw points from."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from model.case.geometry import Box, Geometry
from model.data import prepare
from model.data.dataset import RawScan
from model.data.planning.planner import PlanOptions
from model.data.point_tables import MAX_VOXELS, sample_voxels
from model.data.prepared_grid import prepared_grid, prepared_point
from model.data.preprocess import PreparationJob, is_prepared, prepare_scan
from model.data.scan_survey import load_scan
from model.data.store import PreparedScan, read_prepared
from model.errors import InputError
from model.network.patches import extract_ct, extract_mask, network_grid
from model.network.plan import Plan, read_plan
from test.helpers.paths import GOLDEN_MODEL

from ...helpers.data_sets import GRID, manifest_of_pairs, write_scan

PLANS = GOLDEN_MODEL / "plans.json"
LESIONS = {1: ((4, 5, 5), 2), 300: ((9, 15, 18), 3), 65535: ((9, 8, 20), 1), 7: ((1, 19, 2), 1)}
TURNED = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
SAGITTAL = Geometry((14, 22, 26), (2.6, 1.2, 1.1), (0, 0, 0), (0, 0, 1, 1, 0, 0, 0, -1, 0))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return replace(read_plan(PLANS), spacing_zyx=(2.0, 1.0, 0.9))


def _raw(folder: Path, geometry: Geometry = GRID) -> RawScan:
    scan = RawScan("a b/c", "a b", 0, folder / "ct.nii.gz", folder / "labels.nii.gz")
    lesions = LESIONS if geometry.size_xyz == GRID.size_xyz else {3: ((8, 9, 6), 3)}
    write_scan(scan.image, folder / "labels.nii.gz", lesions, geometry)
    return scan


@pytest.mark.parametrize("geometry", [GRID, TURNED, SAGITTAL])
@pytest.mark.parametrize("spacing", [(2.0, 1.0, 0.9), (2.6, 1.2, 1.1), (4.0, 1.7, 1.3)])
def test_patches_of_the_store_are_those_of_inference(tmp_path: Path, plan: Plan, geometry, spacing) -> None:
    plan = replace(plan, spacing_zyx=spacing)
    raw = _raw(tmp_path, geometry)
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


def test_scans_of_many_slabs_are_whole(tmp_path: Path, plan: Plan) -> None:
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


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.floats(0, 25), st.floats(0, 21), st.floats(0, 13)), st.sampled_from([GRID, TURNED]))
def test_points_truncate_to_the_voxel_of_inference(point, geometry: Geometry) -> None:
    plan = replace(read_plan(PLANS), spacing_zyx=(2.0, 1.0, 0.9))
    grid = prepared_grid(geometry, GRID, plan)
    moved = prepared_point(point, geometry, grid)
    assert tuple(int(value) for value in moved) == grid.index((point[2], point[1], point[0]))


def test_a_prepared_scan_is_not_prepared_again_until_something_changes(tmp_path: Path, plan: Plan) -> None:
    raw = _raw(tmp_path)
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


def test_lesions_of_any_size_have_voxels_and_weights(tmp_path: Path, plan: Plan) -> None:
    prepare_scan(PreparationJob(_raw(tmp_path), GRID, plan, tmp_path / "store", 0))
    prepared = PreparedScan(tmp_path / "store")
    labels = prepared.read_labels(Box.of_shape(prepared.shape_zyx))
    for lesion_id in LESIONS:
        table = prepared.voxels(lesion_id)
        assert 0 < len(table.weights) <= MAX_VOXELS
        assert np.all(labels[tuple(table.voxels_zyx.T)] == lesion_id)
        mask = np.pad(labels == lesion_id, 1)
        depth = distance_transform_edt(mask, sampling=plan.spacing_zyx)[1:-1, 1:-1, 1:-1]
        np.testing.assert_allclose(table.weights, depth[tuple(table.voxels_zyx.T)] ** 2, rtol=1e-5)
    assert len(prepared.voxels(12345).weights) == 0


def test_large_lesions_keep_a_thousand_voxels_by_the_seed() -> None:
    mask = np.ones((20, 20, 20), bool)
    tables = [sample_voxels(mask, (1, 2, 3), (1, 1, 1), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert len(tables[0].weights) == MAX_VOXELS
    np.testing.assert_array_equal(tables[0].voxels_zyx, tables[1].voxels_zyx)
    assert not np.array_equal(tables[0].voxels_zyx, tables[2].voxels_zyx)
    assert tables[0].voxels_zyx.min(0).tolist() >= [1, 2, 3]
    single = sample_voxels(np.ones((1, 1, 1), bool), (0, 0, 0), (3.0, 1.0, 1.0), np.random.default_rng(0))
    assert single.weights.tolist() == [1.0]


def test_a_prepared_scan_goes_to_other_processes(tmp_path: Path, plan: Plan) -> None:
    prepare_scan(PreparationJob(_raw(tmp_path), GRID, plan, tmp_path / "store", 0))
    prepared = PreparedScan(tmp_path / "store")
    box = Box.of_shape((4, 4, 4), (3, 3, 3))
    before = prepared.read_ct(box)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(prepared)).read_ct(box), before)


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="index.json"):
        read_prepared(tmp_path)
    with pytest.raises(InputError, match="holds no prepared scan"):
        PreparedScan(tmp_path)


def test_a_preparation_that_was_stopped_leaves_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = manifest_of_pairs(tmp_path / "raw", {"anna": [{1: ((5, 8, 9), 2)}, {1: ((6, 9, 10), 2)}]})
    options = prepare.PrepareOptions(data, tmp_path / "out", plan_options=PlanOptions("tiny"), folds=0)
    prepare.prepare(options)
    assert len(read_prepared(options.output).pairs) == 1

    def stop(job: PreparationJob) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare_scan", stop)
    wider = PlanOptions("tiny", spacing_zyx=(3.0, 1.5, 1.5))
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(replace(options, plan_options=wider))
    with pytest.raises(InputError, match="index.json"):
        read_prepared(options.output)
